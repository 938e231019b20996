//! The warden's files. One directory, its user's alone.
//!
//! ```text
//! site.key                 the key that signs prekeys
//! prekeys/<id>             a one-time secret; <id>.job beside it says which job it was used for
//! trust/clients/<alias>    a client's key; trust/nodes/<node>, trust/schedule likewise
//! revoked/<alias>/<grant>  a grant that its client revoked
//! latest                   the latest time that this warden ever judged by, in seconds since 1970
//! released/<job>           fences under which a key was released, appended before each release
//! lock                     held by the warden that judges, claims and notes: there may be several at once
//! ```
//!
//! Everything is on disk before the call that wrote it returns. Erasing overwrites and removes; on a file system or a device that
//! writes elsewhere, the old bytes last until they are reused there, so the store belongs on an encrypted or memory-backed one.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use nix::fcntl::{Flock, FlockArg};
use safelight_bundle::LIFE_MAX;
use safelight_policies::id::{
    ClientAlias, Fence, GrantId, JobId, KemKey, NodeName, TaskId, VerifyKey,
};
use safelight_seal::{
    identity::{KemSecret, SigningSecret},
    random::Random,
};
use zeroize::Zeroizing;

use super::{
    judge::{Known, Prekey},
    look::Granting,
};

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot use {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is malformed")]
    Malformed { path: PathBuf },
    #[error("{path} is not a directory of this user's alone (mode 0700)")]
    NotPrivate { path: PathBuf },
    #[error("no random bytes for a new key")]
    Random { source: safelight_seal::Error },
    #[error("a name to enroll is malformed")]
    Name {
        source: safelight_policies::id::Malformed,
    },
}

/// Whose key is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// A client: its envelopes are believed.
    Client,
    /// A node: keys are released to its view servers.
    Node,
    /// The schedule server: its leases are believed.
    Schedule,
}

/// In seconds.
const DAY: u64 = 86_400;

/// Bytes of a line in `released/<job>`: step, task, fence, little-endian.
const LINE: usize = 20;

/// The open store.
pub(super) struct Store {
    root: PathBuf,
    site: SigningSecret,
}

