//! `safelight node serve`: asks for work whenever a slot is free, and lets each lease live in a thread of its own.
//!
//! A signal ends it in order: nothing new is taken, the sessions end and say so, and the node says goodbye.

use std::{
    collections::BTreeMap,
    fs::File,
    process::ExitCode,
    sync::{Arc, OnceLock},
    thread::{Builder, Scope},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use safelight_policies::{
    Catalogue,
    cause::Cause,
    id::{Fence, SessionId, SlotIndex},
};
use safelight_scheduler::NodeSpec;
use safelight_seal::identity::SigningSecret;
use safelight_worker::probe::{self, HostReport};

use super::{
    beat::{Contact, Pulse, failed, out_of_turn, since_boot},
    card::{Config, own_key},
    carry::Fetching,
    http::{Error, Site},
    lease::{self, Known},
    leftovers,
    protocol::{ASKS_MAX, Answer, Call, Ended, Often, Work},
    seats::Seats,
    session::Session,
    spec,
    stop::Stop,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    process,
    run::{self, Signals},
    state::State,
    terminal,
};

/// How often a node with a free slot asks, if none became free just now.
const ASK: Duration = Duration::from_millis(200);
/// How long it waits after something went wrong.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);
/// How long the site may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// For how long a node that was told to end tries to bring home what its sessions left.
const LINGER: Duration = Duration::from_secs(30);
/// Why a host whose sessions all are one user takes no second client.
const ONE_CLIENT: &str = "one client at a time without root";

/// How often the state of a log is told before the site has said how often.
const SELDOM: Often = Often {
    seconds: u64::MAX,
    records: u64::MAX,
};

/// A node at work.
pub(super) struct Node {
    pub(super) state: State,
    pub(super) config: Config,
    pub(super) key: Arc<SigningSecret>,
    pub(super) site: Site,
    pub(super) report: HostReport,
    pub(super) catalogue: Catalogue,
    pub(super) seats: Arc<Seats>,
    pub(super) fetching: Fetching,
    pub(super) pulse: Pulse,
    /// When it was told to end.
    leaving: OnceLock<Instant>,
}

/// Serves until a signal comes.
pub(crate) fn serve(state: State) -> Result<ExitCode, Failure> {
    let signals = Signals::hold()?;
    let _alone = alone(&state)?;
    let config = Config::load(&state)?;
    leftovers::sweep(&state);
    let key = Arc::new(own_key(&state)?);
    let report = probe::probe();
    let spec = spec::read(&state, &config, key.public(), &report)?;
    let site = Site::new(&config.site, &config.name, Arc::clone(&key));
    let node = Node {
        catalogue: Catalogue::shipped().or_fail(Kind::Internal)?,
        seats: Seats::new(config.slots)?,
        fetching: Fetching::default(),
        pulse: Pulse::new(Contact::new(since_boot(), (1, 1), SELDOM)),
        leaving: OnceLock::new(),
        state,
        config,
        key,
        site,
        report,
    };
    if node.come(&spec, &signals)? {
        std::thread::scope(|scope| {
            let beat = Builder::new().spawn_scoped(scope, || node.pulse.run(&node));
            let worked = beat
                .or_fail(Kind::Environment)
                .and_then(|_| node.work(scope, &spec, &signals));
            node.end();
            node.pulse.stop();
            worked
        })?;
        node.leave();
    }
    Ok(ExitCode::SUCCESS)
}

/// One node for one state: two would end each other's sessions.
fn alone(state: &State) -> Result<Flock<File>, Failure> {
    let path = state.root().join("node.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .or_fail(Kind::Environment)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        let message = format!("a node serves from {} already", state.root().display());
        Failure::new(Kind::User, message).hint("each node has a state of its own: --state DIR")
    })
}

/// Says what is wrong once, for as long as it is the same.
#[derive(Default)]
struct Trouble(Option<String>);

impl Trouble {
    fn is(&mut self, failure: &Failure) {
        let text = failure.to_string();
        if self.0.as_ref() != Some(&text) {
            terminal::complain(failure);
            self.0 = Some(text);
        }
    }

    fn is_over(&mut self) {
        self.0 = None;
    }
}

impl Node {
    /// True while what the sessions left may still be brought home.
    pub(super) fn lingers(&self) -> bool {
        let since = self.leaving.get();
        since.is_none_or(|since| since.elapsed() < LINGER)
    }

