//! The kinds of errands: what the site loop has yet to do, once for each subject.

/// A session ended here: its results go home. Subject: the session.
pub(super) const RESULT: &str = "result";
/// A result of another site is not what a session of the job made. Subject: the session.
pub(super) const FORGED: &str = "forged";
/// Somebody looked at a job here by a grant: its log goes home. Subject: the look's session.
pub(super) const LOOK: &str = "look";
/// A grant is revoked: the site that it is for is told. Subject: the grant.
pub(crate) const REVOKE: &str = "revoke";
/// Results of another site came: they are stored where they belong. Subject: the session.
pub(super) const DELIVER: &str = "deliver";
/// A letter about a job waits for its receipt. Subject: the letter.
pub(super) const LETTER: &str = "letter";
/// What a session left was sent home. Subject: the session.
pub(super) const SENT: &str = "sent";
/// The letter that says that a job is over here waits for its receipt. Subject: the letter.
pub(super) const FAREWELL: &str = "farewell";
/// A job used a prekey: its client is to have another. Subject: the job.
pub(super) const PREKEY: &str = "prekey";
/// The bundle of a job is announced. Subject: the job. The letter that announces it is a [`LETTER`] errand too.
pub(super) const ANNOUNCE: &str = "announce";
/// A job is to be withdrawn from where it was announced. Subject: the job.
pub(super) const CANCEL: &str = "cancel";
/// The client is to be told that its job is over here. Subject: the job.
pub(super) const END: &str = "end";
/// The other site says that a job is over there. Subject: the job.
pub(super) const ENDED: &str = "ended";