impl Store {
    /// Opens the store, making its parts and the site's key at first use.
    pub(super) fn open(root: &Path, rng: &dyn Random) -> Result<Self, Error> {
        let metadata = fs::symlink_metadata(root.join(".")).map_err(io_at(root))?;
        let mine = metadata.uid() == nix::unistd::geteuid().as_raw();
        if !metadata.is_dir() || !mine || metadata.mode() & 0o077 != 0 {
            return Err(Error::NotPrivate { path: root.into() });
        }
        for part in [
            "prekeys",
            "trust",
            "trust/clients",
            "trust/nodes",
            "released",
            "revoked",
        ] {
            let path = root.join(part);
            let made = DirBuilder::new().mode(0o700).create(&path);
            made.or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            })
            .map_err(io_at(&path))?;
        }
        let site = site_key(&root.join("site.key"), rng)?;
        Ok(Self {
            root: root.into(),
            site,
        })
    }

    /// The key that signs prekeys.
    pub(super) fn signing(&self) -> &SigningSecret {
        &self.site
    }

    /// Makes a prekey and keeps its secret half.
    pub(super) fn mint(&self, rng: &dyn Random) -> Result<([u8; 16], KemKey), Error> {
        let random = |source| Error::Random { source };
        let mut id = [0; 16];
        rng.fill(&mut id).map_err(random)?;
        let secret = KemSecret::generate(rng).map_err(random)?;
        create(&self.prekey_path(&id), &secret.to_bytes()[..])?;
        Ok((id, secret.public()))
    }

    /// The secret half of a prekey.
    pub(super) fn secret(&self, id: &[u8; 16]) -> Result<Option<KemSecret>, Error> {
        let secret = read_secret(&self.prekey_path(id))?;
        Ok(secret.map(|bytes| KemSecret::from_bytes(&bytes)))
    }

    /// Waits until no other warden is between its judgement and what it notes, and keeps the others waiting until the answer is dropped.
    pub(super) fn hold(&self) -> Result<Flock<File>, Error> {
        let path = self.root.join("lock");
        let file = (OpenOptions::new().write(true).create(true).truncate(false))
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(io_at(&path))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io_at(&path)(errno.into()))
    }

    /// Gives a prekey to a job, for good. Asking again for the same job changes nothing.
    pub(super) fn claim(&self, id: &[u8; 16], job: JobId) -> Result<(), Error> {
        let path = self.claim_path(id);
        match Known::prekey(self, id)? {
            Prekey::Unused => create(&path, job.as_bytes()),
            Prekey::Of(known) if known == job => Ok(()),
            Prekey::Of(_) | Prekey::Gone => Err(Error::Malformed { path }),
        }
    }

    /// Notes that a key is about to be released under this fence.
    pub(super) fn note_release(&self, job: JobId, task: TaskId, fence: Fence) -> Result<(), Error> {
        let path = self.released_path(job);
        let failed = io_at(&path);
        let is_new = !path.exists();
        let mut file = (OpenOptions::new().append(true).create(true).mode(0o600))
            .open(&path)
            .map_err(&failed)?;
        // A line that a crash cut off was never followed by a release.
        let len = file.metadata().map_err(&failed)?.len();
        file.set_len(len - len % LINE as u64).map_err(&failed)?;
        let mut line = [0; LINE];
        line[..4].copy_from_slice(&task.step.to_le_bytes());
        line[4..12].copy_from_slice(&task.task.to_le_bytes());
        line[12..].copy_from_slice(&fence.0.to_le_bytes());
        file.write_all(&line).map_err(&failed)?;
        file.sync_all().map_err(&failed)?;
        if is_new { sync_parent(&path) } else { Ok(()) }
    }

    /// Erases a prekey and what was noted for its job. Erasing again changes nothing; another job's prekey stays.
    pub(super) fn erase(&self, id: &[u8; 16], job: JobId) -> Result<bool, Error> {
        let _alone = self.hold()?;
        if matches!(Known::prekey(self, id)?, Prekey::Of(other) if other != job) {
            return Ok(false);
        }
        for path in [
            self.prekey_path(id),
            self.claim_path(id),
            self.released_path(job),
        ] {
            erase(&path)?;
        }
        Ok(true)
    }

    /// Erases a prekey whose grant never holds again. Another job's stays.
    pub(super) fn forget(&self, id: &[u8; 16], job: JobId) -> Result<(), Error> {
        let _alone = self.hold()?;
        if matches!(Known::prekey(self, id)?, Prekey::Of(other) if other != job) {
            return Ok(());
        }
        erase(&self.prekey_path(id))?;
        erase(&self.claim_path(id))
    }

    /// Notes that a client revoked a grant. What was noted so long ago that no grant of that time holds any more is forgotten.
    pub(super) fn withdraw(&self, client: &ClientAlias, number: GrantId) -> Result<(), Error> {
        let path = withdrawn_path(&self.root, client, number);
        let directory = path.parent().unwrap_or(&self.root);
        let made = DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(directory);
        made.map_err(io_at(directory))?;
        for entry in fs::read_dir(directory).map_err(io_at(directory))? {
            let entry = entry.map_err(io_at(directory))?;
            let age = entry.metadata().and_then(|it| it.modified());
            let age = age.map(|since| since.elapsed().unwrap_or_default());
            if age.is_ok_and(|age| age.as_secs() > LIFE_MAX + DAY) {
                fs::remove_file(entry.path()).map_err(io_at(&entry.path()))?;
            }
        }
        replace(&path, b"")?;
        sync_parent(directory)
    }

    /// Notes the time: from then on nothing is judged by an earlier one.
    pub(super) fn note_time(&self, now: u64) -> Result<(), Error> {
        if now <= Granting::latest(self)? {
            return Ok(());
        }
        replace(&self.root.join("latest"), now.to_string().as_bytes())
    }

    /// Trusts a key; the newest one counts.
    pub(super) fn enroll(&self, role: Role, name: &str, key: &VerifyKey) -> Result<(), Error> {
        let path = trust_path(&self.root, role, name)?;
        let text = format!("{}\n", HEXLOWER.encode(&key.0));
        replace(&path, text.as_bytes())
    }

    /// Trusts a key no longer. One that was never trusted is not trusted either.
    pub(super) fn revoke(&self, role: Role, name: &str) -> Result<(), Error> {
        erase(&trust_path(&self.root, role, name)?)
    }

    fn prekey_path(&self, id: &[u8; 16]) -> PathBuf {
        self.root.join("prekeys").join(HEXLOWER.encode(id))
    }

    fn claim_path(&self, id: &[u8; 16]) -> PathBuf {
        self.prekey_path(id).with_extension("job")
    }

    fn released_path(&self, job: JobId) -> PathBuf {
        self.root.join("released").join(job.to_string())
    }
}

