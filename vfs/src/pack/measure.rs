//! How much there is to pack, for whoever wants to say how long it will take. Nothing else relies on it.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use super::select::{Part, Selection};

impl Selection {
    /// Bytes of the files that are selected, as far as they can be looked at; none once `over` is set. A file with two names counts twice.
    pub fn measure(&self, over: &AtomicBool) -> Option<u64> {
        let mut bytes = 0_u64;
        for (path, part) in self.parts() {
            let mut ahead = vec![self.root().join(path)];
            while let Some(path) = ahead.pop() {
                if over.load(Ordering::Relaxed) {
                    return None;
                }
                bytes = bytes.saturating_add(look(path, part, &mut ahead));
            }
        }
        Some(bytes)
    }
}

/// A file's bytes. What is below a directory that is packed whole is looked at next.
fn look(path: PathBuf, part: Part, ahead: &mut Vec<PathBuf>) -> u64 {
    match fs::symlink_metadata(&path) {
        Ok(about) if about.is_file() => about.len(),
        Ok(about) if about.is_dir() && part == Part::Whole => {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            ahead.extend(entries.map(|entry| entry.path()));
            0
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_selected_is_measured_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("whole/deep")).unwrap();
        for (name, len) in [
            ("whole/a", 10),
            ("whole/deep/b", 200),
            ("c", 3000),
            ("d", 7),
        ] {
            fs::write(root.join(name), vec![1; len]).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", root.join("whole/link")).unwrap();
        let mut selection = Selection::new(root);
        let over = AtomicBool::new(false);
        assert_eq!(selection.measure(&over), Some(0));
        selection.whole("whole".as_ref()).unwrap();
        selection.file("c".as_ref()).unwrap();
        selection.directory("new".as_ref()).unwrap();
        assert_eq!(selection.measure(&over), Some(3210));
        over.store(true, Ordering::Relaxed);
        assert_eq!(selection.measure(&over), None);
    }
}
