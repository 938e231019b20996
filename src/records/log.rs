//! Which logs a job has, and how each is opened.
//!
//! Besides the job's own log on this host there is one of each session that a node ran, and one of each release of the key, which came
//! home as objects that [`Left`] names. An object is what its hash says; that it is the log of the session that it is named for, its
//! header says. A release that nothing was left of is in a file of this host.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use safelight_audit::{Checkpoint, Error, Finding, Header, Reader, Report, Statement, pass::begin};
use safelight_policies::id::{JobId, ObjectId, SessionId, SiteName, TaskId};
use safelight_vfs::area::Area;

use super::{
    index::{Against, Index, Sound, Stamp, Telling, WORTH, sound},
    joined::{self, Bytes, Unfit},
    name::{Name, Run, Runs},
    reading::Records,
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs::{self, Left},
    looked,
    opened::OpenedJob,
    run::Books,
    state::{LogOf, State},
};

/// A log that was not written for this long is worth an index.
const QUIET: Duration = Duration::from_secs(2);

/// Where a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    File(PathBuf),
    /// Its parts, in order.
    Objects(Vec<ObjectId>),
}

/// One of a job's logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) name: Name,
    at: At,
}

/// How a failure of a log that cannot be read is said.
fn unfit_of(unfit: Unfit, job: JobId, name: Name) -> Failure {
    match unfit {
        Unfit::Changed(how) => changed_log(job, name, how),
        Unfit::Failed(failure) => failure,
    }
}

/// The logs of a job, the job's own first, then by task and attempt.
pub(crate) struct Logs<'a> {
    opened: &'a OpenedJob,
    /// The state of the job's own log that the ledger noted.
    pub(crate) anchor: Option<Checkpoint>,
    runs: Runs,
    sites: BTreeMap<SessionId, SiteName>,
    /// Where indexes are kept; none if the logs have no place.
    indexes: Option<PathBuf>,
    all: Vec<Log>,
}

impl<'a> Logs<'a> {
    /// Finds the logs of a job. Opens none, and misses none: one that is gone fails when it is opened.
    pub(crate) fn of(state: &State, opened: &'a OpenedJob) -> Result<Self, Failure> {
        let job = opened.job();
        let books = Books::open(state)?;
        // The anchor first: the log may grow while it is read, but never shrinks below it.
        let anchor = books.checkpoint(job)?;
        let lefts = jobs::all_left(state, job)?;
        let mut runs: Runs = books
            .attempts(job)?
            .into_iter()
            .map(|attempt| (attempt.session, (attempt.task, attempt.attempt)))
            .collect();
        runs.extend(
            lefts
                .iter()
                .map(|left| (left.session, (left.task, left.attempt))),
        );
        let sites = lefts
            .iter()
            .filter_map(|left| left.site.clone().map(|site| (left.session, site)));
        let looks = looked::all(state, job)?;
        let sites = looks
            .iter()
            .map(|it| (it.session, it.site.clone()))
            .chain(sites)
            .collect();
        let own = state.audit_log(&opened.envelope.outline.client, job, LogOf::Job)?;
        let mut all = left_logs(&opened.area, &lefts)?;
        all.extend(looks.into_iter().map(|look| {
            let (of, session) = (None, look.session);
            let name = Name::Look(Run { of, session });
            let at = At::Objects(look.audit);
            Log { name, at }
        }));
        if let Some(directory) = own.parent() {
            all.extend(logs_beside(directory, job, &lefts, &runs)?);
        }
        all.sort_by_key(|log| log.name.run());
        // A job's own log begins when something happens to the job on this host. Without any other log, that there is none is the answer.
        if anchor.is_some() || all.is_empty() || has_bytes(&own) {
            let name = Name::Job;
            let at = At::File(own.clone());
            all.insert(0, Log { name, at });
        }
        Ok(Self {
            opened,
            anchor,
            runs,
            sites,
            indexes: own.parent().map(|directory| directory.join("index")),
            all,
        })
    }

    /// Only those that may tell of a task.
    pub(crate) fn only(mut self, task: Option<TaskId>) -> Self {
        if let Some(task) = task {
            self.all.retain(|log| log.name.tells_of(task));
        }
        self
    }

    /// The logs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Log> {
        self.all.iter()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The job.
    pub(crate) fn job(&self) -> JobId {
        self.opened.job()
    }

