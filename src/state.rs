//! Where one host keeps its state, and who may read which part of it.
//!
//! As root every part has its own user: the warden's store, the audit logs, each view server's attempt. The area's objects are readable
//! by the group of the view servers, since they are sealed. As an ordinary user everything is that user's own.

use std::{
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use safelight_policies::id::{ClientAlias, JobId, SessionId};

use crate::failure::{Failure, Kind};

/// Users and groups of our processes as root. High numbers that no distribution hands out; nothing needs an entry in `/etc/passwd`.
pub(crate) mod user {
    const BASE: u32 = 1_520_000_000;
    /// The key warden.
    pub(crate) const WARDEN: u32 = BASE + 1;
    /// The audit writer.
    pub(crate) const AUDIT: u32 = BASE + 2;
    /// The group that reads sealed objects.
    pub(crate) const AREA: u32 = BASE + 3;
    /// The proxy that carries sessions' connections.
    pub(crate) const PROXY: u32 = BASE + 4;
    /// The processes that show a job by a grant.
    pub(crate) const LOOK: u32 = BASE + 5;
    /// The first slot's session; each slot has two.
    const SLOTS: u32 = BASE + 1000;

    /// The user of the session in a slot.
    pub(crate) fn session(slot: u16) -> u32 {
        SLOTS + 2 * u32::from(slot)
    }
    /// The user of the view server of the session in a slot.
    pub(crate) fn view(slot: u16) -> u32 {
        session(slot) + 1
    }
}

/// What an audit log is the log of. Each is written by one writer at a time, so sessions that run at once have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogOf {
    /// Everything that happens to a job on this host, but for what follows.
    Job,
    /// One session, on the node that runs it.
    Session(SessionId),
    /// The release of the job's key into one session, at the site whose warden released it.
    Release(SessionId),
    /// One look at the job from outside a session, which has a session id of its own.
    Look(SessionId),
}

impl LogOf {
    /// The log's id: whose it is, and which.
    pub(crate) fn id(self, job: JobId) -> [u8; 16] {
        let (owner, kind) = match self {
            Self::Job => (job.as_bytes(), 0),
            Self::Session(ref session) => (session.as_bytes(), 1),
            Self::Release(ref session) => (session.as_bytes(), 2),
            Self::Look(ref session) => (session.as_bytes(), 3),
        };
        let mut id = [0; 16];
        id[..10].copy_from_slice(owner);
        id[15] = kind;
        id
    }

    /// The session whose log has this id, if it is a session's.
    pub(crate) fn session_of(id: &[u8; 16]) -> Option<SessionId> {
        let (owner, rest) = id.split_first_chunk::<10>()?;
        (rest == [0, 0, 0, 0, 0, 1]).then(|| SessionId::from_random(*owner))
    }
}

/// The state directory of one host.
#[derive(Debug, Clone)]
pub(crate) struct State {
    root: PathBuf,
    privileged: bool,
}

impl State {
    /// Opens the state directory, making it if need be: `--state`, or the system's place for root's or the user's state.
    pub(crate) fn open(given: Option<&Path>) -> Result<Self, Failure> {
        let privileged = nix::unistd::geteuid().is_root();
        let root = match given {
            Some(path) => std::path::absolute(path).map_err(|error| cannot(path, &error))?,
            None => default_root(privileged)?,
        };
        let state = Self { root, privileged };
        state.directory(&state.root, 0o711, None)?;
        state.directory(&state.root.join("client"), 0o700, None)?;
        state.directory(&state.root.join("site"), 0o700, None)?;
        state.directory(&state.root.join("jobs"), 0o711, None)?;
        state.directory(&state.root.join("area"), 0o711, None)?;
        state.directory(&state.root.join("audit"), 0o700, None)?;
        state.directory(&state.warden(), 0o700, Some((user::WARDEN, user::WARDEN)))?;
        Ok(state)
    }

    /// True if every part has its own user.
    pub(crate) fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The client's own keys.
    pub(crate) fn identity(&self) -> PathBuf {
        self.root.join("client/identity.key")
    }

    /// A key of the site's: `schedule` or `node`.
    pub(crate) fn site_key(&self, name: &str) -> PathBuf {
        self.root.join("site").join(format!("{name}.key"))
    }

    /// OpenJD environment templates that a client's own site puts around every job.
    pub(crate) fn environments(&self) -> PathBuf {
        self.root.join("environments")
    }

    /// The ledger.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger.sqlite")
    }

    /// The warden's store.
    pub(crate) fn warden(&self) -> PathBuf {
        self.root.join("warden")
    }

    /// A client's secure area.
    pub(crate) fn area(&self, client: &ClientAlias) -> Result<PathBuf, Failure> {
        let path = self.root.join("area").join(client.as_str());
        // The group sticks to what is made below, so that view servers can read it.
        self.directory(&path, 0o2750, Some((0, user::AREA)))?;
        Ok(path)
    }

    /// A job's directory.
    pub(crate) fn job(&self, job: JobId) -> Result<PathBuf, Failure> {
        let path = self.root.join("jobs").join(job.to_string());
        self.directory(&path, 0o711, None)?;
        Ok(path)
    }

    /// A session's directory, which belongs to its view server.
    pub(crate) fn session(
        &self,
        job: JobId,
        session: SessionId,
        slot: u16,
    ) -> Result<PathBuf, Failure> {
        let sessions = self.job(job)?.join("sessions");
        self.directory(&sessions, 0o711, None)?;
        let path = sessions.join(session.to_string());
        self.directory(&path, 0o700, Some((user::view(slot), user::AREA)))?;
        Ok(path)
    }

    /// One of a job's audit logs.
    pub(crate) fn audit_log(
        &self,
        client: &ClientAlias,
        job: JobId,
        which: LogOf,
    ) -> Result<PathBuf, Failure> {
        let path = self.root.join("audit").join(client.as_str());
        self.directory(&path, 0o700, None)?;
        Ok(path.join(match which {
            LogOf::Job => format!("{job}.log"),
            LogOf::Session(session) => format!("{job}.{session}.log"),
            LogOf::Release(session) => format!("{job}.{session}.key.log"),
            LogOf::Look(session) => format!("{job}.{session}.look.log"),
        }))
    }

    fn directory(&self, path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(), Failure> {
        let failed = |error: std::io::Error| cannot(path, &error);
        DirBuilder::new()
            .recursive(true)
            .mode(mode & 0o777)
            .create(path)
            .map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        if !metadata.is_dir() {
            return Err(Failure::new(
                Kind::Environment,
                format!("{} is not a directory", path.display()),
            ));
        }
        if let (true, Some((uid, gid))) = (self.privileged, owner)
            && (metadata.uid(), metadata.gid()) != (uid, gid)
        {
            chown(path, Some(uid), Some(gid)).map_err(failed)?;
        }
        if metadata.mode() & 0o7777 != mode {
            fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
        }
        Ok(())
    }
}

fn default_root(privileged: bool) -> Result<PathBuf, Failure> {
    if privileged {
        return Ok(PathBuf::from("/var/lib/safelight"));
    }
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .map(|path| path.join("safelight"))
        .ok_or_else(|| {
            Failure::new(
                Kind::Config,
                "no place for state: neither HOME nor XDG_STATE_HOME is set",
            )
            .hint("name one with --state DIR")
        })
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Kind::Environment,
        format!("cannot prepare {}: {error}", path.display()),
    )
    .hint("name another place with --state DIR")
}
