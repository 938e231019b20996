//! One look by a grant, from the question to its end: the story to read.

use std::{
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use safelight_audit::Source;
use safelight_bundle::DebugGrant;
use safelight_channel::Channel;
use safelight_policies::{
    cause::Cause,
    event::Control,
    id::{ClientAlias, JobId, KemKey, SessionId, VerifyKey},
};
use safelight_scheduler::JobEntry;
use safelight_seal::job_key::Stanza;

use super::{Guard, PROMPT, Standing};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    look::{self, FromServer, FromSite, Order, Seen, ToServer, ToSite},
    process::{self, Process},
    results::{self, Results, task_name},
    run::{self, AuditWriter, Books, KeyWarden},
    site::errand,
    state::{LogOf, State, user},
    warden::{self, LookRequest},
};

/// How often grant and client are looked up while somebody looks, in milliseconds.
const CHECK: u16 = 1000;

/// How many bytes of an envelope, and how many results, are told at a time: far less than a message holds.
const PIECE: usize = 64 * 1024;
const AT_A_TIME: usize = 100;

/// The process that shows a job looks at the time as well, by a clock of its own: so much apart they may be.
const ITS_OWN: Duration = Duration::from_secs(1);

/// `/dev/fuse`.
const FUSE: (u64, u64) = (10, 229);

/// Who asks, and where.
pub(super) struct One {
    pub(super) state: State,
    pub(super) standing: Standing,
    pub(super) guard: Arc<Guard>,
    pub(super) ending: Arc<AtomicBool>,
    /// User and group of the operator, as the kernel says.
    pub(super) user: (u32, u32),
}

/// What is asked.
struct Asked {
    grant: Vec<u8>,
    job: JobEntry,
    task: Option<safelight_policies::id::TaskId>,
    seen: Seen,
    session: SessionId,
}

impl Asked {
    fn client(&self) -> &ClientAlias {
        &self.job.outline.client
    }

    fn id(&self) -> JobId {
        self.job.id()
    }

    /// What the grant says of itself. Nothing of it is verified here.
    fn claims(&self) -> Option<DebugGrant> {
        let signer = safelight_bundle::claimed_signer(&self.grant).ok()?;
        safelight_bundle::open(&self.grant, &signer).ok()
    }
}

/// The process that shows a job. It is waited for, however the look ends.
struct Server(Option<Process>);

impl Server {
    fn channel(&self) -> Result<&Channel, Failure> {
        let process = self.0.as_ref().ok_or_else(out_of_turn)?;
        Ok(&process.channel)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            run::end(process);
        }
    }
}

/// What is shown, and until when.
struct Shown {
    server: Server,
    grant: DebugGrant,
    client: VerifyKey,
    seconds: u64,
}

impl One {
    /// Hears what is asked and does it; what cannot be done is said.
    pub(super) fn attend(&self, operator: &Channel) {
        let seen = self.ask(operator).and_then(|(asked, device)| {
            let looked = self.look(operator, &asked, device);
            self.standing.remove(asked.session);
            looked
        });
        let Err(failure) = seen else {
            return;
        };
        let denied = failure.kind() == Kind::Denied;
        if denied {
            self.guard.refused(self.user.0, process::now_seconds());
        }
        tracing::warn!("user {} does not look: {}", self.user.0, failure.message());
        let reason = failure.message();
        let _ = operator.try_send(&FromSite::Refused { reason, denied });
    }

