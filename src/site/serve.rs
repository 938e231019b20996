//! `safelight serve`: the desk and the loop of a site, until somebody asks it to end.
//!
//! The desk answers nodes on one thread, the loop has another, and who tells suppliers a third; all go by the ledger. Killing the process is an orderly end too: everything
//! that was acknowledged is in the ledger, and the next start goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use safelight_scheduler::SqliteLedger;
use safelight_seal::random::SystemRandom;
use tokio::net::TcpListener;

use super::{
    bell::Bell,
    card::Role,
    config::Config,
    desk::{self, Desk, Guard},
    looks::Looks,
    teller::Teller,
    turn::Site,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    process,
    run::site_key,
    state::State,
    terminal,
};

/// How often the desk looks whether the loops are there.
const CHECK: Duration = Duration::from_millis(200);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn serve(state: &State) -> Result<(), Failure> {
    let config = Config::read(state)?;
    let _alone = alone(state)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_fail(Kind::Environment)?;
    let mut site = Site::open(state, config.clone())?;
    let desk = Desk {
        state: state.clone(),
        schedule: site_key(state, "schedule", &SystemRandom::new())?,
        ledger: runtime
            .block_on(SqliteLedger::open_with(
                &state.ledger(),
                config.rules.clone(),
            ))
            .or_fail(Kind::Environment)?,
        config,
        guard: Guard::default(),
    };
    let poll = Duration::from_millis(desk.config.poll_ms);
    let mut loops = Loops::default();
    if desk.config.role == Role::Local {
        let mut teller = Teller::open(state, &desk.config)?;
        loops.run(move |now| {
            if let Err(failure) = teller.turn(now) {
                tracing::error!("suppliers cannot be told: {}", failure.message());
            }
            std::thread::sleep(poll);
        });
    }
    if desk.config.role == Role::Remote && desk.config.looks {
        let looks = Looks::open(state, loops.ending())?;
        site.standing = looks.standing();
        loops.run(move |_| looks.turn());
    }
    let bell = Bell::hang(state);
    loops.run(move |now| {
        site.turn(now);
        bell.wait(poll, &site.mailboxes());
    });
    let served = runtime.block_on(listen(desk, loops.stopped()));
    loops.end().and(served)
}

/// The loops beside the desk. All end together: a site of which a part stopped is not left half alive.
#[derive(Default)]
struct Loops {
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Loops {
    /// Does something, and rests, again and again until the end.
    fn run(&mut self, mut turn: impl FnMut(u64) + Send + 'static) {
        let ending = Ending(Arc::clone(&self.ending));
        self.threads.push(std::thread::spawn(move || {
            while !ending.0.load(Ordering::Relaxed) {
                turn(process::now_seconds());
            }
        }));
    }

    /// Set when all are to end.
    fn ending(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ending)
    }

    /// Waits until a loop stops by itself, which none should.
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let ending = Arc::clone(&self.ending);
        async move {
            while !ending.load(Ordering::Relaxed) {
                tokio::time::sleep(CHECK).await;
            }
        }
    }

    /// Ends all and waits for them.
    fn end(self) -> Result<(), Failure> {
        self.ending.store(true, Ordering::Relaxed);
        let stopped: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        if stopped.iter().all(Result::is_ok) {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Internal,
            "a loop of the site stopped by a defect",
        ))
    }
}

/// Ends all loops when the one that has it stops, also by a panic.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn listen(
    desk: Desk,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let at = desk.config.listen;
    let listener = TcpListener::bind(at).await.map_err(|error| {
        let message = format!("cannot listen at {at}: {error}");
        Failure::new(Kind::Environment, message).hint("change `listen` in safelight.toml")
    })?;
    let at = listener.local_addr().or_fail(Kind::Environment)?;
    let (name, role) = (&desk.config.name, desk.config.role);
    terminal::say(
        format!("{name} ({role:?} site) is open: its nodes call http://{at}").to_lowercase(),
    );
    let routes = desk::routes(Arc::new(desk));
    let over = async {
        tokio::select! {
            () = asked_to_end() => {}
            () = stopped => {}
        }
    };
    desk::door::serve(listener, routes, over).await;
    Ok(())
}

async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// A site has one loop.
pub(super) fn alone(state: &State) -> Result<Flock<std::fs::File>, Failure> {
    let path = state.root().join("serve.lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .or_fail(Kind::Environment)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        let message = format!("{} is being served already", state.root().display());
        Failure::new(Kind::User, message)
    })
}
