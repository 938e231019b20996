//! The ledger as it is at one moment, in another file.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{SqliteLedger, statements::failed};
use crate::Error;

impl SqliteLedger {
    /// Writes the ledger as it is now into a new file, for its owner only, durably. Who changes it meanwhile does not wait.
    pub async fn backup(&self, to: &Path) -> Result<(), Error> {
        let open = |source| Error::Open {
            path: to.to_owned(),
            source,
        };
        // SQLite takes an empty file for a new one, and leaves its mode alone.
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(to);
        made.map_err(open)?;
        let mut connection = self.connection.lock().await;
        let name = to
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| open(std::io::Error::other("the path is not UTF-8")))?;
        let query = sqlx::query("VACUUM INTO ?").bind(name);
        query.execute(&mut *connection).await.map_err(failed)?;
        File::open(to)
            .and_then(|file| file.sync_all())
            .map_err(open)
    }
}