    /// What is asked, of which job.
    fn ask(&self, operator: &Channel) -> Result<(Asked, OwnedFd), Failure> {
        if !self.guard.may_ask(self.user.0, process::now_seconds()) {
            let message = "refused too often; come back in an hour";
            return Err(Failure::new(Kind::User, message));
        }
        operator
            .set_timeouts(Some(PROMPT), Some(PROMPT))
            .or_fail(Kind::Environment)?;
        let incoming = operator.expect::<ToSite>().or_fail(Kind::User)?;
        let (ask, [device]) = incoming.exactly::<1>().or_fail(Kind::User)?;
        let ToSite::Look {
            grant,
            job,
            task,
            seen,
        } = ask
        else {
            return Err(out_of_turn());
        };
        let device = fuse(device)?;
        let books = Books::open(&self.state)?;
        let job = books.find(&job)?;
        let job = books.wait(books.ledger().job(&job.to_string()))?;
        let asked = Asked {
            grant,
            job,
            task,
            seen,
            session: run::draw_session()?,
        };
        // Noted before there is a log, so that it goes home whatever happens; and that it is not to go before it is whole.
        self.standing.add(asked.session);
        let (subject, now) = (asked.session.to_string(), process::now_seconds());
        let add = books
            .ledger()
            .add_errand(errand::LOOK, &subject, asked.id(), now);
        books.wait(add)?;
        Ok((asked, device))
    }

    /// From here on there is a log.
    fn look(&self, operator: &Channel, asked: &Asked, device: OwnedFd) -> Result<(), Failure> {
        let log = (asked.client(), asked.id(), LogOf::Look(asked.session));
        let sources = [Source::Warden, Source::Debug];
        let (audit, mut others) = AuditWriter::start(&self.state, log, Source::Agent, &sources)?;
        let few = || Failure::new(Kind::Internal, "the audit writer has too few channels");
        let (own, warden) = (others.pop().ok_or_else(few)?, others.pop().ok_or_else(few)?);
        let shown = self.show(operator, asked, device, (own, warden));
        let uid = self.user.0;
        let how = match &shown {
            Ok(shown) => self.how(asked, shown),
            Err(failure) => {
                let by = asked.claims().map(|grant| grant.number.to_string());
                let by = by.unwrap_or_else(|| "what is no grant".to_owned());
                format!("mount refused to who showed {by}: {}", failure.message())
            }
        };
        // No record, no view: until the key comes the process shows nothing.
        audit.note(Control::DebugAccess {
            uid,
            how: how.clone(),
        })?;
        audit.sync()?;
        let ended = shown.and_then(|(shown, stanza)| {
            self.unlock(&shown, stanza)?;
            self.replace_prekey(asked, &shown)?;
            let said = FromSite::Shown {
                what: how,
                grant: shown.grant.number,
                seconds: shown.seconds,
            };
            operator.send(&said).or_fail(Kind::Environment)?;
            Ok(self.stand(operator, asked, shown, &audit))
        });
        let cause = ended
            .as_ref()
            .map_or(Cause::NoKey, |(cause, _)| cause.clone());
        let session = asked.session;
        audit.note(Control::Ended { session, cause })?;
        audit.finish()?;
        let (_, reason) = ended?;
        let _ = operator.try_send(&FromSite::Over {
            reason: reason.to_owned(),
        });
        Ok(())
    }

    /// Has the process started, the operator prove who he is, and the warden decide. Nothing is shown yet.
    fn show(
        &self,
        operator: &Channel,
        asked: &Asked,
        device: OwnedFd,
        (own, audit): (Channel, Channel),
    ) -> Result<(Shown, Stanza), Failure> {
        let (server, view_key) = self.server(asked, &device, &own)?;
        drop((device, own));
        let session = asked.session;
        let sign = FromSite::Sign { view_key, session };
        operator.send(&sign).or_fail(Kind::Environment)?;
        let signed = operator.expect::<ToSite>().or_fail(Kind::User)?.message;
        let ToSite::Signed(operator_signature) = signed else {
            return Err(out_of_turn());
        };
        let request = LookRequest {
            grant: asked.grant.clone(),
            client: asked.client().clone(),
            job: asked.id(),
            session,
            view_key,
            operator_signature,
        };
        let warden = KeyWarden::start(&self.state, audit)?;
        let granted = warden.grant(request);
        warden.finish();
        let (stanza, seconds) = granted?;
        // It is the client's own: the warden held it against the key that is enrolled.
        let client = warden::enrolled_client(&self.state, asked.client())?;
        let grant = safelight_bundle::open(&asked.grant, &client).or_fail(Kind::Denied)?;
        let shown = Shown {
            server,
            grant,
            client,
            seconds,
        };
        self.tell(asked, &shown)?;
        Ok((shown, stanza))
    }

