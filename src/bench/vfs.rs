//! The file system: our view against the plain disk and other encrypted file systems.
//!
//! All contenders work on the same block device, below one directory, which is gone afterwards.

mod load;
mod memory;
mod peers;
mod sealing;
mod session;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use safelight_seal::{random::SystemRandom, segment::DedupKey};
use safelight_vfs::pack;

use self::{
    load::Data,
    peers::{DISK, GOCRYPTFS, SECUREFS},
    session::{Job, Session},
};
use super::{Better, Goal, HostFacts, OURS, Report, Row, rounds, version_of};
use crate::failure::{Failure, Kind, OrFail};

/// What to measure.
pub(crate) struct Asked {
    /// Where to work: a directory on the block device that is meant.
    pub(crate) directory: PathBuf,
    /// Bytes of the large file.
    pub(crate) size: u64,
    /// Files of the small tree.
    pub(crate) files: usize,
    pub(crate) rounds: usize,
    /// Names of rows; all if it is empty.
    pub(crate) only: Vec<String>,
    /// Bytes that stream through while the memory is watched.
    pub(crate) stream: u64,
    /// Entries that are listed while the memory is watched.
    pub(crate) entries: usize,
}

/// The rows, by the load that measures them together.
const LOADS: &[(&[&str], Load)] = &[
    (&["write", "read-cold-written", "read-warm"], Bench::large),
    (&["read-cold"], Bench::input),
    (&["random-write"], Bench::random),
    (
        &["unpack", "list", "read-small", "delete", "small-files"],
        Bench::small,
    ),
];

/// Measures one figure of ours alone, in a directory of its own.
type Work = fn(&Path, &Asked) -> Result<f64, Failure>;

/// Measures some rows together.
type Load = fn(&mut Bench, &Asked, &mut [Row]) -> Result<(), Failure>;

/// The names of all rows.
pub(crate) fn names() -> Vec<&'static str> {
    let loads = LOADS.iter().flat_map(|(names, _)| names.iter().copied());
    let alone = sealing::NAMES.iter().chain(memory::NAMES);
    loads.chain(alone.copied()).collect()
}

/// A row as it is before it is measured, with the goals that it has.
fn row(name: &'static str) -> Row {
    const PEERS: &[&str] = &[GOCRYPTFS, SECUREFS];
    let rate = |name| Row::new(name, "MB/s", Better::More);
    let time = |name| Row::new(name, "s", Better::Less).goal(Goal::Times(4.0, PEERS));
    match name {
        "write" => rate(name)
            .goal(Goal::Times(2.0, &[GOCRYPTFS]))
            .goal(Goal::Times(0.9, &[DISK])),
        "read-warm" => rate(name).goal(Goal::Times(0.95, &[DISK])),
        "random-write" => rate(name).goal(Goal::Times(2.0, PEERS)),
        "read-cold" | "read-cold-written" => rate(name)
            .goal(Goal::Times(1.5, &[GOCRYPTFS]))
            .goal(Goal::Times(0.9, &[DISK])),
        _ => time(name),
    }
}

/// Somebody who is measured, and where.
struct Contender {
    name: &'static str,
    /// Where it writes.
    root: PathBuf,
    /// The file that it had from the beginning.
    input: PathBuf,
    _held: Held,
}

/// What keeps a contender's mount.
enum Held {
    Nothing,
    Peer { _mounted: peers::Mounted },
    Session { _session: Box<Session> },
}

struct Bench {
    contenders: Vec<Contender>,
    /// Those who are not there, and why.
    absent: Vec<(&'static str, String)>,
    /// An archive of small files.
    archive: PathBuf,
    data: Data,
}

/// Runs the bench.
pub(crate) fn run(asked: &Asked) -> Result<Report, Failure> {
    let directory = fs::canonicalize(&asked.directory)
        .and_then(|at| {
            tempfile::Builder::new()
                .prefix("safelight-bench-")
                .tempdir_in(at)
        })
        .map_err(|error| {
            let at = asked.directory.display();
            Failure::new(Kind::User, format!("cannot work in {at}: {error}"))
        })?;
    // Processes of other users of ours must be able to come in.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(directory.path(), open).or_fail(Kind::Environment)?;
    let host = HostFacts::read(directory.path());
    let wanted = |name: &&str| asked.only.is_empty() || asked.only.iter().any(|one| one == name);
    let mut rows = Vec::new();
    let mut bench = None;
    for (names, load) in LOADS {
        if !names.iter().any(wanted) {
            continue;
        }
        let bench = match &mut bench {
            Some(bench) => bench,
            none => none.insert(Bench::prepare(directory.path(), asked)?),
        };
        let mut measured: Vec<Row> = names.iter().map(|name| row(name)).collect();
        for row in &mut measured {
            for (who, why) in &bench.absent {
                row.absent(who, why.clone());
            }
        }
        load(bench, asked, &mut measured)?;
        rows.extend(measured.into_iter().filter(|row| wanted(&row.name())));
    }
    drop(bench);
    rows.extend(sealing::measure(directory.path(), asked, &wanted)?);
    rows.extend(memory::measure(directory.path(), asked, &wanted)?);
    Ok(Report {
        bench: "vfs",
        host,
        versions: versions(),
        rows,
    })
}

fn versions() -> BTreeMap<&'static str, String> {
    let version = |program, argument| {
        version_of(program, argument).unwrap_or_else(|| "not installed".to_owned())
    };
    BTreeMap::from([
        (GOCRYPTFS, version(GOCRYPTFS, "--version")),
        // It says no version of its own, only those of its libraries.
        (SECUREFS, package(SECUREFS)),
    ])
}

