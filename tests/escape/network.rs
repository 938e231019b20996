//! The addresses that a policy names are reached through the proxy, each connection on the log, and nothing else is.
//!
//! Everything happens in a network of the test's own, with servers at addresses that no host has (RFC 5737).

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    ground::{NEEDS, PYTHON},
    harness::{Ended, Host, Running, end, requires, word},
};

/// Where the licences are.
const LICENCES: &str = "198.51.100.7:27000";
/// Another host on the same port, the same host on another port, this host itself.
const OTHERS: [&str; 3] = ["203.0.113.9:27000", "198.51.100.7:27001", "127.0.0.1:27000"];

/// Tries to connect to each address of its arguments, and says what came of it.
const TRIES: &str = r#"
import socket, sys, errno
for to in sys.argv[1:]:
    host, port = to.rsplit(":", 1)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), 10) as s:
            s.sendall(b"ask"); s.shutdown(socket.SHUT_WR)
            print(to, s.makefile().read() or "nothing", flush=True)
    except OSError as error: print(to, errno.errorcode.get(error.errno, "none"), flush=True)
"#;

/// Opens so many connections and holds them: says how many answered at once, then lets go of them and says how many answered in all.
const FLOOD: &str = r#"
import socket, select, sys
many = []
for _ in range(100):
    s = socket.socket(); s.setblocking(False); s.connect_ex(("198.51.100.7", 27000)); many.append(s)
answered, refused = set(), 0
def look(wait):
    for s in select.select([s for s in many if s not in answered], [], [], wait)[0]:
        answered.add(s)
while len(answered) < 64: look(60)
look(2)
print("held", len(answered), flush=True)
for s in list(answered): s.close()
many = [s for s in many if s not in answered]
before = len(answered)
answered.clear()
while len(answered) < len(many): look(60)
print("all", before + len(answered), flush=True)
"#;

