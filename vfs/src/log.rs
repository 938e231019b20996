//! Where a view's records go.

use safelight_policies::{event::Access, id::ObjectId};

/// The log did not take a record. Nothing may be answered any more.
#[derive(Debug, thiserror::Error)]
#[error("the audit log does not take records")]
pub struct Lost;

/// Takes records. When `record` returns `Ok`, the record is in another process and outlives this one.
pub trait Log: Send + Sync + std::fmt::Debug {
    /// Takes one record.
    fn record(&self, access: Access) -> Result<(), Lost>;

    /// An object of the area did not verify; the record about the path follows by `record`.
    fn not_authentic(&self, object: ObjectId);
}
