//! `safelight serve`: the desk and the loop of a site, until somebody asks it to end.
//!
//! The desk answers nodes on one thread, the loop has another; both go by the ledger. Killing the process is an orderly end too: everything
//! that was acknowledged is in the ledger, and the next start goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use safelight_scheduler::SqliteLedger;
use safelight_seal::random::SystemRandom;
use tokio::net::TcpListener;

use super::{
    config::Config,
    desk::{self, Desk, Guard},
    turn::Site,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    process,
    run::site_key,
    state::State,
    terminal,
};

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
    let ending = Arc::new(AtomicBool::new(false));
    let poll = Duration::from_millis(desk.config.poll_ms);
    let told = Arc::clone(&ending);
    let turns = std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            site.turn(process::now_seconds());
            std::thread::sleep(poll);
        }
    });
    let served = runtime.block_on(listen(desk));
    ending.store(true, Ordering::Relaxed);
    let stopped = turns.join();
    served?;
    stopped.map_err(|_| Failure::new(Kind::Internal, "the site's loop stopped by a defect"))
}

async fn listen(desk: Desk) -> Result<(), Failure> {
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
    desk::door::serve(listener, routes, asked_to_end()).await;
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
fn alone(state: &State) -> Result<Flock<std::fs::File>, Failure> {
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