/// The version of a Debian package.
fn package(name: &str) -> String {
    let asked = ["-W", "-f", "${Version}", name];
    let said = Command::new("dpkg-query").args(asked).output();
    match said {
        Ok(said) if said.status.success() => String::from_utf8_lossy(&said.stdout).into_owned(),
        _ if version_of(name, "version").is_some() => "of unknown version".to_owned(),
        _ => "not installed".to_owned(),
    }
}

impl Bench {
    /// Sets every contender up, each with the same large file.
    fn prepare(directory: &Path, asked: &Asked) -> Result<Self, Failure> {
        let mut data = Data::new();
        let plain = directory.join("plain");
        let source = plain.join("in");
        fs::create_dir_all(&source).or_fail(Kind::Environment)?;
        let mut contenders = vec![Contender {
            name: DISK,
            root: plain,
            input: source.join("large"),
            _held: Held::Nothing,
        }];
        load::write(&source.join("large"), asked.size, &mut data).or_fail(Kind::Environment)?;
        contenders.insert(0, ours(directory, &source, asked)?);
        let mut absent = Vec::new();
        for (peer, ask) in [(GOCRYPTFS, "--version"), (SECUREFS, "version")] {
            if version_of(peer, ask).is_none() {
                absent.push((peer, "not installed".to_owned()));
                continue;
            }
            let root = directory.join(peer);
            let mounted = peers::mount(peer, directory, &root)?;
            let input = root.join("in-large");
            load::write(&input, asked.size, &mut data).or_fail(Kind::Environment)?;
            contenders.push(Contender {
                name: peer,
                root,
                input,
                _held: Held::Peer { _mounted: mounted },
            });
        }
        Ok(Self {
            contenders,
            absent,
            archive: archive(directory, asked.files)?,
            data,
        })
    }

    /// Writes a large file, reads it from the disk, and reads it once more.
    fn large(&mut self, asked: &Asked, rows: &mut [Row]) -> Result<(), Failure> {
        let data = &mut self.data;
        let [write, cold, warm] = rows else {
            return Ok(());
        };
        rounds(asked.rounds, &mut self.contenders, |_, contender| {
            let path = contender.root.join("large");
            settle();
            let took = load::write(&path, asked.size, data).or_fail(Kind::Environment)?;
            write.sample(contender.name, rate(asked.size, took));
            if drop_caches() {
                let (bytes, took) = load::read(&path).or_fail(Kind::Environment)?;
                cold.sample(contender.name, rate(bytes, took));
            } else {
                cold.absent(contender.name, "only root can empty the page cache");
                load::read(&path).or_fail(Kind::Environment)?;
            }
            let (bytes, took) = load::read(&path).or_fail(Kind::Environment)?;
            warm.sample(contender.name, rate(bytes, took));
            fs::remove_file(&path).or_fail(Kind::Environment)
        })
    }

    /// Reads what each had from the beginning: for us, sealed inputs.
    fn input(&mut self, asked: &Asked, rows: &mut [Row]) -> Result<(), Failure> {
        let [cold] = rows else { return Ok(()) };
        rounds(asked.rounds, &mut self.contenders, |_, contender| {
            if !drop_caches() {
                cold.absent(contender.name, "only root can empty the page cache");
                return Ok(());
            }
            let (bytes, took) = load::read(&contender.input).or_fail(Kind::Environment)?;
            cold.sample(contender.name, rate(bytes, took));
            Ok(())
        })
    }

