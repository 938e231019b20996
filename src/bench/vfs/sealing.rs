//! How fast a client's files are sealed on their way in, and a session's on their way out. Nobody else does this, so there is no peer but
//! the disk, which is told beside it: as many bytes written as they are, and synced. Disks differ more from minute to minute than we do.

use std::{fs, path::Path, time::Instant};

use safelight_seal::{random::SystemRandom, segment::DedupKey};
use safelight_vfs::pack;

use super::{Asked, Work, load, memory::directory, peers::DISK, rate, session::Job, settle};
use crate::{
    bench::{Better, OURS, Row},
    failure::{Failure, Kind, OrFail},
};

/// The rows.
pub(super) const NAMES: &[&str] = &["pack", "seal"];

/// Measures those that are wanted.
pub(super) fn measure(
    directory: &Path,
    asked: &Asked,
    wanted: &dyn Fn(&&str) -> bool,
) -> Result<Vec<Row>, Failure> {
    let works: [Work; 2] = [packs, seals];
    let mut rows = Vec::new();
    for (name, work) in NAMES.iter().zip(works) {
        if !wanted(name) {
            continue;
        }
        let mut row = Row::new(name, "MB/s", Better::More);
        for _ in 0..asked.rounds {
            let place = directory.join(name);
            fs::create_dir(&place).or_fail(Kind::Environment)?;
            row.sample(OURS, work(&place, asked)?);
            settle();
            let mut data = load::Data::new();
            let took = load::write(&place.join("plain"), asked.size, &mut data)
                .or_fail(Kind::Environment)?;
            row.sample(DISK, rate(asked.size, took));
            fs::remove_dir_all(&place).or_fail(Kind::Environment)?;
        }
        rows.push(row);
    }
    Ok(rows)
}

/// A large file of the client's becomes durable sealed segments.
fn packs(place: &Path, asked: &Asked) -> Result<f64, Failure> {
    let source = place.join("in");
    fs::create_dir(&source).or_fail(Kind::Environment)?;
    let mut data = load::Data::new();
    load::write(&source.join("large"), asked.size, &mut data).or_fail(Kind::Environment)?;
    settle();
    let mut took = None;
    Job::new(&place.join("state"), 1 << 30, |area| {
        let key = DedupKey::generate(&SystemRandom::new()).or_fail(Kind::Internal)?;
        let begun = Instant::now();
        let entries = pack::pack(&source, area, &key, &mut |_| {}).or_fail(Kind::Environment)?;
        took = Some(begun.elapsed());
        Ok(entries)
    })?;
    Ok(rate(asked.size, took.unwrap_or_default()))
}

/// A large file that a session wrote becomes durable sealed segments.
fn seals(place: &Path, asked: &Asked) -> Result<f64, Failure> {
    let root = place.join("mount");
    fs::create_dir(&root).or_fail(Kind::Environment)?;
    let quota = asked.size.saturating_mul(2);
    let job = Job::new(&place.join("state"), quota, |_| Ok(vec![directory(b"")]))?;
    let session = job.start(&root)?;
    let mut data = load::Data::new();
    load::write(&root.join("large"), asked.size, &mut data).or_fail(Kind::Environment)?;
    settle();
    Ok(rate(asked.size, session.seal()?))
}
