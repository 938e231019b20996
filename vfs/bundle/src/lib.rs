//! Envelopes, leases, prekeys and letters, and the hot folders that carry them with their blobs. Verifies, and cannot open anything sealed.
//!
//! A document is decoded only after its signature holds for the key that the caller expects, and handed out only after it was checked.
//! What a medium delivers counts once every blob is there with the hash that is its name, and once only.
#![forbid(unsafe_code)]

mod announcement;
mod bucket;
mod directory;
mod ended;
mod envelope;
mod error;
mod grant;
mod inbox;
mod judge;
mod lease;
mod letter;
mod list;
mod look;
mod medium;
mod name;
mod objects;
mod outbox;
mod outline;
mod packed;
mod patience;
mod place;
mod prekey;
mod prekeys;
mod receipt;
mod refusal;
mod register;
mod result;
mod seq;
pub mod signed;
mod take;
pub mod window;

pub use announcement::{Announcement, Cancel};
pub use bucket::{Bucket, Store, StoreError};
pub use directory::{Aside, Directory, MARKER};
pub use ended::{JobEnded, Outcome};
pub use envelope::{ENVELOPE_VERSION, Envelope, LIFE_MAX, SKEW};
pub use error::Error;
pub use grant::{DebugGrant, GRANT_LIFE_MAX, GRANT_VERSION, NotNow, Revocation};
pub use inbox::{Alarm, Delivery, Inbox, InboxError, Keeper, Owed, Refused, Report, Waiting, Why};
pub use judge::{Judgement, Later, Limits, Opened, Peer, Role, Trust, judge};
pub use letter::{AnyLetter, Kind, Letter, Load};
pub use list::{BLOB_MAX, BLOBS_MAX, BlobList, LIST_BYTES_MAX, ListError};
pub use look::{LOOK_PARTS_MAX, LookNotice};
pub use medium::{Blob, Entry, Medium, MediumError, Reason, What};
pub use name::{EntryName, ReadyName};
pub use objects::{Areas, Batch, Objects};
pub use outbox::{Collected, Held, Item, Journal, Numbers, Outbox, OutboxError, Posted, Pushed};
pub use packed::{PACKED_MAX, Packed, PackedResult};
pub use place::{Place, PlaceError};
pub use prekey::Prekey;
pub use prekeys::{PREKEYS_MAX, PrekeyBatch};
pub use receipt::{Heartbeat, Receipt, Verdict};
pub use refusal::{Code, Refusal};
pub use register::{ENTRIES_MAX, RegisterNotice};
pub use result::ResultNotice;
pub use seq::{Epoch, Seq, Stamp};
pub use signed::{Document, claimed_signer, open, seal};
pub use window::Windows;

/// The name of an object with these bytes.
pub fn object_id(bytes: &[u8]) -> safelight_policies::id::ObjectId {
    safelight_policies::id::ObjectId(blake3::hash(bytes).into())
}
