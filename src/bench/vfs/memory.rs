//! How much memory the view server takes at most, whatever a client's files are like, and how long very many files take.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use safelight_policies::id::ObjectId;
use safelight_seal::{
    manifest::{Entry, EntryKind, SegmentRef},
    random::SystemRandom,
    segment::{DedupKey, SEGMENT_MAX, seal_segment},
};
use safelight_vfs::area::Area;

use super::{
    Asked,
    load::{self, Numbers},
    session::{Job, Session},
    timed,
};
use crate::{
    bench::{Better, Goal, OURS, Row},
    failure::{Failure, Kind, OrFail},
};

/// The rows.
pub(super) const NAMES: &[&str] = &[
    "memory-read",
    "memory-write",
    "memory-list",
    "open-many",
    "list-many",
];

/// What the view server may take, in MiB.
const MOST: f64 = 256.0;

/// Measures those that are wanted.
pub(super) fn measure(
    directory: &Path,
    asked: &Asked,
    wanted: &dyn Fn(&&str) -> bool,
) -> Result<Vec<Row>, Failure> {
    let memory = |name| Row::new(name, "MiB", Better::Less).goal(Goal::AtMost(MOST));
    let time = |name| Row::new(name, "s", Better::Less);
    let works: [(&[&'static str], Work); 3] = [
        (&NAMES[..1], reads),
        (&NAMES[1..2], writes),
        (&NAMES[2..], lists),
    ];
    let mut rows = Vec::new();
    for (names, work) in works {
        if !names.iter().any(wanted) {
            continue;
        }
        let place = directory.join(names[0]);
        fs::create_dir(&place).or_fail(Kind::Environment)?;
        for (name, figure) in names.iter().zip(work(&place, asked)?) {
            let mut row = match name.starts_with("memory") {
                true => memory(name),
                false => time(name),
            };
            row.sample(OURS, figure);
            rows.extend(wanted(name).then_some(row));
        }
        fs::remove_dir_all(&place).or_fail(Kind::Environment)?;
    }
    Ok(rows)
}

/// Measures some rows together, in a directory of its own.
type Work = fn(&Path, &Asked) -> Result<Vec<f64>, Failure>;

/// A large sealed file is read. Its segments are one object again and again: what the server holds of each is the same, and no disk is
/// needed for them.
fn reads(place: &Path, asked: &Asked) -> Result<Vec<f64>, Failure> {
    let (session, root) = session(place, 1 << 30, |area| {
        let (object, key) = one_segment(area)?;
        let count = asked.stream.div_ceil(SEGMENT_MAX as u64);
        let segment = |_| SegmentRef {
            object: Some(object),
            len: SEGMENT_MAX as u32,
            key: key.clone(),
        };
        let kind = EntryKind::File {
            len: count * SEGMENT_MAX as u64,
            segments: (0..count).map(segment).collect(),
        };
        Ok(vec![directory(b""), entry(b"large", kind)])
    })?;
    stream_out(&root.join("large"))?;
    Ok(vec![peak(&session)?])
}

/// A large file is written.
fn writes(place: &Path, asked: &Asked) -> Result<Vec<f64>, Failure> {
    let (session, root) = session(place, asked.stream + (1 << 30), |_| {
        Ok(vec![directory(b"")])
    })?;
    let mut data = load::Data::new();
    load::write(&root.join("large"), asked.stream, &mut data).or_fail(Kind::Environment)?;
    Ok(vec![peak(&session)?])
}

/// A manifest of many files is opened until its view can be used, and all of them are listed.
fn lists(place: &Path, asked: &Asked) -> Result<Vec<f64>, Failure> {
    let root = place.join("mount");
    fs::create_dir(&root).or_fail(Kind::Environment)?;
    let job = Job::new(&place.join("state"), 1 << 30, |area| {
        let (object, key) = one_segment(area)?;
        Ok(many(asked.entries, object, &key))
    })?;
    let (session, opened) = timed(|| job.start(&root))?;
    let (files, listed) = timed(|| load::list(&root).or_fail(Kind::Environment))?;
    if files.len() != asked.entries {
        let what = format!(
            "{} files are listed instead of {}",
            files.len(),
            asked.entries
        );
        return Err(Failure::new(Kind::Internal, what));
    }
    Ok(vec![
        peak(&session)?,
        opened.as_secs_f64(),
        listed.as_secs_f64(),
    ])
}

/// Files of one segment each, a thousand in a directory, named like frames of a film.
fn many(count: usize, object: ObjectId, key: &safelight_seal::segment::OpenKey) -> Vec<Entry> {
    let mut entries = vec![directory(b"")];
    for number in 0..count {
        let shot = format!("shot-{:04}", number / 1000);
        if number % 1000 == 0 {
            entries.push(directory(shot.as_bytes()));
        }
        let kind = EntryKind::File {
            len: SEGMENT_MAX as u64,
            segments: vec![SegmentRef {
                object: Some(object),
                len: SEGMENT_MAX as u32,
                key: key.clone(),
            }],
        };
        let path = format!("{shot}/texture-{number:07}.exr");
        entries.push(entry(path.as_bytes(), kind));
    }
    entries
}

fn session(
    place: &Path,
    quota: u64,
    entries: impl FnOnce(&Area) -> Result<Vec<Entry>, Failure>,
) -> Result<(Session, PathBuf), Failure> {
    let root = place.join("mount");
    fs::create_dir(&root).or_fail(Kind::Environment)?;
    let session = Job::new(&place.join("state"), quota, entries)?.start(&root)?;
    Ok((session, root))
}

/// One sealed segment of random bytes.
fn one_segment(area: &Area) -> Result<(ObjectId, safelight_seal::segment::OpenKey), Failure> {
    let mut numbers = Numbers::new(9);
    let plain: Vec<u8> = (0..SEGMENT_MAX / 8)
        .flat_map(|_| numbers.next().to_le_bytes())
        .collect();
    let key = DedupKey::generate(&SystemRandom::new()).or_fail(Kind::Internal)?;
    let sealed = seal_segment(key.segment_key(&plain), &plain).or_fail(Kind::Internal)?;
    area.put(sealed.id, &sealed.bytes)
        .or_fail(Kind::Environment)?;
    Ok((sealed.id, sealed.key))
}

/// A directory of a manifest.
pub(super) fn directory(path: &[u8]) -> Entry {
    let mut made = entry(path, EntryKind::Directory { opaque: false });
    made.mode = 0o755;
    made
}

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    Entry {
        path: path.to_vec(),
        kind,
        mode: 0o644,
        mtime_ns: 0,
        xattrs: Vec::new(),
    }
}

/// Reads a file to its end without keeping it.
fn stream_out(path: &Path) -> Result<(), Failure> {
    let mut file = fs::File::open(path).or_fail(Kind::Environment)?;
    let mut buffer = vec![0; 1 << 20];
    while std::io::Read::read(&mut file, &mut buffer).or_fail(Kind::Environment)? > 0 {}
    Ok(())
}

/// The most memory that the view server ever had, in MiB (`VmHWM` of proc(5)).
fn peak(session: &Session) -> Result<f64, Failure> {
    let unknown = || Failure::new(Kind::Environment, "the view server's memory is not known");
    let server = session.server().ok_or_else(unknown)?;
    let status = fs::read_to_string(format!("/proc/{server}/status")).map_err(Arc::new);
    let status = status.map_err(|_| unknown())?;
    high_water(&status).ok_or_else(unknown)
}

fn high_water(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read() {
        assert_eq!(high_water("Name:\tx\nVmHWM:\t  2048 kB\n"), Some(2.0));
        assert_eq!(high_water("Name:\tx\n"), None);
    }
}
