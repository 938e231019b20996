//! The worker's hidden commands, and a small agent that plays both ends of a session: for tests and benchmarks of the sandbox without the
//! rest of Safelight. Its view server answers every request of the kernel with "no such file".
//!
//! `launch-harness agent [--policy FILE] [--user root|own] [--view PATH]... [--report FILE] [--wall MS] [--no-groups]
//! [--file NAME TEXT]... [--runnable NAME TEXT]... -- CMD ARG...`

use std::{
    env,
    error::Error,
    fs,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use safelight_channel::Channel;
use safelight_policies::{
    Catalogue, Request,
    cause::Cause,
    grant::Terms,
    id::{PolicyName, SessionId},
    path::CentralPath,
};
use safelight_vfs::session::{FromLauncher, SessionFile, ToLauncher};
use safelight_worker::{
    HostFacts, Identity, LaunchIo, Plan, cgroup::Groups, spawn, supervise::Watch,
};

type Environment = Vec<(Vec<u8>, Vec<u8>)>;
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let complain = |error: &dyn std::fmt::Display| {
        let _ = writeln!(std::io::stderr(), "harness: {error}");
        ExitCode::FAILURE
    };
    match arguments.next().as_deref() {
        Some(safelight_worker::launch::COMMAND) => safelight_worker::launcher::main(),
        Some(safelight_worker::probe::COMMAND) => {
            safelight_worker::probe::child_main(&arguments.next().unwrap_or_default())
        }
        Some(safelight_worker::without::COMMAND) => {
            complain(&safelight_worker::without::main(arguments.map(Into::into)))
        }
        Some("agent") => match Agent::parse(arguments).and_then(Agent::run) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error),
        },
        Some("probe") => {
            let report = safelight_worker::probe::probe();
            let _ = writeln!(std::io::stdout(), "{report:#?}");
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

#[derive(Default)]
struct Agent {
    policy: Option<String>,
    own_user: bool,
    views: Vec<String>,
    report: Option<PathBuf>,
    wall: Option<Duration>,
    no_groups: bool,
    files: Vec<SessionFile>,
    command: Vec<String>,
}

impl Agent {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut agent = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or("a value is missing");
            match argument.as_str() {
                "--policy" => agent.policy = Some(value()?),
                "--user" => agent.own_user = value()? == "own",
                "--view" => agent.views.push(value()?),
                "--report" => agent.report = Some(value()?.into()),
                "--wall" => agent.wall = Some(Duration::from_millis(value()?.parse()?)),
                "--no-groups" => agent.no_groups = true,
                "--file" | "--runnable" => agent.files.push(SessionFile {
                    name: value()?.into_bytes(),
                    bytes: value()?.into_bytes(),
                    runnable: argument == "--runnable",
                }),
                "--" => break,
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        agent.command = arguments.collect();
        Ok(agent)
    }

    fn run(self) -> Outcome<()> {
        let (plan, env) = self.plan()?;
        let (ours, view) = Channel::pair()?;
        let (lifeline, server_end) = Channel::pair()?;
        let views = self.views.len();
        let run = ToLauncher::Run {
            interactive: false,
            command: self.command.into_iter().map(String::into_bytes).collect(),
            directory: b"/tmp".to_vec(),
            env,
            files: self.files,
        };
        let server = thread::spawn(move || -> Outcome<()> {
            let _lifeline = server_end;
            serve(&ours, views, &run)
        });
        let groups = if self.no_groups {
            Groups::none("not asked for")
        } else {
            let groups = Groups::find();
            groups.sweep();
            groups
        };
        let begun = Instant::now();
        let group = groups.leaf(&SessionId::from_random(random()?), plan.limits())?;
        let io = LaunchIo {
            view: view.into_descriptor(),
            group,
            complain: true,
        };
        let mut session = spawn(&env::current_exe()?, &plan, io)?;
        let running = session.wait_until_running(Duration::from_secs(20));
        let started = begun.elapsed();
        let lost = Watch {
            on: lifeline.as_fd(),
            cause: Cause::ViewLost,
        };
        // A server of no views ends at once; only one that has views to lose is watched.
        let watches = if views > 0 { vec![lost] } else { Vec::new() };
        let ended = session.wait(self.wall, &watches)?;
        drop(server);
        if let Some(path) = self.report {
            let cause = &ended.cause;
            fs::write(
                path,
                format!(
                    "{cause}\n{ended:?}\n{running:?}\n{} us\n",
                    started.as_micros()
                ),
            )?;
        }
        Ok(())
    }

    fn plan(&self) -> Outcome<(Plan, Environment)> {
        let mut catalogue = Catalogue::shipped()?;
        let name = match &self.policy {
            Some(file) => catalogue.add(&fs::read_to_string(file)?, file)?,
            None => PolicyName::new("generic")?,
        };
        let central = self
            .views
            .iter()
            .map(|view| Ok((CentralPath::new(view.as_str())?, true)))
            .collect::<Outcome<_>>()?;
        let grant = catalogue.resolve(&name)?.admit(&Request {
            central,
            ..Request::default()
        })?;
        let facts = HostFacts::read(grant.terms())?;
        let env = environment(grant.terms());
        let identity = if self.own_user {
            Identity::Rootless {
                uid: nix::unistd::getuid().as_raw(),
                gid: nix::unistd::getgid().as_raw(),
            }
        } else {
            Identity::Root {
                uid: 64_000,
                gid: 64_000,
            }
        };
        Ok((Plan::new(grant, &facts, identity)?, env))
    }
}

fn environment(terms: &Terms) -> Vec<(Vec<u8>, Vec<u8>)> {
    terms
        .env
        .iter()
        .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()))
        .collect()
}