    /// Opens a log's records.
    pub(crate) fn records(&self, log: &Log) -> Result<Records<'_, Bytes>, Failure> {
        let unfit = |unfit: Unfit| unfit_of(unfit, self.job(), log.name);
        let reader = Reader::open(self.open(log).map_err(unfit)?)
            .map_err(|error| unreadable(self.job(), log.name, &error))?;
        let name = self.name(log, reader.header()).map_err(unfit)?;
        let anchor = self.anchor.filter(|_| name == Name::Job);
        let site = name.run().and_then(|run| self.sites.get(&run.session));
        let of = (self.job(), name);
        Records::new(reader, of, &self.runs, &self.opened.key, anchor)
            .map(|records| records.left_by(site))
    }

    /// The index of a large log that is whole and is not being written; it is made if there is none.
    pub(super) fn index(&self, log: &Log) -> Option<Index<'_>> {
        let (of, file) = match &log.at {
            At::File(path) => (
                self.settled(log.name, path)?,
                path.file_name()?.to_str()?.to_owned(),
            ),
            At::Objects(parts) => {
                let len = |part: &ObjectId| self.opened.area.len(*part).ok()?;
                let len: u64 = parts.iter().map(len).sum::<Option<u64>>()?;
                let name = format!("{}.{}", self.job(), parts.first()?);
                let of = Stamp::Objects(parts.clone());
                (of, Some(name).filter(|_| len >= WORTH)?)
            }
        };
        let path = self.indexes.as_ref()?.join(format!("{file}.index"));
        let anchor = self.anchor.filter(|_| log.name == Name::Job);
        let telling = Telling {
            name: log.name,
            runs: &self.runs,
            site: log.name.run().and_then(|run| self.sites.get(&run.session)),
            key: &self.opened.key,
        };
        let named = |header: &Header| self.name(log, header).ok();
        if let Some(index) = Index::open(&path, telling, (&of, anchor), named) {
            return Some(index);
        }
        let mut bytes = self.open(log).ok()?;
        let (header, _) = begin(&mut bytes).ok()?;
        let telling = Telling {
            name: named(&header)?,
            ..telling
        };
        Index::make(&path, telling, bytes, (of, anchor))
    }

    /// The stamp of a large file that nobody has written for a while.
    fn settled(&self, name: Name, path: &Path) -> Option<Stamp> {
        let file = self.open_file(name, path).ok()?;
        let metadata = file.metadata().ok()?;
        let quiet = metadata.modified().ok()?.elapsed().ok()? >= QUIET;
        (quiet && metadata.len() >= WORTH).then(|| Stamp::of(&file).ok())?
    }

    /// Checks a log in every respect at once; `None` if anything is wrong with it, which others then name.
    pub(crate) fn sound<'s>(
        &self,
        log: &Log,
        statements: impl FnOnce(&[u8; 16]) -> &'s [Statement],
    ) -> Option<(Name, Sound)> {
        let mut bytes = self.open(log).ok()?;
        let (header, _) = begin(&mut bytes).ok()?;
        let name = self.name(log, &header).ok()?;
        let against = Against {
            key: &self.opened.key,
            only: name.run().map(|run| run.session),
            anchor: self.anchor.filter(|_| name == Name::Job),
            statements: statements(&header.log),
        };
        sound(bytes, against).map(|sound| (name, sound))
    }

    /// The bytes of a log.
    pub(crate) fn bytes(&self, log: &Log) -> Result<Bytes, Failure> {
        self.open(log)
            .map_err(|unfit| unfit_of(unfit, self.job(), log.name))
    }

    /// The id that a log's header bears.
    pub(crate) fn id(&self, log: &Log) -> Result<[u8; 16], Failure> {
        let reader = Reader::open(self.bytes(log)?);
        let reader = reader.map_err(|error| unreadable(self.job(), log.name, &error))?;
        Ok(reader.header().log)
    }

    /// Verifies a log from its beginning. Answers what it is as well.
    pub(crate) fn check(&self, log: &Log) -> Result<(Name, Report), Unfit> {
        let anchor = self.anchor.filter(|_| log.name == Name::Job);
        let report = safelight_audit::verify(self.open(log)?, anchor)
            .or_fail(Kind::Environment)
            .map_err(Unfit::Failed)?;
        let name = match &report.header {
            Some(header) if !report.findings.contains(&Finding::HeaderChanged) => {
                self.name(log, header)?
            }
            _ => log.name,
        };
        Ok((name, report))
    }

    /// What a log is by its header, which must be a log of this job, and of the session that left it.
    fn name(&self, log: &Log, header: &Header) -> Result<Name, Unfit> {
        let job = self.job();
        if header.job != job || header.client != self.opened.envelope.outline.client {
            let other = format!("it is the log of {}", header.job);
            return Err(Unfit::Changed(other));
        }
        let is = |which: LogOf| header.log == which.id(job);
        match log.name {
            Name::Job => Ok(Name::Job),
            Name::Left(run) if is(LogOf::Session(run.session)) => Ok(Name::Session(run)),
            Name::Left(run) | Name::Release(run) if is(LogOf::Release(run.session)) => {
                Ok(Name::Release(run))
            }
            Name::Look(run) if is(LogOf::Look(run.session)) => Ok(Name::Look(run)),
            _ => Err(Unfit::Changed("it is another log".to_owned())),
        }
    }

    fn open(&self, log: &Log) -> Result<Bytes, Unfit> {
        match &log.at {
            At::File(path) => self.open_file(log.name, path).map(Bytes::File),
            At::Objects(parts) => joined::open(&self.opened.area, parts),
        }
    }

    /// A log that was noted and is not there any more was removed. One that was never noted and is empty has not begun: its writer died
    /// before it wrote a byte.
    fn open_file(&self, name: Name, path: &Path) -> Result<File, Unfit> {
        let failed = |error: io::Error| {
            let message = format!("cannot read {}: {error}", path.display());
            Unfit::Failed(Failure::new(Kind::Environment, message))
        };
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let what = match file {
            Ok(file) if file.metadata().map_err(failed)?.len() > 0 => return Ok(file),
            Ok(_) => "empty",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "gone",
            Err(error) => return Err(failed(error)),
        };
        Err(match (name, self.anchor) {
            (Name::Job, None) => {
                let message = format!("{} has no audit log yet", self.job());
                Unfit::Failed(Failure::new(Kind::User, message))
            }
            _ => Unfit::Changed(format!("its file is {what}")),
        })
    }
}

