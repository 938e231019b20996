//! What is to be done with a letter: one decision, from its bytes, whom we trust, what was read before, and the time. Pure.
//!
//! The order of the checks is the order of what they cost and reveal: nothing unsigned is decoded, nothing of a stranger is answered.

use std::collections::HashMap;

use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{
    AnyLetter, BLOB_MAX, BLOBS_MAX, Error, Kind, ReadyName, Refusal, SKEW, Verdict, Windows,
    claimed_signer, object_id,
    signed::HEAD,
    window::{HELD_MAX, Seen},
};

/// How far in the future a letter may be from to be kept waiting, in seconds. One that is further ahead is refused.
const AHEAD_MAX: u64 = 86_400;

/// What a sender is to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends jobs.
    Client,
    /// Sends prekeys and results.
    Site,
}

impl Role {
    /// True if a sender of this role may send a letter of this kind.
    pub const fn may_send(self, kind: Kind) -> bool {
        match kind {
            Kind::Job | Kind::Cancel | Kind::Revocation => matches!(self, Self::Client),
            Kind::Result | Kind::Prekeys | Kind::Ended | Kind::Register | Kind::Look => {
                matches!(self, Self::Site)
            }
            Kind::Receipt | Kind::Heartbeat => true,
        }
    }
}

/// How much one letter may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most blobs.
    pub blobs: u64,
    /// The most bytes.
    pub bytes: u64,
}

impl Default for Limits {
    /// As much as a list can name.
    fn default() -> Self {
        Self {
            blobs: BLOBS_MAX as u64,
            bytes: BLOBS_MAX as u64 * BLOB_MAX,
        }
    }
}

/// A sender that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// What it may send.
    pub role: Role,
    /// How much of it.
    pub limits: Limits,
}

/// Who reads, and whom it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The reader.
    pub me: VerifyKey,
    /// Who may send.
    pub peers: HashMap<VerifyKey, Peer>,
}

/// A letter that is what it says, from whom it says, for us.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// Where it lay; its parts agree with what is signed.
    pub name: ReadyName,
    /// The hash of the signed letter.
    pub of: ObjectId,
    /// The letter.
    pub letter: AnyLetter,
}

/// Why a good letter cannot be taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later {
    /// It is from this many seconds in the future: a clock is wrong, here or at the sender.
    Clock {
        /// How far.
        ahead: u64,
    },
    /// Too many letters of this sender wait already.
    Crowded,
}

/// What is to be done with a letter.
#[derive(Debug)]
pub enum Judgement {
    /// Fetch what it brings, then settle it.
    Take(Box<Opened>),
    /// It was settled before. The sender is to be told once more what became of it.
    Again {
        /// The letter.
        of: ObjectId,
        /// What became of it.
        verdict: Verdict,
    },
    /// Leave it where it is.
    Later(Later),
    /// Set it aside.
    Refuse {
        /// Why.
        refusal: Refusal,
        /// The letter, if the sender is to be told and the number is now used: it is authentic, for us, and not settled.
        of: Option<ObjectId>,
    },
    /// Set it aside, and tell its sender, who lost count if it is no replay: the same under a new number may be taken. Nothing is marked.
    Renumber {
        /// Why.
        refusal: Refusal,
        /// The letter: authentic, and for us.
        of: ObjectId,
    },
}

