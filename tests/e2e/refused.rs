//! Who is not known, not trusted any more or not on time is refused by name, and nothing comes of what it asked.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use safelight_bundle::object_id;
use safelight_seal::identity::SigningSecret;

use crate::{
    bundles::{TURN, all_turned, shell},
    carriage::{Act, Parcel},
    sites::{Farm, NORTH_NODES, Site, farm_requires, until},
};

/// Puts a parcel into a site's incoming folder, under the mailbox that is named.
fn put(site: &Site, mailbox: &str, parcel: &Parcel) {
    let name = parcel.name.file_name().expect("a name");
    let name = if parcel.is_letter() {
        Path::new("ready").join(mailbox).join(name)
    } else {
        parcel.name.clone()
    };
    let path = site.seen("hot/in").join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
    fs::write(path, &parcel.bytes).expect("file");
}

/// The folder in which a site's letters lie: its key, as its card has it.
fn mailbox(site: &Site) -> String {
    let card = site.read("state/card.toml");
    let line = card
        .lines()
        .find_map(|line| line.strip_prefix("letters = "));
    line.expect("a key").trim_matches('"').to_owned()
}

/// Waits until a site says this about the letters of another.
#[track_caller]
fn until_it_says(site: &Site, of: &str, kind: &str, word: &str) {
    until(&format!("{} says {word:?} of {of}", site.name), || {
        let said = site.told(&["site", "status"]).remove(0);
        said["links"][of][kind]
            .to_string()
            .contains(word)
            .then_some(())
    });
}

#[test]
fn a_letter_for_somebody_else_by_a_stranger_or_cut_off_brings_no_job() {
    if !farm_requires(&[]) {
        return;
    }
    let mut farm = Farm::at_rest();
    let mut south = farm.another("south", "remote");
    south.trust(&farm.home);
    let mut stranger = farm.another("stranger", "local");
    stranger.trust(&farm.north);
    farm.start();
    south.start("serve");
    stranger.start("serve");
    let kept = Arc::new(Mutex::new(Vec::<Parcel>::new()));
    let keep = Arc::clone(&kept);
    // North gets the beginning of the announcement, until that was seen.
    let seen = Arc::new(AtomicBool::new(false));
    let was_seen = Arc::clone(&seen);
    farm.carriage.rule(move |parcel| {
        if !parcel.to_north || parcel.kind() == "heartbeat" {
            return Act::Carry;
        }
        keep.lock().expect("nobody panics").push(parcel.clone());
        match parcel.kind() {
            "job" if !was_seen.load(Ordering::Relaxed) => Act::Damage(parcel.bytes[..100].to_vec()),
            _ => Act::Carry,
        }
    });
    let drawn = shell(&farm.home, "show", 1, TURN, "");
    let job = farm.submit("show", "north");
    until_it_says(&farm.north, "home", "waiting", "cut off");
    assert!(farm.north.job(&job).is_none());
    seen.store(true, Ordering::Relaxed);

    // South gets everything, in north's name and in its own.
    for parcel in kept.lock().expect("nobody panics").iter() {
        put(&south, &mailbox(&farm.north), parcel);
        put(&south, &mailbox(&south), parcel);
    }
    until_it_says(&south, "home", "refused", "it is for");
    assert!(south.told(&["job", "list"]).is_empty());

    // A stranger's letter lies among home's.
    let letters = stranger.seen("hot/out/ready").join(mailbox(&farm.north));
    let letter = until("the stranger writes", || {
        let mut entries = fs::read_dir(&letters).ok()?.flatten();
        entries.find(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
    });
    let parcel = Parcel {
        to_north: true,
        name: Path::new("ready").join(letter.file_name()),
        rounds: 0,
        bytes: fs::read(letter.path()).expect("a letter"),
    };
    put(&farm.north, &mailbox(&farm.north), &parcel);
    until_it_says(&farm.north, "home", "refused", "is not known here");

    // None of this is in the way of what is right.
    farm.delivered(&job);
    all_turned(&farm.home, "show", &drawn, 1);
    assert_eq!(Farm::committed_once(&farm.north, &job, 1), 1);
    assert!(south.told(&["job", "list"]).is_empty());
}

#[test]
fn no_key_is_released_for_a_client_that_is_trusted_no_longer() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    farm.north.ask(&["queue", "pause", "active"]).ok();
    shell(&farm.home, "show", 2, TURN, "");
    let job = farm.submit("show", "north");
    farm.north.until_job(&job, &["waiting"]);
    // The site would end the job by itself; the warden does not know that the client was ever trusted.
    fs::remove_dir_all(farm.north.seen("state/warden/trust/clients")).expect("trusted clients");
    farm.north.ask(&["queue", "resume", "active"]).ok();
    let ended = until("an attempt ends", || {
        let mut attempts = farm.north.attempts(&job).into_iter();
        attempts.find(|attempt| attempt["state"] == "failed")
    });
    let cause = ended["cause"].to_string();
    assert!(cause.contains("key"), "{ended:#}");
    assert!(
        farm.north.said().contains("is not enrolled"),
        "nobody says why"
    );
    let attempts = farm.north.attempts(&job);
    assert!(
        attempts.iter().all(|it| it["state"] != "committed"),
        "{attempts:#?}"
    );
    assert_eq!(farm.home.read("show/out/1.txt"), "");
}