fn has_bytes(path: &Path) -> bool {
    // What is there but is no file is opened, and fails there.
    fs::symlink_metadata(path).is_ok_and(|there| !there.is_file() || there.len() > 0)
}

fn left_logs(area: &Area, lefts: &[Left]) -> Result<Vec<Log>, Failure> {
    let mut all = Vec::new();
    for left in lefts {
        let of = Some((left.task, left.attempt));
        let session = left.session;
        let name = Name::Left(Run { of, session });
        let logs = joined::logs(area, &left.audit)?.into_iter();
        all.extend(logs.map(|parts| Log {
            name,
            at: At::Objects(parts),
        }));
    }
    Ok(all)
}

/// The releases of a job's key and the looks at it that are in files of this host and not, byte for byte, among what was left.
fn logs_beside(
    directory: &Path,
    job: JobId,
    lefts: &[Left],
    runs: &Runs,
) -> Result<Vec<Log>, Failure> {
    let failed = |error: io::Error| {
        let message = format!("cannot read {}: {error}", directory.display());
        Failure::new(Kind::Environment, message)
    };
    let left: BTreeMap<SessionId, &Left> = lefts.iter().map(|left| (left.session, left)).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some((session, name)) = beside(&path, job) else {
            continue;
        };
        // Empty: its writer died before it wrote a byte. What is no file fails when it is opened.
        if !has_bytes(&path) || left.get(&session).is_some_and(|left| holds(left, &path)) {
            continue;
        }
        let of = runs.get(&session).copied();
        let name = name(Run { of, session });
        let at = At::File(path);
        found.push(Log { name, at });
    }
    Ok(found)
}

/// What a log of a session is called.
type Which = fn(Run) -> Name;

/// The session of a log that lies beside the job's own, and which it is, by the name of its file.
fn beside(path: &Path, job: JobId) -> Option<(SessionId, Which)> {
    let name = path.file_name()?.to_str()?;
    let rest = name.strip_prefix(&job.to_string())?.strip_prefix('.')?;
    let (session, kind) = rest.split_once('.')?;
    let which: Which = match kind {
        "key.log" => Name::Release,
        "look.log" => Name::Look,
        _ => return None,
    };
    Some((session.parse().ok()?, which))
}

fn holds(left: &Left, path: &Path) -> bool {
    jobs::read(path).is_ok_and(|bytes| left.audit.contains(&safelight_bundle::object_id(&bytes)))
}

/// The failure of a job's records that are not as they were written.
pub(crate) fn changed(job: JobId, how: impl fmt::Display) -> Failure {
    Failure::new(Kind::Denied, format!("the log of {job} was changed: {how}"))
}

/// The same, of one of its logs.
pub(crate) fn changed_log(job: JobId, name: Name, how: impl fmt::Display) -> Failure {
    match name {
        Name::Job => changed(job, how),
        name => changed(job, format!("{name}: {how}")),
    }
}

pub(super) fn unreadable(job: JobId, name: Name, error: &Error) -> Failure {
    match error {
        Error::Damaged { .. } | Error::NotALog => {
            changed_log(job, name, error).hint(format!("safelight audit verify {job}"))
        }
        Error::Version { .. } => Failure::from_error(Kind::Config, error),
        _ => Failure::from_error(Kind::Environment, error),
    }
}
