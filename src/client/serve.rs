//! The client's process: holds the client's key, and does for its site what needs it. One question, one answer.
//!
//! Nothing of a job's names is in an answer, in a reason or on the operator's log: those are the site's, which has no business with them.

use clap::Args;
use safelight_audit::Source;
use safelight_bundle::{Announcement, Cancel, Document, Heartbeat, Letter, Receipt, Revocation};
use safelight_channel::Channel;
use safelight_policies::{
    event::Control,
    id::{JobId, SessionId, VerifyKey},
};
use safelight_seal::{harden::harden, key_file::ClientSecret, random::SystemRandom};

use super::{
    addressing,
    delivery::{self, Delivered},
    notify,
    protocol::{Answer, Ask, DeliveredReport},
};
use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    jobs,
    opened::OpenedJob,
    records, registers,
    site::{Peer, Role},
    state::State,
};

/// The most failures that an answer names: it is one message.
const FAILED_MAX: usize = 100;

/// How the process is started.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    state: StateArgs,
}

/// Answers the parent until it hangs up. A message that is not understood ends the process.
pub(crate) fn run(arguments: &ClientArgs) -> Result<(), Failure> {
    harden().or_fail(Kind::Environment)?;
    let state = State::open(arguments.state.state.as_deref())?;
    let parent = Channel::to_parent().or_fail(Kind::User)?;
    let client = Client {
        secret: jobs::client_secret(&state, &SystemRandom::new())?,
        state,
    };
    while let Some(incoming) = parent.recv::<Ask>().or_fail(Kind::Internal)? {
        let (ask, []) = incoming.exactly::<0>().or_fail(Kind::Internal)?;
        let answer = client.answer(ask).unwrap_or_else(|failure| {
            let (reason, denied) = (failure.message(), failure.kind() == Kind::Denied);
            Answer::Refused { reason, denied }
        });
        parent.send(&answer).or_fail(Kind::Internal)?;
    }
    Ok(())
}

struct Client {
    state: State,
    secret: ClientSecret,
}

impl Client {
    fn answer(&self, ask: Ask) -> Result<Answer, Failure> {
        match ask {
            Ask::Who => self.who(),
            Ask::Sign { context, body } => self.sign(&context, &body),
            Ask::Readdress { job, prekey, site } => {
                let renders = |peer: &Peer| peer.card.role == Role::Remote;
                if !self
                    .peers()?
                    .iter()
                    .any(|peer| renders(peer) && peer.card.letters == site)
                {
                    let message = "the client's process addresses jobs to enrolled sites only";
                    return Err(Failure::new(Kind::Denied, message));
                }
                let addressed =
                    addressing::readdress(&self.state, &self.secret, job, &prekey, &site)?;
                let (envelope, list) = addressed;
                Ok(Answer::Readdressed { envelope, list })
            }
            Ask::Deliver { job, session } => self.deliver(job, session).map(Answer::Delivered),
            Ask::Witness => {
                let alias = jobs::alias(&self.secret.sign.public())?;
                registers::witness(&self.state, &alias).map(|()| Answer::Witnessed)
            }
            Ask::Notify { job, state, at } => {
                notify::tell(&self.state, job, &state, at).map(Answer::Notified)
            }
        }
    }

    /// Whom this site's people enrolled: they are asked, and not the process that asks us.
    fn peers(&self) -> Result<Vec<Peer>, Failure> {
        Peer::all(&self.state)
    }

    fn who(&self) -> Result<Answer, Failure> {
        let key = self.secret.sign.public();
        let alias = jobs::alias(&key)?;
        Ok(Answer::Client { key, alias })
    }

    fn sign(&self, context: &str, body: &[u8]) -> Result<Answer, Failure> {
        let peers = self.peers()?;
        let known = |to: &VerifyKey| peers.iter().any(|peer| peer.card.letters == *to);
        if !is_letter(context, body, &self.secret.sign.public(), known) {
            let message = "the client's process signs its own letters only";
            return Err(Failure::new(Kind::Denied, message));
        }
        let signature = self.secret.sign.sign(context, body);
        Ok(Answer::Signature(signature.to_vec()))
    }

