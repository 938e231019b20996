//! The schema, and how a ledger is opened or made.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{
    statements::{Change, Sql, begin, failed},
    upgrade,
};
use crate::Error;

/// "SLLG": marks the file as ours.
const APPLICATION: i64 = 0x534c_4c47;

/// The schema that this program writes.
const SCHEMA_VERSION: i64 = 5;

/// How long a change waits for another process's change.
const BUSY: Duration = Duration::from_secs(10);

/// The first version.
const SCHEMA_1: &str = "
CREATE TABLE job (
    id TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    outline TEXT NOT NULL,
    envelope TEXT NOT NULL,
    state TEXT NOT NULL,
    submitted_at INTEGER NOT NULL,
    audit_records INTEGER,
    audit_chain BLOB
) STRICT;
CREATE TABLE attempt (
    fence INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES job (id),
    step INTEGER NOT NULL,
    task INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    session TEXT NOT NULL UNIQUE,
    node TEXT NOT NULL,
    slot INTEGER NOT NULL,
    leased_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    state TEXT NOT NULL,
    ended_at INTEGER,
    cause TEXT,
    result TEXT,
    audit_records INTEGER,
    audit_chain BLOB,
    UNIQUE (job, step, task, attempt)
) STRICT;
CREATE UNIQUE INDEX one_result ON attempt (job, step, task) WHERE state = 'committed';
CREATE UNIQUE INDEX one_runs ON attempt (job, step, task) WHERE state = 'running';
PRAGMA application_id = 0x534c4c47;
PRAGMA user_version = 1;
";

/// Opens a ledger, or makes it, for its owner only.
pub(super) async fn open(path: &Path) -> Result<SqliteConnection, Error> {
    let _alone = take_turn(path).await?;
    require_private(path)?;
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .connect()
        .await
        .map_err(failed)?;
    prepare(&mut connection, path).await?;
    Ok(connection)
}

/// Waits until no other process opens the ledger: SQLite does not wait when two make one file a write-ahead log at once.
///
/// Locks a file beside the ledger. To lock the ledger would be wrong: closing any descriptor of it gives up the locks that SQLite holds in
/// this process (fcntl(2), "advisory record locking").
async fn take_turn(path: &Path) -> Result<File, Error> {
    let mut name = path.to_owned().into_os_string();
    name.push(".lock");
    let lock = move || {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(name)?;
        file.lock()?;
        Ok(file)
    };
    let locked = tokio::task::spawn_blocking(lock).await;
    locked
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
        .map_err(|source| cannot_open(path, source))
}

/// Makes the file if there is none, and checks that nobody else may open it. SQLite gives the files that it makes beside the ledger the
/// ledger's own mode.
fn require_private(path: &Path) -> Result<(), Error> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(cannot_open(path, error));
        }
        _ => {}
    }
    let mode = path
        .metadata()
        .map_err(|source| cannot_open(path, source))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn cannot_open(path: &Path, source: io::Error) -> Error {
    Error::Open {
        path: path.to_owned(),
        source,
    }
}

async fn prepare(connection: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    let mut change = begin(connection).await?;
    let application = pragma(&mut change, sqlx::query("PRAGMA application_id")).await?;
    let found = pragma(&mut change, sqlx::query("PRAGMA user_version")).await?;
    let tables = pragma(
        &mut change,
        sqlx::query("SELECT count(*) FROM sqlite_schema"),
    )
    .await?;
    match (application, found) {
        (0, 0) if tables == 0 => {
            run(&mut change, SCHEMA_1).await?;
            take_from(&mut change, 1).await?;
            change.commit().await.map_err(failed)
        }
        (APPLICATION, 1..SCHEMA_VERSION) => {
            take_from(&mut change, found).await?;
            change.commit().await.map_err(failed)
        }
        (APPLICATION, SCHEMA_VERSION) => Ok(()),
        (APPLICATION, found) if found > SCHEMA_VERSION => Err(Error::Newer {
            path: path.to_owned(),
            found,
            known: SCHEMA_VERSION,
        }),
        _ => Err(Error::NotALedger {
            path: path.to_owned(),
        }),
    }
}

/// Takes a ledger of this version through all that came after it.
async fn take_from(change: &mut Change<'_>, version: i64) -> Result<(), Error> {
    let scripts = [upgrade::TO_2, upgrade::TO_3, upgrade::TO_4, upgrade::TO_5];
    for (to, script) in (2..).zip(scripts) {
        if to > version {
            run(change, script).await?;
        }
    }
    Ok(())
}

async fn run(change: &mut Change<'_>, script: &'static str) -> Result<(), Error> {
    let done = sqlx::raw_sql(script).execute(&mut **change).await;
    done.map(drop).map_err(failed)
}

async fn pragma(change: &mut Change<'_>, query: Sql) -> Result<i64, Error> {
    let row = query.fetch_one(&mut **change).await.map_err(failed)?;
    row.try_get(0).map_err(failed)
}