fn random() -> Outcome<[u8; 10]> {
    let mut bytes = [0; 10];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The view server's side: takes the mounts, answers the kernel, and names the command. The job's output is our own.
fn serve(launcher: &Channel, views: usize, run: &ToLauncher) -> Outcome<()> {
    let mounts = launcher.expect::<FromLauncher>()?;
    if mounts.descriptors.len() != views {
        return Err("wrong number of views".into());
    }
    let kernels: Vec<_> = mounts
        .descriptors
        .into_iter()
        .map(|device| thread::spawn(move || answer(&device)))
        .collect();
    launcher.send_with(run, &[std::io::stdout().as_fd(), std::io::stderr().as_fd()])?;
    for kernel in kernels {
        let _ = kernel.join();
    }
    Ok(())
}

/// A FUSE server of an empty directory, by the wire format (linux/fuse.h): 40 bytes of request header, 16 of reply header.
fn answer(device: &OwnedFd) {
    const FORGET: [u32; 2] = [2, 42];
    let mut request = vec![0u8; 1 << 18];
    loop {
        match rustix::io::read(device, &mut request) {
            Ok(length) if length >= 40 => {}
            Err(rustix::io::Errno::INTR | rustix::io::Errno::NOENT) => continue,
            _ => return,
        }
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| request[at + byte]));
        let (opcode, uid) = (word(4), word(24));
        if FORGET.contains(&opcode) {
            continue;
        }
        let (error, body) = match reply(opcode, uid) {
            Some(body) => (0, body),
            None => (-libc::ENOENT, Vec::new()),
        };
        let mut reply = Vec::new();
        reply.extend(u32::try_from(16 + body.len()).unwrap_or(16).to_le_bytes());
        reply.extend(error.to_le_bytes());
        reply.extend(&request[8..16]);
        reply.extend(&body);
        // A request that was interrupted wants no answer.
        let _ = rustix::io::write(device, &reply);
    }
}

fn reply(opcode: u32, uid: u32) -> Option<Vec<u8>> {
    const GETATTR: u32 = 3;
    const INIT: u32 = 26;
    const OPENDIR: u32 = 27;
    const READDIR: u32 = 28;
    const RELEASEDIR: u32 = 29;
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<_>>()
    };
    match opcode {
        INIT => {
            // Version 7.31, no flags; 64 bytes in all.
            let mut body = words(&[7, 31, 1 << 17, 0, 0, 1 << 16]);
            body.resize(64, 0);
            Some(body)
        }
        // A directory of user 1000, not to be cached; its size tells who asked, for the test.
        GETATTR => {
            let mut body = vec![0; 16];
            body.extend(words(&[1, 0, uid, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
            body.extend(words(&[0, 0, 0, 0o40755, 2, 1000, 1000, 0, 4096, 0]));
            Some(body)
        }
        OPENDIR => Some(vec![0; 16]),
        READDIR | RELEASEDIR => Some(Vec::new()),
        _ => None,
    }
}