    /// What was delivered once is not looked at again: the files are their owner's since then.
    fn deliver(&self, job: JobId, session: SessionId) -> Result<DeliveredReport, Failure> {
        if let Some(report) = jobs::delivered(&self.state, job, session)? {
            return Ok(report);
        }
        let opened = OpenedJob::open(&self.state, job)?;
        let left = jobs::left(&self.state, job, session)?.filter(|left| left.cause.is_success());
        let left = left.ok_or_else(|| {
            Failure::new(Kind::User, format!("{session} of {job} left no result"))
        })?;
        let homeward = opened.homeward(&self.state)?;
        let before = jobs::all_left(&self.state, job)?;
        let delivered = delivery::deliver(&opened, &left, &homeward, before, false)?;
        let report = report(&delivered);
        if report.failed.is_empty() {
            let note = Control::Delivered {
                files: report.stored,
                kept_aside: report.aside,
            };
            records::note(&self.state, &opened, Source::Home, note)?;
            jobs::write_delivered(&self.state, job, session, &report)?;
        }
        Ok(report)
    }
}

fn report(delivered: &Delivered) -> DeliveredReport {
    DeliveredReport {
        stored: delivered.stored.len() as u64,
        aside: delivered.aside.len() as u64,
        leading_out: delivered.leading_out.len() as u64,
        failed: delivered
            .failed
            .iter()
            .map(|(_, error)| error.to_string())
            .take(FAILED_MAX)
            .collect(),
    }
}

/// True for the bytes of a letter that a client writes, that holds together, and that is for someone who is known.
fn is_letter(
    context: &str,
    body: &[u8],
    signer: &VerifyKey,
    known: impl Fn(&VerifyKey) -> bool,
) -> bool {
    let to = match context {
        Announcement::CONTEXT => recipient::<Announcement>(body, signer),
        Cancel::CONTEXT => recipient::<Cancel>(body, signer),
        Revocation::CONTEXT => recipient::<Revocation>(body, signer),
        Receipt::CONTEXT => recipient::<Receipt>(body, signer),
        Heartbeat::CONTEXT => recipient::<Heartbeat>(body, signer),
        _ => None,
    };
    to.is_some_and(|to| known(&to))
}

/// Whom a letter is for, if it is one.
fn recipient<T: Letter>(body: &[u8], signer: &VerifyKey) -> Option<VerifyKey> {
    if body.len() > T::BYTES_MAX {
        return None;
    }
    match postcard::take_from_bytes::<T>(body) {
        Ok((letter, [])) if letter.check(signer).is_ok() => Some(letter.stamp().to),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use safelight_bundle::{Epoch, Seq, Stamp};

    use super::*;

    fn heartbeat(number: u64) -> Vec<u8> {
        let stamp = Stamp {
            to: VerifyKey([1; 32]),
            seq: Seq {
                epoch: Epoch::new(9, [0; 3]),
                number,
            },
            issued: 10,
            expires: 20,
        };
        let letter = Heartbeat {
            stamp,
            last_seen: None,
        };
        postcard::to_stdvec(&letter).unwrap()
    }

    #[test]
    fn only_a_whole_letter_of_its_own_kind_is_signed() {
        let me = VerifyKey([2; 32]);
        let good = heartbeat(1);
        let is_letter = |context: &str, body: &[u8], me: &VerifyKey| {
            super::is_letter(context, body, me, |to| *to == VerifyKey([1; 32]))
        };
        assert!(is_letter("heartbeat", &good, &me));
        assert!(!super::is_letter("heartbeat", &good, &me, |to| *to == me));
        let more = [good.as_slice(), &[0]].concat();
        let long = vec![0; 4096];
        for (context, body) in [
            ("receipt", good.as_slice()),
            ("heartbeat", more.as_slice()),
            ("heartbeat", &good[..good.len() - 1]),
            ("heartbeat", &heartbeat(0)),
            ("heartbeat", &long),
            ("heartbeat", b""),
            // What a client signs only when it seals a job, and what it never signs.
            ("envelope", good.as_slice()),
            ("manifest", good.as_slice()),
            ("lease", good.as_slice()),
            ("prekey", good.as_slice()),
            ("view key", good.as_slice()),
            ("", good.as_slice()),
        ] {
            assert!(!is_letter(context, body, &me), "{context} {}", body.len());
        }
    }

    #[test]
    fn a_report_names_no_file() {
        let full = || std::io::Error::from_raw_os_error(28);
        let failed = (0..200).map(|_| ("/show/secret.png".into(), full()));
        let delivered = Delivered {
            stored: vec!["/show/secret.png".into()],
            failed: failed.collect(),
            ..Delivered::default()
        };
        let report = report(&delivered);
        assert_eq!((report.stored, report.failed.len()), (1, FAILED_MAX));
        assert!(report.failed[0].starts_with("No space left on device"));
        assert!(!format!("{report:?}").contains("secret"));
    }
}