    /// The process that will show it, and its key.
    fn server(
        &self,
        asked: &Asked,
        device: &OwnedFd,
        audit: &Channel,
    ) -> Result<(Server, KemKey), Failure> {
        let area = File::open(self.state.area(asked.client())?).or_fail(Kind::Environment)?;
        let identity = self
            .state
            .is_privileged()
            .then_some((user::LOOK, user::AREA));
        let server = Server(Some(process::start(look::COMMAND, &[], identity, None)?));
        let channel = server.channel()?;
        channel
            .set_timeouts(Some(PROMPT), Some(PROMPT))
            .or_fail(Kind::Environment)?;
        let order = Order {
            job: asked.id(),
            session: asked.session,
            client: warden::enrolled_client(&self.state, asked.client())?,
            owner: self.user,
        };
        let descriptors = [area.as_fd(), device.as_fd(), audit.as_fd()];
        channel
            .send_with(&ToServer::Show(order), &descriptors)
            .or_fail(Kind::Environment)?;
        match channel.expect().or_fail(Kind::Environment)?.message {
            FromServer::Asks { key } => Ok((server, key)),
            _ => Err(out_of_turn()),
        }
    }

    /// Tells the process what it will show: the envelope, and which results.
    fn tell(&self, asked: &Asked, shown: &Shown) -> Result<(), Failure> {
        let channel = shown.server.channel()?;
        let envelope = jobs::read(&self.state.job(asked.id())?.join("envelope"))?;
        for piece in envelope.chunks(PIECE) {
            let piece = ToServer::Envelope(piece.to_vec());
            channel.send(&piece).or_fail(Kind::Environment)?;
        }
        for some in self.over(asked, &shown.grant)?.chunks(AT_A_TIME) {
            let some = ToServer::Over(some.to_vec());
            channel.send(&some).or_fail(Kind::Environment)?;
        }
        Ok(())
    }

    /// What is shown over the inputs: what was asked for, of the grant's task if it names one.
    fn over(&self, asked: &Asked, grant: &DebugGrant) -> Result<Vec<Left>, Failure> {
        let Some(wanted) = asked.seen.wanted() else {
            return Ok(Vec::new());
        };
        let task = match (grant.task, asked.task) {
            (Some(granted), Some(task)) if granted != task => {
                let message = format!("the grant is for task {} only", task_name(granted));
                return Err(Failure::new(Kind::Denied, message));
            }
            (granted, task) => granted.or(task),
        };
        if task.is_some_and(|task| !results::has(&asked.job.outline, task)) {
            return Err(Failure::new(Kind::User, "the job has no such task"));
        }
        let attempts = Books::open(&self.state)?.attempts(asked.id())?;
        let all = Results::new(jobs::all_left(&self.state, asked.id())?, &attempts);
        let chosen = all.choose(task, wanted);
        Ok(chosen.into_iter().map(|it| it.left.clone()).collect())
    }

    /// What the log says of a look.
    fn how(&self, asked: &Asked, (shown, _): &(Shown, Stanza)) -> String {
        let what = match (asked.seen, shown.grant.task.or(asked.task)) {
            (Seen::Inputs, _) => "the inputs".to_owned(),
            (seen, task) => {
                let which = match seen {
                    Seen::Attempt(number) => format!("attempt {number}"),
                    Seen::Last => "the last attempt".to_owned(),
                    Seen::Counting | Seen::Inputs => "what counts".to_owned(),
                };
                let of = task.map_or_else(
                    || "all tasks".to_owned(),
                    |it| format!("task {}", task_name(it)),
                );
                format!("the inputs and {which} of {of}")
            }
        };
        let DebugGrant {
            number, operator, ..
        } = &shown.grant;
        let (operator, seconds) = (operator.fingerprint(), shown.seconds);
        format!("mount of {what} by {number} of operator {operator}, for {seconds} s")
    }