impl Known for Store {
    fn site(&self) -> VerifyKey {
        self.site.public()
    }

    fn schedule(&self) -> Result<Option<VerifyKey>, Error> {
        trusted(&self.root, Role::Schedule, "-")
    }

    fn client(&self, alias: &ClientAlias) -> Result<Option<VerifyKey>, Error> {
        trusted(&self.root, Role::Client, alias.as_str())
    }

    fn node(&self, name: &NodeName) -> Result<Option<VerifyKey>, Error> {
        trusted(&self.root, Role::Node, name.as_str())
    }

    fn prekey(&self, id: &[u8; 16]) -> Result<Prekey, Error> {
        if read(&self.prekey_path(id), 32)?.is_none() {
            return Ok(Prekey::Gone);
        }
        let path = self.claim_path(id);
        let Some(job) = read(&path, 10)? else {
            return Ok(Prekey::Unused);
        };
        let job = <[u8; 10]>::try_from(&job[..]).map_err(|_| Error::Malformed { path })?;
        Ok(Prekey::Of(JobId::from_random(job)))
    }

    fn released(&self, job: JobId, task: TaskId) -> Result<Option<Fence>, Error> {
        let lines = match fs::read(self.released_path(job)) {
            Ok(lines) => lines,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_at(&self.released_path(job))(source)),
        };
        let mut newest = HashMap::new();
        for line in lines.as_chunks::<LINE>().0 {
            let number = |range: std::ops::Range<usize>| {
                let mut le = [0; 8];
                le[..range.len()].copy_from_slice(&line[range]);
                u64::from_le_bytes(le)
            };
            let known: &mut u64 = newest.entry((number(0..4), number(4..12))).or_default();
            *known = number(12..20).max(*known);
        }
        let newest = newest.get(&(u64::from(task.step), task.task));
        Ok(newest.map(|fence| Fence(*fence)))
    }
}

impl Granting for Store {
    fn latest(&self) -> Result<u64, Error> {
        let path = self.root.join("latest");
        let Some(text) = read(&path, 20)? else {
            return Ok(0);
        };
        let text = std::str::from_utf8(&text).ok();
        text.and_then(|text| text.parse().ok())
            .ok_or(Error::Malformed { path })
    }