/// Judges a letter by its name and its bytes. `now` is in seconds since 1970.
pub fn judge(
    name: &ReadyName,
    bytes: &[u8],
    trust: &Trust,
    windows: &Windows,
    now: u64,
) -> Judgement {
    let refuse = |refusal| Judgement::Refuse { refusal, of: None };
    let (peer, letter) = match authentic(name, bytes, trust) {
        Ok(authentic) => authentic,
        Err(refusal) => return refuse(refusal),
    };
    let of = object_id(bytes);
    let seq = letter.stamp().seq;
    match windows.seen(&name.from, seq, of) {
        Seen::Settled { verdict } => return Judgement::Again { of, verdict },
        Seen::Other { of: other } => {
            return Judgement::Renumber {
                refusal: Refusal::Replayed { of: other },
                of,
            };
        }
        // It may have been accepted, and nobody remembers; what it means is taken once, under whichever number.
        Seen::TooOld => {
            return Judgement::Renumber {
                refusal: Refusal::TooOld,
                of,
            };
        }
        Seen::StaleEpoch => {
            return Judgement::Renumber {
                refusal: Refusal::StaleEpoch,
                of,
            };
        }
        Seen::Held => {}
        Seen::Never if is_crowded(windows, &name.from) => return Judgement::Later(Later::Crowded),
        Seen::Never => {}
    }
    let ahead = letter.stamp().issued.saturating_sub(now);
    if ahead > AHEAD_MAX {
        // Nor is this: a number is not used up by a clock.
        return refuse(Refusal::NotYetValid { ahead });
    }
    if ahead > SKEW {
        return Judgement::Later(Later::Clock { ahead });
    }
    match unwanted(&letter, &peer.limits, now) {
        Some(refusal) => Judgement::Refuse {
            refusal,
            of: Some(of),
        },
        None => Judgement::Take(Box::new(Opened {
            name: *name,
            of,
            letter,
        })),
    }
}

/// Opens a letter that is what its name says.
fn authentic<'a>(
    name: &ReadyName,
    bytes: &[u8],
    trust: &'a Trust,
) -> Result<(&'a Peer, AnyLetter), Refusal> {
    let (from, kind) = (name.from, name.kind);
    let peer = trust
        .peers
        .get(&from)
        .ok_or(Refusal::UnknownSigner { signer: from })?;
    if !peer.role.may_send(kind) {
        return Err(Refusal::NotTheirs { kind });
    }
    let (len, max) = (bytes.len() as u64, kind.bytes_max() as u64);
    if len > max {
        return Err(Refusal::OverLong { len, max });
    }
    if bytes.len() <= HEAD {
        return Err(Refusal::Truncated { len });
    }
    let claimed = claimed_signer(bytes).map_err(unreadable)?;
    if claimed != from
        && trust.peers.contains_key(&claimed)
        && AnyLetter::open(kind, bytes, &claimed).is_ok()
    {
        return Err(Refusal::Misnamed);
    }
    let letter = AnyLetter::open(kind, bytes, &from).map_err(unreadable)?;
    if letter.stamp().to != trust.me {
        return Err(Refusal::WrongRecipient {
            to: letter.stamp().to,
        });
    }
    if name.to != trust.me || letter.stamp().seq != name.seq {
        return Err(Refusal::Misnamed);
    }
    Ok((peer, letter))
}

fn unreadable(source: Error) -> Refusal {
    match source {
        Error::NotSigned | Error::Version { .. } => Refusal::Malformed { source },
        Error::NotAuthentic { .. } | Error::OtherSigner { .. } | Error::TooLong { .. } => {
            Refusal::NotAuthentic { source }
        }
        Error::Encode { .. }
        | Error::Decode { .. }
        | Error::Trailing { .. }
        | Error::NotCanonical { .. }
        | Error::NotValid { .. } => Refusal::NotValid { source },
    }
}

/// Why an authentic letter is never wanted, if it is not.
fn unwanted(letter: &AnyLetter, limits: &Limits, now: u64) -> Option<Refusal> {
    let expires = letter.stamp().expires;
    if now >= expires {
        return Some(Refusal::Expired { ago: now - expires });
    }
    let bytes = letter.load().map_or(0, |load| load.bytes);
    (bytes > limits.bytes).then_some(Refusal::TooManyBytes {
        bytes,
        max: limits.bytes,
    })
}

fn is_crowded(windows: &Windows, from: &VerifyKey) -> bool {
    windows
        .of(from)
        .is_some_and(|window| window.held() >= HELD_MAX)
}
