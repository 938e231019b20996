//! Records as a file of JSON lines.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use super::{Line, OpenedRecord};
use crate::failure::{Failure, Kind, OrFail};

/// Writes records to a file as JSON lines: whole or not at all, durable, for its owner only. Replaces a file of that name, nothing else.
pub(crate) fn export(records: &[OpenedRecord], path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let message = format!("cannot write {}: {error}", path.display());
        Failure::new(Kind::Environment, message)
    };
    // Renaming over a device or a link would take it away from everyone.
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        let message = format!("{} is there and is not a regular file", path.display());
        return Err(Failure::new(Kind::User, message));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A temporary file is made with mode 0600.
    let file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    let mut out = BufWriter::new(file);
    for record in records {
        serde_json::to_writer(&mut out, &Line::of(record)).or_fail(Kind::Environment)?;
        out.write_all(b"\n").map_err(failed)?;
    }
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use serde_json::Value;

    use super::{super::samples::*, *};

    #[test]
    fn an_export_is_one_line_for_each_record_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.jsonl");
        export(&[read("/c/a"), read("/c/b\nc")], &path).unwrap();
        export(&[read("/c/a"), read("/c/b\nc"), unreadable()], &path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        for line in text.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_export_takes_no_ones_place_but_a_files() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (
            directory.path().join("target"),
            directory.path().join("link"),
        );
        fs::write(&target, "x").unwrap();
        symlink(&target, &link).unwrap();
        for path in [link.as_path(), directory.path(), Path::new("/dev/null")] {
            let failure = export(&[], path).err().unwrap().to_string();
            assert!(failure.ends_with("is not a regular file"), "{failure}");
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "x");
    }
}