    /// Registers, however long that takes; false if a signal came first.
    fn come(&self, spec: &NodeSpec, signals: &Signals) -> Result<bool, Failure> {
        let mut trouble = Trouble::default();
        loop {
            match self.register(spec) {
                Ok(()) => {
                    let slots = spec.slots.len();
                    terminal::say(format!(
                        "{} serves {} with {slots} slot{}",
                        self.config.name,
                        self.config.site,
                        if slots == 1 { "" } else { "s" }
                    ));
                    return Ok(true);
                }
                Err(failure) => trouble.is(&failure),
            }
            if self.came(signals, AFTER_TROUBLE)? {
                return Ok(false);
            }
        }
    }

    fn register(&self, spec: &NodeSpec) -> Result<(), Failure> {
        let at = since_boot();
        match self.ask(&Call::Register(spec.clone())) {
            Ok(Answer::Registered { beat, lease, often }) => {
                self.pulse.reached(Contact::new(at, (beat, lease), often));
                Ok(())
            }
            Ok(Answer::Refused { reason }) => Err(refused(&reason)),
            Ok(_) => Err(out_of_turn()),
            Err(error) => Err(failed(&error)),
        }
    }

    /// One call, one try.
    fn ask(&self, call: &Call) -> Result<Answer, Error> {
        self.site.call(call, ANSWER, &|_| false)
    }

    /// Asks for work until a signal comes.
    fn work<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        spec: &NodeSpec,
        signals: &Signals,
    ) -> Result<(), Failure> {
        let mut drawn = BTreeMap::new();
        let mut met_stranger = false;
        let mut trouble = Trouble::default();
        let mut pause = Duration::ZERO;
        while !self.came(signals, pause)? {
            pause = ASK;
            self.seats.seen();
            let free = self.seats.free();
            let alone = free.len() == usize::from(self.config.slots);
            met_stranger &= !alone;
            let free = askable(free, (self.state.is_privileged(), alone, met_stranger));
            let asks = asks(&mut drawn, &free)?;
            if asks.is_empty() {
                continue;
            }
            let call = Call::Next { asks: asks.clone() };
            let wrong = match self.ask(&call) {
                Ok(Answer::Work(given)) => {
                    trouble.is_over();
                    for work in given.into_iter().take(asks.len()) {
                        met_stranger |= self.take(scope, work, &asks, &mut drawn)?;
                    }
                    continue;
                }
                Ok(Answer::Refused { reason }) => refused(&reason),
                Ok(_) => out_of_turn(),
                Err(error) => failed(&error),
            };
            // Whether something was leased to these sessions is not known, and a session is good for one lease.
            drawn.clear();
            trouble.is(&wrong);
            pause = AFTER_TROUBLE;
            // A site that forgot us says no until we begin anew, which loses nothing while nothing is held.
            if self.seats.is_empty() && self.register(spec).is_ok() {
                pause = ASK;
            }
        }
        Ok(())
    }

    /// Lets a piece of work live in a thread, or tells the site why not. True if that is because it is of a second client.
    fn take<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        work: Work,
        asked: &[(SlotIndex, SessionId)],
        drawn: &mut BTreeMap<SlotIndex, SessionId>,
    ) -> Result<bool, Failure> {
        let public = self.key.public();
        let known = Known {
            schedule: &self.config.schedule,
            name: &self.config.name,
            key: &public,
            asked,
            now: process::now_seconds(),
        };
        let (lease, envelope) = match lease::verify(&work, &known) {
            Ok(verified) => verified,
            Err(refusal) => {
                let named = lease::named(&work, &known);
                // A session is good for one lease, whatever became of it.
                drawn.retain(|_, session| named.is_none_or(|(named, _)| named != *session));
                self.turn_away(named, "lease", &refusal.to_string());
                return Ok(false);
            }
        };
        let named = Some((lease.session, lease.fence));
        drawn.remove(&lease.slot);
        let stranger = self.seats.stranger(&lease.client);
        if let (false, Some(stranger)) = (self.state.is_privileged(), stranger) {
            let why = format!(
                "this node is not root and runs sessions of {stranger}, so it takes none of {}",
                lease.client
            );
            self.turn_away(named, ONE_CLIENT, &why);
            return Ok(true);
        }
        let Some(seat) = self.seats.take(&lease, Arc::new(Stop::new()?)) else {
            self.turn_away(named, "lease", "somebody sits in the leased slot");
            return Ok(false);
        };
        let live = move || {
            let session = Session {
                node: self,
                seat: &seat,
                work: &work,
                lease: &lease,
                envelope: &envelope,
            };
            session.run();
        };
        if let Err(error) = Builder::new().spawn_scoped(scope, live) {
            self.turn_away(named, "thread", &error.to_string());
        }
        Ok(false)
    }

    /// Ends a lease that is not lived. The site may not want to hear it.
    fn turn_away(&self, named: Option<(SessionId, Fence)>, step: &str, why: &str) {
        let Some((session, fence)) = named else {
            terminal::say(format!("work is turned away: {why}"));
            return;
        };
        terminal::say(format!("{session} is turned away: {why}"));
        let ended = Ended {
            session,
            fence,
            cause: Cause::NotStarted {
                step: step.to_owned(),
                errno: 0,
            },
            sealed: None,
            audit: Vec::new(),
            objects: Vec::new(),
        };
        if let Err(error) = self.ask(&Call::Ended(Box::new(ended))) {
            terminal::complain(&failed(&error));
        }
    }

    /// Waits for a signal or a slot that becomes free, at most so long; true if it was a signal.
    fn came(&self, signals: &Signals, limit: Duration) -> Result<bool, Failure> {
        let limit = PollTimeout::try_from(limit).or_fail(Kind::Internal)?;
        let mut polled =
            [signals.watch(), self.seats.freed()].map(|on| PollFd::new(on, PollFlags::POLLIN));
        match poll(&mut polled, limit) {
            Ok(_) => Ok(polled[0].any().unwrap_or(true)),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => Err(Failure::from_error(Kind::Internal, &errno)),
        }
    }

    /// Ends the sessions in order, and waits for them.
    fn end(&self) {
        self.leaving.get_or_init(Instant::now);
        while !self.seats.is_empty() {
            self.seats.cancel_all();
            std::thread::sleep(ASK / 4);
        }
    }

    /// Says goodbye. A site that does not hear it finds out by itself.
    fn leave(&self) {
        match self.ask(&Call::Leave) {
            Ok(_) => terminal::say(format!("{} left", self.config.name)),
            Err(error) => terminal::complain(&failed(&error)),
        }
    }
}