    /// Writes every page of a file once, in random order.
    fn random(&mut self, asked: &Asked, rows: &mut [Row]) -> Result<(), Failure> {
        let data = &mut self.data;
        let [row] = rows else { return Ok(()) };
        let size = (asked.size / 4).next_multiple_of(load::PAGE as u64);
        rounds(asked.rounds, &mut self.contenders, |round, contender| {
            let path = contender.root.join("random");
            load::write(&path, size, data).or_fail(Kind::Environment)?;
            settle();
            let took = load::write_pages(&path, round as u64 + 1).or_fail(Kind::Environment)?;
            row.sample(contender.name, rate(size, took));
            fs::remove_file(&path).or_fail(Kind::Environment)
        })
    }

    /// Unpacks an archive of small files, lists them, reads them, and deletes them.
    fn small(&mut self, asked: &Asked, rows: &mut [Row]) -> Result<(), Failure> {
        let archive = self.archive.as_path();
        let [unpack, listing, read, delete, all] = rows else {
            return Ok(());
        };
        rounds(asked.rounds, &mut self.contenders, |_, contender| {
            let root = contender.root.join("small");
            fs::create_dir(&root).or_fail(Kind::Environment)?;
            settle();
            let mut total = Duration::ZERO;
            let mut note = |row: &mut Row, took: Duration| {
                total += took;
                row.sample(contender.name, took.as_secs_f64());
            };
            let took = timed(|| tar(&["-xf"], archive, &root))?.1;
            note(unpack, took);
            let (files, took) = timed(|| load::list(&root).or_fail(Kind::Environment))?;
            if files.len() != asked.files {
                let count = files.len();
                let what = format!(
                    "{} has {count} files instead of {}",
                    contender.name, asked.files
                );
                return Err(Failure::new(Kind::Internal, what));
            }
            note(listing, took);
            let took = timed(|| load::read_all(&files).or_fail(Kind::Environment))?.1;
            note(read, took);
            let took = timed(|| fs::remove_dir_all(&root).or_fail(Kind::Environment))?.1;
            note(delete, took);
            all.sample(contender.name, total.as_secs_f64());
            Ok(())
        })
    }
}

/// A session whose inputs are those of `source`.
fn ours(directory: &Path, source: &Path, asked: &Asked) -> Result<Contender, Failure> {
    let root = directory.join(OURS);
    fs::create_dir_all(&root).or_fail(Kind::Environment)?;
    let quota = asked.size.saturating_mul(4).max(1 << 30);
    let job = Job::new(&directory.join("state"), quota, |area| {
        let key = DedupKey::generate(&SystemRandom::new()).or_fail(Kind::Internal)?;
        pack::pack(source, area, &key, &mut |_| {}).or_fail(Kind::Environment)
    })?;
    let session = Box::new(job.start(&root)?);
    Ok(Contender {
        name: OURS,
        input: root.join("large"),
        // A file of the inputs' own name would be written over them.
        root: {
            let own = root.join("own");
            fs::create_dir(&own).or_fail(Kind::Environment)?;
            own
        },
        _held: Held::Session { _session: session },
    })
}

/// Packs a tree of small files into an archive.
fn archive(directory: &Path, files: usize) -> Result<PathBuf, Failure> {
    let (tree, archive) = (directory.join("tree"), directory.join("tree.tar"));
    load::make_tree(&tree, files).or_fail(Kind::Environment)?;
    tar(&["-cf"], &archive, &tree)?;
    fs::remove_dir_all(&tree).or_fail(Kind::Environment)?;
    Ok(archive)
}

fn tar(how: &[&str], archive: &Path, directory: &Path) -> Result<(), Failure> {
    let mut tar = Command::new("tar");
    tar.args(how).arg(archive).arg("-C").arg(directory);
    if how.contains(&"-cf") {
        tar.arg(".");
    }
    let status = tar.stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(Kind::Environment, format!("tar: {status}"))),
        Err(error) => Err(Failure::new(Kind::Environment, format!("tar: {error}"))),
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(T, Duration), Failure> {
    let begun = Instant::now();
    let value = work()?;
    Ok((value, begun.elapsed()))
}

/// Millions of bytes a second.
fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9)
}

/// Lets what others wrote reach the disk, so that nobody pays for it.
fn settle() {
    nix::unistd::sync();
}

/// Empties the page cache; false if we may not.
fn drop_caches() -> bool {
    settle();
    let dropped: io::Result<()> = fs::write("/proc/sys/vm/drop_caches", "3");
    dropped.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_name_of_its_own_and_a_goal() {
        let mut names = names();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for (rows, _) in LOADS {
            for name in *rows {
                assert!(row(name).has_goal(), "{name}");
            }
        }
    }

    #[test]
    fn a_rate_is_in_millions_of_bytes() {
        assert_eq!(rate(3_000_000, Duration::from_millis(500)), 6.0);
    }
}
