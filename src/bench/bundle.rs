//! A job's files to the other site: sealed and shipped, again unchanged, with a hundredth changed, and after a kill at half of the way.
//!
//! Ours is the real thing: two sites that are served, `safelight submit` at one of them, and the job in the books of the other. Peers bring
//! the same files to a directory of theirs, each with its own means. Everybody's time ends when what was written is on the disk. The files
//! are in the page cache for all of them.

mod goods;
mod ours;
mod peers;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use self::{goods::Goods, ours::Ours, peers::Peer};
use super::{Better, Goal, HostFacts, OURS, Report, Row, order};
use crate::failure::{Failure, Kind, OrFail};

/// What to measure.
pub(crate) struct Asked {
    /// Where to work: everything is read from and written to the disk below it.
    pub(crate) directory: PathBuf,
    /// Bytes of the large files together.
    pub(crate) size: u64,
    /// How many small files.
    pub(crate) files: usize,
    pub(crate) rounds: usize,
}

/// What is measured, in this order in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    First,
    Again,
    Changed,
    Resumed,
}

/// Each part with its rows: seconds until everything is there, and megabytes that had to be brought.
const PARTS: [(Part, &str, &str); 4] = [
    (Part::First, "first", "first-bytes"),
    (Part::Again, "again", "again-bytes"),
    (Part::Changed, "changed", "changed-bytes"),
    (Part::Resumed, "resumed", "resumed-bytes"),
];

/// Parts of which it is measured when the other site has the job, too.
const ACCEPTED: [(Part, &str); 3] = [
    (Part::First, "first-accepted"),
    (Part::Again, "again-accepted"),
    (Part::Changed, "changed-accepted"),
];

/// What one part came to.
#[derive(Debug, Clone, Copy, Default)]
struct Took {
    seconds: f64,
    bytes: u64,
    /// Until the other site had the job.
    accepted: Option<f64>,
}

/// Somebody who brings files to another place.
trait Contender {
    /// Brings the files there, or what is new of them.
    fn bring(&mut self, goods: &Goods) -> Result<Took, Failure>;
    /// Begins anew, is killed when half is there, and brings the rest; none if it was done before it could be killed.
    fn resume(&mut self, goods: &Goods) -> Result<Option<Took>, Failure>;
}

/// Runs the bench.
pub(crate) fn run(asked: &Asked) -> Result<Report, Failure> {
    let at = fs::canonicalize(&asked.directory).map_err(|error| {
        let at = asked.directory.display();
        Failure::new(Kind::User, format!("cannot work in {at}: {error}"))
    })?;
    let mut rows = Rows::new();
    let mut versions = BTreeMap::new();
    let mut names = vec![OURS];
    for (name, version) in peers::NAMES.into_iter().map(|it| (it, peers::version(it))) {
        match &version {
            Some(_) => names.push(name),
            None => rows.absent(name, "not installed"),
        }
        versions.insert(name, version.unwrap_or_else(|| "not installed".to_owned()));
    }
    for round in 0..asked.rounds {
        let directory = tempfile::Builder::new()
            .prefix("safelight-bench-")
            .tempdir_in(&at)
            .or_fail(Kind::User)?;
        // The warden and the audit writer are other users.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(directory.path(), open).or_fail(Kind::Environment)?;
        one_round(directory.path(), asked, round, &names, &mut rows)?;
    }
    Ok(Report {
        bench: "bundle",
        host: HostFacts::read(&at),
        versions,
        rows: rows.0,
    })
}

/// Every part in turn, with all contenders at the same files.
fn one_round(
    directory: &Path,
    asked: &Asked,
    round: usize,
    names: &[&'static str],
    rows: &mut Rows,
) -> Result<(), Failure> {
    let mut goods = Goods::make(&directory.join("goods"), asked.size, asked.files)?;
    let mut contenders = Vec::new();
    for name in names {
        let at = directory.join(name.replace(' ', "-"));
        let contender: Box<dyn Contender> = match *name {
            OURS => Box::new(Ours::new(at, &goods)?),
            name => Box::new(Peer::new(name, at)?),
        };
        contenders.push((*name, contender));
    }
    for (part, ..) in PARTS {
        if part == Part::Changed {
            goods.change()?;
        }
        goods.settle()?;
        for index in order(round, contenders.len()) {
            let (name, contender) = &mut contenders[index];
            let took = match part {
                Part::Resumed => contender.resume(&goods)?,
                _ => Some(contender.bring(&goods)?),
            };
            rows.took(part, name, took);
        }
    }
    Ok(())
}

/// Seconds that something takes, and what came of it.
fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(f64, T), Failure> {
    let began = Instant::now();
    let done = work()?;
    Ok((began.elapsed().as_secs_f64(), done))
}

/// All rows.
struct Rows(Vec<Row>);

impl Rows {
    fn new() -> Self {
        let goal = Goal::Times(2.0, &[peers::RESTIC]);
        let mut rows = Vec::new();
        for (part, seconds, bytes) in PARTS {
            let row = Row::new(seconds, "s", Better::Less);
            rows.push(match part {
                Part::Resumed => row,
                _ => row.goal(goal.clone()),
            });
            rows.push(Row::new(bytes, "MB", Better::Less));
        }
        for (part, name) in ACCEPTED {
            let row = Row::new(name, "s", Better::Less);
            rows.push(match part {
                Part::Again => row.goal(Goal::AtMost(2.0)),
                _ => row,
            });
        }
        Self(rows)
    }

    fn absent(&mut self, name: &'static str, why: &str) {
        let ours = |row: &Row| ACCEPTED.iter().any(|(_, name)| row.name() == *name);
        let rows = self.0.iter_mut().filter(|row| !ours(row));
        rows.for_each(|row| row.absent(name, why));
    }

    fn row(&mut self, name: &str) -> impl Iterator<Item = &mut Row> {
        self.0.iter_mut().filter(move |row| row.name() == name)
    }

    fn took(&mut self, part: Part, who: &'static str, took: Option<Took>) {
        for (_, seconds, bytes) in PARTS.into_iter().filter(|(it, ..)| *it == part) {
            match took {
                Some(took) => {
                    self.row(seconds)
                        .for_each(|row| row.sample(who, took.seconds));
                    let megabytes = took.bytes as f64 / 1e6;
                    self.row(bytes).for_each(|row| row.sample(who, megabytes));
                }
                None => [seconds, bytes].into_iter().for_each(|name| {
                    self.row(name)
                        .for_each(|row| row.absent(who, "it was done before it could be killed"));
                }),
            }
        }
        let Some(accepted) = took.and_then(|took| took.accepted) else {
            return;
        };
        for (_, name) in ACCEPTED.into_iter().filter(|(it, _)| *it == part) {
            self.row(name).for_each(|row| row.sample(who, accepted));
        }
    }
}