/// Runs a test in a network of its own: what it starts is in there too.
fn in_a_network(test: impl FnOnce() + Send) {
    let inside = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network");
        for words in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", "198.51.100.7/32", "dev", "lo"],
            &["addr", "add", "203.0.113.9/32", "dev", "lo"],
            &["addr", "add", "2001:db8::7/128", "dev", "lo", "nodad"],
        ] {
            let done = Command::new("ip").args(words).status().expect("ip");
            assert!(done.success(), "ip {words:?}");
        }
        test();
    };
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(inside).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A server that says its name, then repeats what it is sent, and counts who is with it.
struct Server {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Server {
    fn at(address: &'static str) -> Self {
        let listener = TcpListener::bind(address).expect("an address");
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = Self {
            now: Arc::clone(&now),
            most: Arc::clone(&most),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                thread::spawn(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    serve(stream, address);
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    /// Waits until nobody is with it any more.
    fn is_left_alone(&self) -> bool {
        let until = Instant::now() + Duration::from_secs(30);
        while self.now.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        self.now.load(Ordering::SeqCst) == 0
    }
}

fn serve(mut stream: TcpStream, name: &str) {
    let _ = stream.write_all(name.as_bytes());
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    // After the other side has finished: a connection has two halves.
    let _ = stream.write_all(&heard);
    let _ = stream.shutdown(Shutdown::Write);
}

fn policy(host: &Host, reach: &str) -> String {
    let text = format!(
        "schema = 1\nname = \"trial\"\nsummary = \"for a test\"\nextends = [\"generic\"]\n{reach}\n"
    );
    host.write(format!("{}.toml", word(8)), text)
        .display()
        .to_string()
}

fn licences(host: &Host) -> String {
    policy(
        host,
        &format!("[[reach]]\ntcp = \"{LICENCES}\"\nreason = \"licences\""),
    )
}

fn session(host: &Host, policy: &str, words: &[&str]) -> Command {
    let (show, log) = (host.dir("show"), host.path("records").display().to_string());
    let _ = std::fs::remove_file(&log);
    let options = ["--json", "--policy", policy, "--audit", &log];
    host.run(&[(&show, "/mnt/central")], &options, words)
}

fn tried(ended: &Ended, address: &str) -> String {
    let line = ended
        .out
        .lines()
        .find_map(|line| line.strip_prefix(address));
    line.unwrap_or_else(|| panic!("{ended:?}"))
        .trim()
        .to_owned()
}

fn records(host: &Host, action: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(host.path("records")).expect("records");
    let all = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|record| record["event"] == action).collect()
}

fn verdict(host: &Host, policy: &str, address: &str) -> Value {
    let address = format!("tcp:{address}");
    let mut explain = host.safelight();
    explain.args(["policy", "explain", policy, "address", &address, "--json"]);
    serde_json::from_str(&end(&mut explain).ok().out).expect("JSON")
}

#[test]
fn what_a_policy_names_is_reached_and_is_on_the_log() {
    if !requires(NEEDS) {
        return;
    }
    in_a_network(|| {
        let (host, server) = (Host::new(), Server::at(LICENCES));
        let policy = licences(&host);
        let ended = end(&mut session(
            &host,
            &policy,
            &[PYTHON, "-c", TRIES, LICENCES],
        ))
        .ok();
        assert_eq!(tried(&ended, LICENCES), format!("{LICENCES}ask"));
        let begun = records(&host, "connecting");
        assert_eq!(begun.len(), 1, "{begun:#?}");
        assert_eq!(begun[0]["to"], LICENCES);
        assert_eq!(begun[0]["source"], "proxy");
        let over = records(&host, "disconnected");
        assert_eq!(over.len(), 1, "{over:#?}");
        let amounts = ["sent", "received", "errno"].map(|name| over[0][name].as_u64());
        assert_eq!(amounts, [Some(3), Some(LICENCES.len() as u64 + 3), Some(0)]);
        assert_eq!(over[0]["connection"], begun[0]["connection"]);
        let said = verdict(&host, &policy, LICENCES);
        assert_eq!(said["verdict"], "allowed", "{said}");
        assert!(server.is_left_alone());
    });
}

#[test]
fn each_of_several_addresses_has_a_door() {
    if !requires(NEEDS) {
        return;
    }
    in_a_network(|| {
        let host = Host::new();
        let all = [
            LICENCES,
            OTHERS[0],
            OTHERS[1],
            OTHERS[2],
            "[2001:db8::7]:27000",
        ];
        let servers = all.map(Server::at);
        let reach = all.map(|to| format!("[[reach]]\ntcp = \"{to}\"\nreason = \"x\"\n"));
        let policy = policy(&host, &reach.concat());
        let words = [&[PYTHON, "-c", TRIES][..], &all].concat();
        let ended = end(&mut session(&host, &policy, &words)).ok();
        for to in all {
            assert_eq!(tried(&ended, to), format!("{to}ask"));
        }
        let went: Vec<_> = records(&host, "connecting")
            .into_iter()
            .map(|it| it["to"].clone())
            .collect();
        assert_eq!(went, all);
        assert!(servers.iter().all(Server::is_left_alone));
    });
}

#[test]
fn nothing_but_what_is_named_is_reached() {
    if !requires(NEEDS) {
        return;
    }
    in_a_network(|| {
        let host = Host::new();
        let servers = [LICENCES, OTHERS[0], OTHERS[1], OTHERS[2]].map(Server::at);
        let addresses = [&[PYTHON, "-c", TRIES, LICENCES][..], &OTHERS].concat();
        // The control: without walls each of them answers.
        let open = end(Command::new(addresses[0]).args(&addresses[1..])).ok();
        for address in [&[LICENCES][..], &OTHERS].concat() {
            assert_eq!(tried(&open, address), format!("{address}ask"));
        }
        let policy = licences(&host);
        let ended = end(&mut session(&host, &policy, &addresses)).ok();
        assert_eq!(tried(&ended, LICENCES), format!("{LICENCES}ask"));
        for address in OTHERS {
            let came = tried(&ended, address);
            let refusals = ["ECONNREFUSED", "EACCES", "ENETUNREACH"];
            assert!(refusals.contains(&came.as_str()), "{address}: {came}");
            assert_eq!(verdict(&host, &policy, address)["verdict"], "denied");
        }
        assert_eq!(records(&host, "connecting").len(), 1);
        // Nor does another session reach anything, whose policy names nothing.
        let ended = end(&mut session(&host, "generic", &addresses)).ok();
        for address in [&[LICENCES][..], &OTHERS].concat() {
            assert!(!tried(&ended, address).contains("ask"), "{ended:?}");
        }
        assert_eq!(records(&host, "connecting").len(), 0);
        assert!(servers.iter().all(Server::is_left_alone));
    });
}

#[test]
fn a_flood_of_connections_is_bounded_and_ends_with_the_session() {
    if !requires(NEEDS) {
        return;
    }
    in_a_network(|| {
        let (host, server) = (Host::new(), Server::at(LICENCES));
        let policy = licences(&host);
        let ended = end(&mut session(&host, &policy, &[PYTHON, "-c", FLOOD])).ok();
        assert_eq!(ended.out, "held 64\nall 100\n");
        assert_eq!(server.most.load(Ordering::SeqCst), 64);
        assert_eq!(records(&host, "connecting").len(), 100);
        assert_eq!(records(&host, "disconnected").len(), 100);
        assert!(server.is_left_alone());
        // One that holds a connection for ever: it ends with the session, whatever the server thinks.
        let holds = "import socket, time\ns = socket.create_connection((\"198.51.100.7\", 27000)); s.recv(1); print('held', flush=True); time.sleep(600)";
        let mut run = session(&host, &policy, &[PYTHON, "-c", holds]);
        let mut run = Running::start(&mut run);
        run.line("held");
        assert_eq!(server.now.load(Ordering::SeqCst), 1);
        run.signal(nix::sys::signal::Signal::SIGTERM);
        run.end();
        assert!(
            server.is_left_alone(),
            "the connection ended with the session"
        );
        assert_eq!(records(&host, "disconnected").len(), 1);
    });
}

#[test]
fn a_server_that_is_not_there_is_on_the_log_as_that() {
    if !requires(NEEDS) {
        return;
    }
    in_a_network(|| {
        let host = Host::new();
        let policy = licences(&host);
        let ended = end(&mut session(
            &host,
            &policy,
            &[PYTHON, "-c", TRIES, LICENCES],
        ))
        .ok();
        let came = tried(&ended, LICENCES);
        assert!(
            ["nothing", "ECONNRESET", "ENOTCONN"].contains(&came.as_str()),
            "{came}"
        );
        let over = records(&host, "disconnected");
        let refused = nix::errno::Errno::ECONNREFUSED as i32;
        assert_eq!(over[0]["errno"], refused, "{over:#?}");
    });
}

#[test]
fn a_name_or_an_address_of_many_is_no_address() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    for bad in ["licences:27000", "0.0.0.0:27000", "169.254.169.254:80"] {
        assert!(bad.parse::<SocketAddr>().is_ok() || bad.starts_with("licences"));
        let policy = policy(
            &host,
            &format!("[[reach]]\ntcp = \"{bad}\"\nreason = \"no\""),
        );
        let ended = end(&mut session(&host, &policy, &["true"])).failed(3);
        assert!(ended.err.contains(bad), "{ended:?}");
    }
}