    fn revoked(&self, client: &ClientAlias, number: GrantId) -> Result<(usize, bool), Error> {
        let path = withdrawn_path(&self.root, client, number);
        let directory = path.parent().unwrap_or(&self.root);
        let count = match fs::read_dir(directory) {
            Ok(entries) => entries.count(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(io_at(directory)(source)),
        };
        let this = path.try_exists().map_err(io_at(&path))?;
        Ok((count, this))
    }
}

/// Where it is noted that a client revoked a grant. An alias and a number are names without a slash.
pub(super) fn withdrawn_path(root: &Path, client: &ClientAlias, number: GrantId) -> PathBuf {
    let revoked = root.join("revoked").join(client.as_str());
    revoked.join(number.to_string())
}

/// The site's key, made at first use. Several processes may be the first at the same time: one makes it, and all use that one.
fn site_key(path: &Path, rng: &dyn Random) -> Result<SigningSecret, Error> {
    if let Some(seed) = read_secret(path)? {
        return Ok(SigningSecret::from_bytes(&seed));
    }
    let site = SigningSecret::generate(rng).map_err(|source| Error::Random { source })?;
    match create(path, &site.to_bytes()[..]) {
        Ok(()) => Ok(site),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            site_key(path, rng)
        }
        Err(error) => Err(error),
    }
}

/// An enrolled key.
pub(super) fn trusted(root: &Path, role: Role, name: &str) -> Result<Option<VerifyKey>, Error> {
    let path = trust_path(root, role, name)?;
    let Some(text) = read(&path, 65)? else {
        return Ok(None);
    };
    let key = text.strip_suffix(b"\n").unwrap_or(&text);
    let key = HEXLOWER
        .decode(key)
        .ok()
        .and_then(|key| key.try_into().ok());
    key.map(|key| Some(VerifyKey(key)))
        .ok_or(Error::Malformed { path })
}

/// Names are checked before they become paths.
fn trust_path(root: &Path, role: Role, name: &str) -> Result<PathBuf, Error> {
    let named = |source| Error::Name { source };
    let trust = root.join("trust");
    Ok(match role {
        Role::Client => trust
            .join("clients")
            .join(ClientAlias::new(name).map_err(named)?.as_str()),
        Role::Node => trust
            .join("nodes")
            .join(NodeName::new(name).map_err(named)?.as_str()),
        Role::Schedule => trust.join("schedule"),
    })
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io {
        path: path.into(),
        source,
    }
}

/// A small file whole, or nothing if there is none. Longer than `max` bytes is malformed.
fn read(path: &Path, max: usize) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_at(path)(source)),
    };
    // Room for one byte more than is read, so that no reallocation leaves a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 64));
    file.take(max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(io_at(path))?;
    if bytes.len() > max {
        return Err(Error::Malformed { path: path.into() });
    }
    Ok(Some(bytes))
}

fn read_secret(path: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, Error> {
    let Some(bytes) = read(path, 32)? else {
        return Ok(None);
    };
    let mut secret = Zeroizing::new([0; 32]);
    if bytes.len() != secret.len() {
        return Err(Error::Malformed { path: path.into() });
    }
    secret.copy_from_slice(&bytes);
    Ok(Some(secret))
}

/// Writes a file beside `path`, on disk and readable by its owner only.
fn beside(path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile, Error> {
    let directory = path.parent().unwrap_or(Path::new("."));
    // A relative directory would be made absolute by its name, whose beginning the warden's user may not be able to walk.
    let directory = Path::new("/proc/self/cwd").join(directory);
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(directory)
        .map_err(io_at(path))?;
    file.write_all(bytes).map_err(io_at(path))?;
    file.as_file().sync_all().map_err(io_at(path))?;
    Ok(file)
}

/// Makes a file that is not there yet, whole or not at all.
fn create(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = beside(path, bytes)?;
    file.persist_noclobber(path)
        .map_err(|error| io_at(path)(error.error))?;
    sync_parent(path)
}

/// Makes a file or takes another's place, whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = beside(path, bytes)?;
    file.persist(path)
        .map_err(|error| io_at(path)(error.error))?;
    sync_parent(path)
}

fn erase(path: &Path) -> Result<(), Error> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_at(path)(source)),
    };
    let len = file.metadata().map_err(io_at(path))?.len();
    io::copy(&mut io::repeat(0).take(len), &mut file).map_err(io_at(path))?;
    file.sync_all().map_err(io_at(path))?;
    fs::remove_file(path).map_err(io_at(path))?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_at(directory))
}

#[cfg(test)]
mod tests;
