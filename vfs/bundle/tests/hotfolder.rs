//! Hot folders: letters and blobs through media that lose, delay, repeat, cut, change and invent.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "hotfolder/parties.rs"]
mod parties;

#[path = "hotfolder/bucket.rs"]
mod bucket;
#[path = "hotfolder/converge.rs"]
mod converge;
#[path = "hotfolder/corpus.rs"]
mod corpus;
#[path = "hotfolder/crowd.rs"]
mod crowd;
#[path = "hotfolder/directory.rs"]
mod directory;
#[path = "hotfolder/faults.rs"]
mod faults;
#[path = "hotfolder/holds.rs"]
mod holds;
#[path = "hotfolder/judgement.rs"]
mod judgement;
#[path = "hotfolder/letters.rs"]
mod letters;
#[path = "hotfolder/restored.rs"]
mod restored;
