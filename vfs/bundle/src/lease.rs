//! The lease as a signed document. Signed by the schedule server, checked by the key warden and by the node.

use safelight_policies::{
    id::{Fence, VerifyKey},
    lease::Lease,
    outline::BATCH_MAX,
};

use crate::{Document, Error};

impl Document for Lease {
    const CONTEXT: &'static str = "lease";
    const BYTES_MAX: usize = 1024;

    fn check(&self, _signer: &VerifyKey) -> Result<(), Error> {
        if self.attempt == 0 || self.fence == Fence(0) {
            return Err(Error::NotValid {
                kind: Self::CONTEXT,
                reason: "attempts and fences count from one",
            });
        }
        let last = self.task.task.checked_add(u64::from(self.tasks));
        if self.tasks == 0 || self.tasks > BATCH_MAX || last.is_none() {
            return Err(Error::NotValid {
                kind: Self::CONTEXT,
                reason: "a session has no task or more than 1,024",
            });
        }
        Ok(())
    }
}
