//! Whether a letter, the list that it names and the envelope that it brings tell one story.

use std::io;

use safelight_policies::id::ObjectId;

use crate::{
    AnyLetter, BlobList, Document, Envelope, Opened, Refusal, open, signed::HEAD, take::Stop,
};

/// The most bytes of a signed envelope.
pub(super) const ENVELOPE_MAX: u64 = (HEAD + Envelope::BYTES_MAX) as u64;

/// Checks that a letter, its list and its envelope tell one story; returns the envelope of a job.
pub(super) fn agreed(
    opened: &Opened,
    list: &BlobList,
    read: impl FnOnce(ObjectId) -> io::Result<Vec<u8>>,
) -> Result<Option<(Envelope, Vec<u8>)>, Stop> {
    let disagrees = |reason| Err(Stop::Refused(Refusal::Disagrees { reason }));
    match &opened.letter {
        AnyLetter::Job(job) => {
            if list
                .len_of(job.envelope)
                .is_none_or(|len| len > ENVELOPE_MAX)
            {
                return disagrees("the envelope is not in the list, or is too long");
            }
            let bytes = read(job.envelope).map_err(Stop::Objects)?;
            let Ok(envelope) = open::<Envelope>(&bytes, &opened.name.from) else {
                return disagrees("the envelope is not one of the sender");
            };
            match job.disagreement(&envelope, list) {
                Some(reason) => disagrees(reason),
                None => Ok(Some((envelope, bytes))),
            }
        }
        AnyLetter::Result(result) => match result.disagreement(list) {
            Some(reason) => disagrees(reason),
            None => Ok(None),
        },
        AnyLetter::Look(look) => match look.disagreement(list) {
            Some(reason) => disagrees(reason),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}