#[test]
fn a_site_that_is_served_lets_go_of_a_client_that_is_revoked() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    farm.north.ask(&["queue", "pause", "active"]).ok();
    shell(&farm.home, "show", 2, TURN, "");
    let job = farm.submit("show", "north");
    farm.north.until_job(&job, &["waiting"]);
    let linked = || {
        let said = farm.north.told(&["site", "status"]).remove(0);
        !said["links"]["home"].is_null()
    };
    assert!(linked());
    farm.north.ask(&["site", "revoke", "home"]).ok();
    // Nobody starts anything again.
    farm.north.until_job(&job, &["canceled", "delivered"]);
    until("the link is gone", || (!linked()).then_some(()));
    assert!(farm.north.attempts(&job).is_empty());
    let prekeys = fs::read_dir(farm.north.seen("state/warden/prekeys")).expect("prekeys");
    let claimed = prekeys
        .flatten()
        .filter(|entry| entry.path().extension().is_some());
    assert_eq!(claimed.count(), 0, "the job can still be opened there");
    // It is trusted again as it was lost: without a word to the server.
    farm.north.trust(&farm.home);
    until("the link is back", || linked().then_some(()));
}

/// A signed call that says goodbye, at a time of the node's own; answers the site's answer.
fn goodbye(site: &Site, node: &str, time: u64, name: &str) -> String {
    let key = fs::read(site.seen(node).join("site/node.key")).expect("the node's key");
    let key = SigningSecret::from_bytes(key[..].try_into().expect("32 bytes"));
    // postcard: the sixth call, which has nothing in it.
    let body = [5u8];
    let message = format!("POST\n/v0/call\n{time}\n{}", object_id(&body));
    let signature = key.sign("node request", message.as_bytes());
    let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    let request = format!(
        "POST /v0/call HTTP/1.1\r\nhost: site\r\nconnection: close\r\ncontent-length: 1\r\nsafelight-node: {name}\r\n\
         safelight-time: {time}\r\nsafelight-signature: {signature}\r\n\r\n"
    );
    let network = site.network();
    let call = thread::spawn(move || {
        nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).expect("the network");
        let mut stream = TcpStream::connect("127.0.0.1:7411").expect("the site");
        let bytes = [request.as_bytes(), &body].concat();
        stream.write_all(&bytes).expect("a request");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    call.join().expect("an answer")
}

#[test]
fn a_node_that_is_not_known_not_itself_or_not_on_time_gets_no_work() {
    if !farm_requires(&[]) {
        return;
    }
    let mut farm = Farm::at_rest();
    farm.home.start("serve");
    farm.north.start("serve");
    // Nobody enrolled it.
    farm.north.join_only("n3", "n3", "1");
    farm.north.start("n3");
    until("the site says that it does not know n3", || {
        let said = farm.north.said();
        let word = "the node n3 is not enrolled here: safelight node enroll n3 KEY";
        said.contains(word).then_some(())
    });
    // It says that it is n1.
    farm.north.join_only("n4", "n1", "1");
    farm.north.start("n4");
    until("the site says that this is not n1", || {
        let word = "the request is not signed by n1's enrolled key";
        farm.north.said().contains(word).then_some(())
    });
    // Its clock is wrong.
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("after 1970").as_secs()
    };
    let answer = |time| goodbye(&farm.north, "n1", time, "n1");
    // The site has never seen it, so there is nothing to say goodbye to; but it is believed.
    let said = answer(now());
    assert!(!said.starts_with("HTTP/1.1 401"), "{said}");
    for (time, word) in [
        (now() + 200, "s ahead of the site's"),
        (now() - 200, "s behind the site's"),
    ] {
        let said = answer(time);
        assert!(
            said.starts_with("HTTP/1.1 401") && said.contains(word),
            "{said}"
        );
    }
    let other = goodbye(&farm.north, "n1", now(), "n2");
    assert!(other.starts_with("HTTP/1.1 401"), "{other}");

    let drawn = shell(&farm.home, "show", 1, TURN, "");
    let job = farm.submit("show", "north");
    farm.north.until_job(&job, &["waiting"]);
    assert!(farm.north.attempts(&job).is_empty());
    assert!(
        farm.north.told(&["slot", "list"]).is_empty(),
        "who was refused has slots"
    );
    farm.north.start("n1");
    farm.delivered(&job);
    all_turned(&farm.home, "show", &drawn, 1);
}

#[test]
fn a_node_that_dies_is_replaced_by_another() {
    if !farm_requires(&[]) {
        return;
    }
    let mut farm = Farm::at_work();
    let drawn = shell(&farm.home, "show", 1, &format!("sleep 1; {TURN}"), "");
    let job = farm.submit("show", "north");
    let first = until("a node works", || {
        let attempts = farm.north.attempts(&job);
        attempts.first()?["node"].as_str().map(str::to_owned)
    });
    assert!(NORTH_NODES.contains(&first.as_str()));
    farm.north.kill(&first);
    farm.delivered(&job);
    all_turned(&farm.home, "show", &drawn, 1);
    assert_eq!(Farm::committed_once(&farm.north, &job, 1), 2);
    let attempts = farm.north.attempts(&job);
    let last = attempts
        .iter()
        .find(|attempt| attempt["state"] == "committed");
    let last = last.expect("a result")["node"].as_str().expect("a node");
    assert_ne!(last, first, "{attempts:#?}");
    until("the node is known to be lost", || {
        let nodes = farm.north.told(&["node", "list"]);
        let dead = nodes.iter().find(|node| node["node"] == first.as_str())?;
        (dead["state"] == "lost").then_some(())
    });
}
