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

    /// A program asks for the first time, or under another name: what it comes from is taken while it waits for its answer.
    fn began(&self, _pid: u32, _comm: &str) -> Result<(), Lost> {
        Ok(())
    }

    /// An object of the area did not verify; the record about the path follows by `record`.
    fn not_authentic(&self, object: ObjectId);
}