    /// Gives the process the key; it serves.
    fn unlock(&self, shown: &Shown, stanza: Stanza) -> Result<(), Failure> {
        let channel = shown.server.channel()?;
        let seconds = shown.seconds;
        let key = ToServer::Key { stanza, seconds };
        channel.send(&key).or_fail(Kind::Environment)?;
        match channel
            .expect::<FromServer>()
            .or_fail(Kind::Environment)?
            .message
        {
            FromServer::Shown => Ok(()),
            FromServer::Failed { reason } => {
                let message = format!("the job cannot be shown: {reason}");
                Err(Failure::new(Kind::Environment, message))
            }
            FromServer::Asks { .. } => Err(out_of_turn()),
        }
    }

    /// The grant's prekey is used: its client is to have another.
    fn replace_prekey(&self, asked: &Asked, shown: &Shown) -> Result<(), Failure> {
        let books = Books::open(&self.state)?;
        let (subject, now) = (shown.grant.number.to_string(), process::now_seconds());
        let ledger = books.ledger();
        books.wait(ledger.add_errand(errand::PREKEY, &subject, asked.id(), now))
    }

    /// Waits for the end of a look, and ends it. Answers what it is put down to, and how that is said.
    fn stand(
        &self,
        operator: &Channel,
        asked: &Asked,
        shown: Shown,
        audit: &AuditWriter,
    ) -> (Cause, &'static str) {
        let begun = Instant::now();
        let limit = Duration::from_secs(shown.seconds);
        let done = Cause::Exited { code: 0 };
        let end = loop {
            let over = (
                Cause::TimedOut {
                    seconds: shown.seconds,
                },
                "the grant has expired",
            );
            if begun.elapsed() >= limit {
                break over;
            }
            if self.ending.load(Ordering::Relaxed) {
                break (Cause::Canceled, "the site is not served any more");
            }
            match self.holds(asked, &shown) {
                Ok(true) => {}
                Ok(false) => break (Cause::Canceled, "the client revoked it"),
                Err(_) => break (Cause::Canceled, "it cannot be told whether the grant holds"),
            }
            let Ok(server) = shown.server.channel() else {
                break (Cause::ViewLost, "the process that showed it is gone");
            };
            let watched = [operator.as_fd(), server.as_fd(), audit.watch()];
            let mut polled = watched.map(|end| PollFd::new(end, PollFlags::POLLIN));
            let wait = limit.saturating_sub(begun.elapsed()).as_millis();
            let wait = u16::try_from(wait).unwrap_or(u16::MAX).min(CHECK);
            let heard = poll(&mut polled, PollTimeout::from(wait)).is_ok_and(|count| count > 0);
            let says = |at: usize| heard && polled[at].any().unwrap_or(false);
            if says(2) {
                break (Cause::AuditLost, "its log cannot be written");
            } else if says(1) && begun.elapsed() + ITS_OWN >= limit {
                break over;
            } else if says(1) {
                break (done, "it was unmounted");
            } else if says(0) {
                break (done, "its operator went away");
            }
        };
        drop(shown);
        end
    }

    /// True as long as the client has revoked neither the grant nor is itself trusted no longer, nor is another.
    fn holds(&self, asked: &Asked, shown: &Shown) -> Result<bool, Failure> {
        let revoked = warden::is_withdrawn(&self.state, asked.client(), shown.grant.number)?;
        let client = warden::enrolled_client(&self.state, asked.client());
        Ok(!revoked && client.is_ok_and(|key| key == shown.client))
    }
}

/// The descriptor, if it is one of `/dev/fuse`: whatever else somebody hands over is none of ours to read.
fn fuse(device: OwnedFd) -> Result<OwnedFd, Failure> {
    let file = File::from(device);
    let metadata = file.metadata().or_fail(Kind::User)?;
    let number = (
        nix::sys::stat::major(metadata.rdev()),
        nix::sys::stat::minor(metadata.rdev()),
    );
    if metadata.file_type().is_char_device() && number == FUSE {
        return Ok(file.into());
    }
    Err(Failure::new(
        Kind::User,
        "what came with the grant is no mount",
    ))
}

fn out_of_turn() -> Failure {
    Failure::new(Kind::User, "the site was spoken to out of turn")
}
