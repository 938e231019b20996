//! The carrier between two sites: takes what lies in one site's outgoing hot folder to the other's incoming one, as it is told to.
//!
//! It knows files by their paths and nothing of what is in them. What the sender takes back, it takes back too.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{harness::below_directory, sites::Site};

/// The file that makes a directory a hot folder.
const MARKER: &str = "safelight-hotfolder";

/// How long the carrier rests between two rounds.
const ROUND: Duration = Duration::from_millis(20);

/// A file that waits to be carried.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    /// From home to north, or back.
    pub(crate) to_north: bool,
    /// Its path in either hot folder.
    pub(crate) name: PathBuf,
    /// In how many rounds it was seen before.
    pub(crate) rounds: u32,
    /// What it holds.
    pub(crate) bytes: Vec<u8>,
}

impl Parcel {
    /// True for a letter; everything else is a blob.
    pub(crate) fn is_letter(&self) -> bool {
        self.name.starts_with("ready")
    }

    /// What the letter is about: `job`, `result`, `ended`, and so on. Nothing for a blob.
    pub(crate) fn kind(&self) -> &str {
        self.name
            .extension()
            .and_then(|kind| kind.to_str())
            .unwrap_or_default()
    }
}

/// What is done with a parcel in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is delivered.
    Carry,
    /// It is delivered, and once more in the next round.
    CarryAgain,
    /// It waits for the next round.
    Leave,
    /// This is delivered under its name, and it waits for the next round.
    Damage(Vec<u8>),
}

type Rule = Box<dyn FnMut(&Parcel) -> Act + Send>;

/// A way from one site to the other.
struct Way {
    to_north: bool,
    from: PathBuf,
    to: PathBuf,
}

struct Post {
    ways: [Way; 2],
    rule: Rule,
    /// How often each file was seen; `None` for what is delivered.
    seen: BTreeMap<(bool, PathBuf), Option<u32>>,
}

/// The carrier, under way in a thread of its own.
pub(crate) struct Carriage {
    post: Arc<Mutex<Post>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Carriage {
    /// A prompt carrier between two sites.
    pub(crate) fn between(home: &Site, north: &Site) -> Self {
        Self::with(home, north, "hot")
    }

    /// The same, where the second site keeps its hot folders for the first one in a directory of their own.
    pub(crate) fn with(home: &Site, north: &Site, theirs: &str) -> Self {
        let folder = |site: &Site, part: &str| {
            let above = if site.name == north.name {
                theirs
            } else {
                "hot"
            };
            site.seen(Path::new(above).join(part))
        };
        let way = |to_north, from: &Site, to: &Site| Way {
            to_north,
            from: folder(from, "out"),
            to: folder(to, "in"),
        };
        let post = Arc::new(Mutex::new(Post {
            ways: [way(true, home, north), way(false, north, home)],
            rule: Box::new(|_| Act::Carry),
            seen: BTreeMap::new(),
        }));
        let over = Arc::new(AtomicBool::new(false));
        let (works, ends) = (Arc::clone(&post), Arc::clone(&over));
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                lock(&works).round();
                thread::sleep(ROUND);
            }
        });
        Self {
            post,
            over,
            thread: Some(thread),
        }
    }

    /// From the next round on, this is done with what waits.
    pub(crate) fn rule(&self, rule: impl FnMut(&Parcel) -> Act + Send + 'static) {
        lock(&self.post).rule = Box::new(rule);
    }

    /// From the next round on, everything is carried at once.
    pub(crate) fn prompt(&self) {
        self.rule(|_| Act::Carry);
    }
}

impl Drop for Carriage {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(post: &Mutex<Post>) -> MutexGuard<'_, Post> {
    post.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Post {
    fn round(&mut self) {
        for index in 0..self.ways.len() {
            // A folder that is away for a while is looked at again in the next round.
            let _ = self.way(index);
        }
    }

    fn way(&mut self, index: usize) -> io::Result<()> {
        let Way { to_north, from, to } = &self.ways[index];
        let (to_north, from, to) = (*to_north, from.clone(), to.clone());
        // Where no hot folder is, nothing is left: it would be found by nobody.
        if !to.join(MARKER).is_file() {
            return Ok(());
        }
        let mut names = names(&from)?;
        let gone = self
            .seen
            .keys()
            .filter(|(way, name)| *way == to_north && !names.contains(name) && from.exists());
        for key in gone.cloned().collect::<Vec<_>>() {
            let _ = fs::remove_file(to.join(&key.1));
            self.seen.remove(&key);
        }
        // Blobs first, and letters in their order.
        names.sort();
        for name in names {
            let seen = self.seen.entry((to_north, name.clone())).or_insert(Some(0));
            let Some(rounds) = seen else { continue };
            let Ok(bytes) = fs::read(from.join(&name)) else {
                continue;
            };
            let parcel = Parcel {
                to_north,
                rounds: *rounds,
                bytes,
                name: name.clone(),
            };
            *rounds += 1;
            let carried = match (self.rule)(&parcel) {
                Act::Leave => continue,
                Act::Damage(bytes) => {
                    put(&to.join(&name), &bytes)?;
                    continue;
                }
                act => act,
            };
            put(&to.join(&name), &parcel.bytes)?;
            if carried == Act::Carry {
                *seen = None;
            }
        }
        Ok(())
    }
}

/// Every file of a hot folder that is whole, as paths in it.
fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let below = |part: &str| below_directory(&folder.join(part));
    let all = below("blobs")?.into_iter().chain(below("ready")?);
    let whole = all.filter(|path| {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.is_file()
    });
    Ok(whole
        .filter_map(|path| path.strip_prefix(folder).ok().map(Path::to_owned))
        .collect())
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let above = path.parent().unwrap_or(Path::new("/"));
    if !above.is_dir() {
        fs::create_dir(above)?;
    }
    let part = above.join(".carried");
    fs::write(&part, bytes)?;
    fs::rename(part, path)
}
