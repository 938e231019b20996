//! Records as a file of JSON lines.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use tempfile::NamedTempFile;

use super::{Line, OpenedRecord};
use crate::failure::{Failure, Kind, OrFail};

/// A file of JSON lines on its way: whole or not at all, durable, for its owner only. Takes the place of a file of that name, of nothing else.
pub(crate) struct ExportFile {
    path: PathBuf,
    directory: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl ExportFile {
    /// Begins a file beside the place that it takes at the end.
    pub(crate) fn begin(path: &Path) -> Result<Self, Failure> {
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
        let file = NamedTempFile::new_in(directory).map_err(|error| failed(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            directory: directory.to_owned(),
            out: BufWriter::new(file),
        })
    }

    /// Puts a line.
    pub(crate) fn put<T: Serialize>(&mut self, line: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, line).or_fail(Kind::Environment)?;
        self.bytes(b"\n")
    }

    /// Puts bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.out.write_all(bytes);
        written.map_err(|error| failed(&self.path, &error))
    }

    /// Gives the file its name.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self {
            path,
            directory,
            out,
        } = self;
        let failed = |error: io::Error| failed(&path, &error);
        let file = out
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed)
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot write {}: {error}", path.display());
    Failure::new(Kind::Environment, message)
}

/// Writes records to such a file.
pub(crate) fn export(records: &[OpenedRecord], path: &Path) -> Result<(), Failure> {
    let mut file = ExportFile::begin(path)?;
    for record in records {
        file.put(&Line::of(record))?;
    }
    file.finish()
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
