//! The files that are brought: a few large ones and many small ones, of bytes that nothing can compress.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::failure::{Failure, Kind, OrFail};

/// How many large files there are.
const LARGE: u64 = 4;
/// Bytes of a small file.
const SMALL: usize = 10_000;
/// Small files of a directory.
const FOLDER: usize = 200;
/// One in so many small files is changed, and one in so many bytes of the large ones.
const CHANGED: u64 = 100;

/// A project's directory.
pub(super) struct Goods {
    root: PathBuf,
    size: u64,
    files: usize,
    noise: blake3::OutputReader,
}

impl Goods {
    /// Makes the files.
    pub(super) fn make(root: &Path, size: u64, files: usize) -> Result<Self, Failure> {
        let mut seed = [0; 32];
        safelight_seal::random::Random::fill(
            &safelight_seal::random::SystemRandom::new(),
            &mut seed,
        )
        .or_fail(Kind::Internal)?;
        let mut goods = Self {
            root: root.to_owned(),
            size,
            files,
            noise: blake3::Hasher::new_keyed(&seed).finalize_xof(),
        };
        goods.write().or_fail(Kind::Environment)?;
        Ok(goods)
    }

    /// The directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.size / LARGE * LARGE + (self.files * SMALL) as u64
    }

    fn large(&self, index: u64) -> PathBuf {
        self.root.join(format!("caches/fluid_{index}.vdb"))
    }

    fn small(&self, index: usize) -> PathBuf {
        let folder = index / FOLDER;
        self.root
            .join(format!("textures/set_{folder:04}/tile_{index:06}.tx"))
    }

    fn write(&mut self) -> io::Result<()> {
        fs::create_dir_all(self.root.join("caches"))?;
        for index in 0..LARGE {
            let mut file = File::create(self.large(index))?;
            let mut source = (&mut self.noise).take(self.size / LARGE);
            io::copy(&mut source, &mut file)?;
        }
        for index in 0..self.files {
            if index % FOLDER == 0 {
                fs::create_dir_all(self.small(index).parent().unwrap_or(&self.root))?;
            }
            self.write_small(index)?;
        }
        Ok(())
    }

    fn write_small(&mut self, index: usize) -> io::Result<()> {
        let mut bytes = [0; SMALL];
        self.noise.fill(&mut bytes);
        File::create(self.small(index))?.write_all(&bytes)
    }

    /// Changes a hundredth: of the small files one in a hundred, and of the large ones a stretch in the midst of one.
    pub(super) fn change(&mut self) -> Result<(), Failure> {
        let every = CHANGED as usize;
        for index in (0..self.files).step_by(every) {
            self.write_small(index).or_fail(Kind::Environment)?;
        }
        let mut bytes = vec![0; (self.size / CHANGED) as usize];
        self.noise.fill(&mut bytes);
        let file = File::options().write(true).open(self.large(1));
        let file = file.or_fail(Kind::Environment)?;
        let at = self.size / LARGE / 2;
        file.write_all_at(&bytes, at).or_fail(Kind::Environment)
    }

    /// Everything is on the disk, and nobody's first read of it is slower than another's. It waits so long that no file is younger than a
    /// second, as it is where people work.
    pub(super) fn settle(&self) -> Result<(), Failure> {
        on_disk(&self.root)?;
        std::thread::sleep(std::time::Duration::from_millis(1500));
        walk(&self.root, &mut |path, _| {
            if let Ok(mut file) = File::open(path) {
                let _ = io::copy(&mut file, &mut io::sink());
            }
        })
    }
}

/// Waits until what was written below a directory is on its disk.
pub(super) fn on_disk(directory: &Path) -> Result<(), Failure> {
    let opened = File::open(directory).or_fail(Kind::Environment)?;
    nix::unistd::syncfs(opened).or_fail(Kind::Environment)
}

/// Shows every file below a directory. What goes away meanwhile is left out.
pub(super) fn walk(
    directory: &Path,
    each: &mut dyn FnMut(&Path, &fs::Metadata),
) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => walk(&entry.path(), each)?,
            Ok(about) if about.is_file() => each(&entry.path(), &about),
            _ => {}
        }
    }
    Ok(())
}

/// Bytes of all files below a directory.
pub(super) fn bytes_in(directory: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    walk(directory, &mut |_, about| bytes += about.len())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_is_changed() {
        let directory = tempfile::tempdir().unwrap();
        let mut goods = Goods::make(directory.path(), 400_000, 300).unwrap();
        assert_eq!(bytes_in(directory.path()).unwrap(), goods.bytes());
        let all = || {
            let mut all = std::collections::BTreeMap::new();
            walk(directory.path(), &mut |path, _| {
                all.insert(path.to_owned(), fs::read(path).unwrap());
            })
            .unwrap();
            all
        };
        let before = all();
        goods.change().unwrap();
        let after = all();
        let differs = |path: &PathBuf| {
            let pairs = before[path].iter().zip(&after[path]);
            pairs.filter(|(a, b)| a != b).count()
        };
        let small = before.keys().filter(|it| it.extension().unwrap() == "tx");
        assert_eq!(small.filter(|path| differs(path) > 0).count(), 3);
        let large = before.keys().filter(|it| it.extension().unwrap() == "vdb");
        let changed: usize = large.map(differs).sum();
        assert!((3_900..=4_000).contains(&changed), "{changed}");
    }
}