/// Which of the free slots ask. Without root a node must turn a second client away, which costs the job a try: so the first slot asks
/// alone, and once another client's work came, none asks until all are free.
fn askable(
    mut free: Vec<SlotIndex>,
    (privileged, alone, met_stranger): (bool, bool, bool),
) -> Vec<SlotIndex> {
    match (privileged, alone) {
        (true, _) => {}
        (false, true) => free.truncate(1),
        (false, false) if met_stranger => free.clear(),
        (false, false) => {}
    }
    free
}

/// Who asks: each free slot, with the session that was drawn for it and not used yet.
fn asks(
    drawn: &mut BTreeMap<SlotIndex, SessionId>,
    free: &[SlotIndex],
) -> Result<Vec<(SlotIndex, SessionId)>, Failure> {
    drawn.retain(|slot, _| free.contains(slot));
    for slot in free.iter().take(ASKS_MAX) {
        if !drawn.contains_key(slot) {
            drawn.insert(*slot, run::draw_session()?);
        }
    }
    let asks = drawn.iter().take(ASKS_MAX);
    Ok(asks.map(|(slot, session)| (*slot, *session)).collect())
}

fn refused(reason: &str) -> Failure {
    let reason = terminal::shown(reason.as_bytes());
    Failure::new(Kind::Denied, format!("the site says no: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_asks_until_it_was_used() {
        let mut drawn = BTreeMap::new();
        let free = [SlotIndex(0), SlotIndex(2)];
        let first = asks(&mut drawn, &free).unwrap();
        assert_eq!(
            first.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(),
            free
        );
        assert_ne!(first[0].1, first[1].1);
        assert_eq!(asks(&mut drawn, &free).unwrap(), first);
        drawn.remove(&SlotIndex(0));
        let second = asks(&mut drawn, &free).unwrap();
        assert_ne!(second[0].1, first[0].1);
        assert_eq!(second[1], first[1]);
        assert_eq!(asks(&mut drawn, &[]).unwrap(), []);
        let many: Vec<_> = (0..100).map(SlotIndex).collect();
        assert_eq!(asks(&mut drawn, &many).unwrap().len(), ASKS_MAX);
    }

    #[test]
    fn without_root_a_node_does_not_ask_for_clients_that_it_must_turn_away() {
        let ask = |free: u16, about| askable((0..free).map(SlotIndex).collect(), about).len();
        for (about, expected) in [
            ((true, true, false), 4),
            ((true, false, true), 4),
            ((false, true, false), 1),
            ((false, false, false), 4),
            ((false, false, true), 0),
        ] {
            assert_eq!(ask(4, about), expected, "{about:?}");
        }
    }

    #[test]
    fn one_state_serves_one_node() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        let first = alone(&state).unwrap();
        let failure = alone(&state).err().unwrap().message();
        assert!(failure.contains("already"), "{failure}");
        drop(first);
        assert!(alone(&state).is_ok());
    }
}
