//! Hostile folders, on a real file system. Each row plants something; the honest job beside it arrives all the same.

use std::{
    fs::{self, File},
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode};
use safelight_bundle::{
    Announcement, BlobList, Cancel, Code, Directory, Document, Epoch, Kind, Letter, Load, Medium,
    ReadyName, Report, Seq, Stamp, object_id,
};
use safelight_policies::id::{JobId, ObjectId, VerifyKey};

use crate::parties::{DAY, Party, START, Signer, entry, envelope, load, pair};

const NOW: u64 = START + 1_000;

/// A hot folder with a client that is about to do wrong.
struct Folder {
    kept: tempfile::TempDir,
    medium: Directory,
    client: Party,
    site: Party,
    number: u64,
}

impl Folder {
    fn new() -> Self {
        let kept = tempfile::tempdir().unwrap();
        let folder = kept.path().join("hot");
        fs::create_dir(&folder).unwrap();
        let medium = Directory::create(folder).unwrap();
        let (client, site) = pair();
        let folder = Self {
            kept,
            medium,
            client,
            site,
            number: 100,
        };
        fs::create_dir_all(folder.mailbox()).unwrap();
        folder
    }

    fn to(&self) -> VerifyKey {
        self.site.signer.key()
    }

    fn root(&self) -> PathBuf {
        self.kept.path().join("hot")
    }

    fn mailbox(&self) -> PathBuf {
        let key: String = self
            .to()
            .0
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.root().join("ready").join(key)
    }

    fn blob(&self, id: ObjectId) -> PathBuf {
        let name = id.to_string();
        let directory = self.root().join("blobs").join(&name[..2]);
        fs::create_dir_all(&directory).unwrap();
        directory.join(name)
    }

    fn stamp(&mut self) -> Stamp {
        self.number += 1;
        let seq = Seq {
            epoch: Epoch::new(START, [1; 3]),
            number: self.number,
        };
        Stamp {
            to: self.to(),
            seq,
            issued: NOW,
            expires: NOW + 7 * DAY,
        }
    }

    fn name(&self, stamp: &Stamp, kind: Kind) -> ReadyName {
        ReadyName {
            to: self.to(),
            from: self.client.signer.key(),
            seq: stamp.seq,
            kind,
        }
    }

    fn path(&self, name: &ReadyName) -> PathBuf {
        self.mailbox().join(name.entry().as_os_str())
    }

    /// A name that a letter of the client's may have.
    fn fresh(&mut self) -> PathBuf {
        let stamp = self.stamp();
        self.path(&self.name(&stamp, Kind::Cancel))
    }

    fn plant<T: Letter>(&self, letter: &T) {
        let bytes = self.client.signer.seal(letter);
        fs::write(self.path(&self.name(letter.stamp(), T::KIND)), bytes).unwrap();
    }

    fn cancel(&mut self) -> Cancel {
        Cancel {
            stamp: self.stamp(),
            job: JobId::from_random([1; 10]),
        }
    }

    /// A whole job with its blobs in the folder, changed before it is signed.
    fn job(&mut self, change: impl FnOnce(&mut Vec<(ObjectId, u32)>)) -> Announcement {
        let stamp = self.stamp();
        let store = &self.client.store;
        let envelope = envelope(&self.client.signer, 200, self.to(), store, NOW);
        let signed = self.client.signer.seal(&envelope);
        let mut entries = vec![entry(store, &signed), entry(store, b"a segment")];
        entries.extend([envelope.inputs, envelope.recipe].map(|id| (id, store.len_of(id))));
        change(&mut entries);
        let list = BlobList::new(entries).unwrap();
        let letter = Announcement {
            stamp,
            job: envelope.outline.job,
            envelope: object_id(&signed),
            load: load(store, &list),
        };
        self.give_blobs(&letter.load);
        letter
    }

    fn give_blobs(&self, load: &Load) {
        let objects = self.client.store.objects.borrow();
        let list = BlobList::decode(&objects[&load.list]).unwrap();
        for id in list.entries().iter().map(|(id, _)| *id).chain([load.list]) {
            if let Some(bytes) = objects.get(&id) {
                fs::write(self.blob(id), bytes).unwrap();
            }
        }
    }

    /// Reads the folder now, and once patience is over.
    fn scans(&mut self) -> [Report; 2] {
        let first = self.site.scan(&self.medium, NOW);
        let second = self.site.scan(&self.medium, NOW + DAY);
        [first, second]
    }

    /// What was set aside: the reasons in the files beside it.
    fn reasons(&self) -> Vec<String> {
        let aside = self
            .root()
            .join("aside")
            .join(self.mailbox().file_name().unwrap());
        let Ok(files) = fs::read_dir(aside) else {
            return vec![];
        };
        let files = files.map(|file| file.unwrap().path());
        let mut reasons: Vec<String> = files
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "json")
            })
            .map(|path| {
                assert!(path.with_extension("entry").symlink_metadata().is_ok());
                let reason: serde_json::Value =
                    serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
                reason["code"].as_str().unwrap().to_owned()
            })
            .collect();
        reasons.sort();
        reasons
    }
}

fn pipe(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
}

/// What a row plants, what it is refused as, and whether at once.
type Row = (&'static str, fn(&mut Folder), Code, bool);

fn rows() -> Vec<Row> {
    let mut rows = entries();
    rows.extend(letters());
    rows.extend(bundles());
    rows
}

/// Things that should not be in a folder of letters.
#[expect(clippy::too_many_lines, reason = "a table")]
fn entries() -> Vec<Row> {
    vec![
        (
            "a link to a file outside",
            |f| symlink("/etc/passwd", f.fresh()).unwrap(),
            Code::NotAFile,
            true,
        ),
        (
            "a link to a letter",
            |f| {
                let letter = f.cancel();
                let outside = f.kept.path().join("outside");
                fs::write(&outside, f.client.signer.seal(&letter)).unwrap();
                symlink(outside, f.path(&f.name(&letter.stamp, Kind::Cancel))).unwrap();
            },
            Code::NotAFile,
            true,
        ),
        (
            "a link into nothing",
            |f| symlink("nowhere", f.fresh()).unwrap(),
            Code::NotAFile,
            true,
        ),
        (
            "a pipe that nobody writes",
            |f| pipe(&f.fresh()),
            Code::NotAFile,
            true,
        ),
        (
            "a hidden pipe",
            |f| pipe(&f.mailbox().join(".part-x")),
            Code::NotAFile,
            true,
        ),
        (
            "a socket",
            |f| drop(UnixListener::bind(f.mailbox().join("socket")).unwrap()),
            Code::NotAFile,
            true,
        ),
        (
            "a directory",
            |f| fs::create_dir_all(f.fresh().join("below")).unwrap(),
            Code::NotAFile,
            true,
        ),
        (
            "a name that tries to leave",
            |f| fs::write(f.mailbox().join("..%2f..%2fetc%2fpasswd"), b"x").unwrap(),
            Code::Misnamed,
            false,
        ),
        (
            "a name with backslashes",
            |f| fs::write(f.mailbox().join("..\\..\\x.job"), b"x").unwrap(),
            Code::Misnamed,
            false,
        ),
        (
            "a name that is no text",
            |f| {
                fs::write(
                    f.mailbox()
                        .join(std::ffi::OsStr::from_bytes(b"\xff\x1b[2J")),
                    b"x",
                )
                .unwrap()
            },
            Code::Misnamed,
            false,
        ),
        (
            "a letter that never ends",
            |f| File::create(f.fresh()).unwrap().set_len(1 << 40).unwrap(),
            Code::OverLong,
            true,
        ),
        (
            "an empty letter",
            |f| fs::write(f.fresh(), b"").unwrap(),
            Code::Truncated,
            false,
        ),
        (
            "a letter of zeros",
            |f| fs::write(f.fresh(), [0; 200]).unwrap(),
            Code::Malformed,
            false,
        ),
    ]
}

/// Letters that are not to be taken.
#[expect(clippy::too_many_lines, reason = "a table")]
fn letters() -> Vec<Row> {
    vec![
        (
            "a letter cut in half",
            |f| {
                let letter = f.cancel();
                let bytes = f.client.signer.seal(&letter);
                fs::write(
                    f.path(&f.name(&letter.stamp, Kind::Cancel)),
                    &bytes[..bytes.len() - 9],
                )
                .unwrap();
            },
            Code::NotAuthentic,
            false,
        ),
        (
            "a stranger's letter",
            |f| {
                let (letter, stranger) = (f.cancel(), Signer::new(66));
                let name = ReadyName {
                    from: stranger.key(),
                    ..f.name(&letter.stamp, Kind::Cancel)
                };
                fs::write(f.path(&name), stranger.seal(&letter)).unwrap();
            },
            Code::UnknownSigner,
            true,
        ),
        (
            "a stranger's letter under a client's name",
            |f| {
                let letter = f.cancel();
                let bytes = Signer::new(66).seal(&letter);
                fs::write(f.path(&f.name(&letter.stamp, Kind::Cancel)), bytes).unwrap();
            },
            Code::NotAuthentic,
            false,
        ),
        (
            "a letter for another site",
            |f| {
                let mut letter = f.cancel();
                letter.stamp.to = Signer::new(66).key();
                f.plant(&letter);
            },
            Code::WrongRecipient,
            true,
        ),
        (
            "a letter renamed to another number",
            |f| {
                let letter = f.cancel();
                let bytes = f.client.signer.seal(&letter);
                fs::write(f.fresh(), bytes).unwrap();
            },
            Code::Misnamed,
            true,
        ),
        (
            "a letter renamed to another kind",
            |f| {
                let letter = f.cancel();
                let bytes = f.client.signer.seal(&letter);
                fs::write(f.path(&f.name(&letter.stamp, Kind::Heartbeat)), bytes).unwrap();
            },
            Code::NotAuthentic,
            false,
        ),
        (
            "a client that sends prekeys",
            |f| {
                let letter = f.cancel();
                fs::write(f.path(&f.name(&letter.stamp, Kind::Prekeys)), b"x").unwrap();
            },
            Code::NotTheirs,
            true,
        ),
        (
            "a letter that has ended",
            |f| {
                let mut letter = f.cancel();
                letter.stamp.expires = NOW;
                letter.stamp.issued = NOW - 1;
                f.plant(&letter);
            },
            Code::Expired,
            true,
        ),
        (
            "a letter from the future",
            |f| {
                let mut letter = f.cancel();
                letter.stamp.issued = NOW + 3 * DAY;
                f.plant(&letter);
            },
            Code::NotYetValid,
            true,
        ),
        (
            "bytes behind a letter",
            |f| {
                let letter = f.cancel();
                let bytes = f.client.signer.force(&letter, b"more");
                fs::write(f.path(&f.name(&letter.stamp, Kind::Cancel)), bytes).unwrap();
            },
            Code::NotValid,
            true,
        ),
        (
            "another letter under a used number",
            |f| {
                let letter = f.cancel();
                f.plant(&letter);
                assert_eq!(f.site.scan(&f.medium, NOW).accepted, 1);
                f.plant(&Cancel {
                    job: JobId::from_random([2; 10]),
                    ..letter
                });
                f.site.inbox = safelight_bundle::Inbox::new(
                    f.site.inbox.trust_mut().clone(),
                    f.site.inbox.windows().clone(),
                );
            },
            Code::Replayed,
            true,
        ),
    ]
}

/// Jobs whose blobs are not what they should be.
#[expect(clippy::too_many_lines, reason = "a table")]
fn bundles() -> Vec<Row> {
    vec![
        (
            "a blob with other bytes",
            |f| {
                let job = f.job(|_| {});
                fs::write(f.blob(object_id(b"a segment")), b"a segmenT").unwrap();
                f.plant(&job);
            },
            Code::HashMismatch,
            false,
        ),
        (
            "a blob that is longer than announced",
            |f| {
                let job = f.job(|_| {});
                fs::write(f.blob(object_id(b"a segment")), b"a segment and more").unwrap();
                f.plant(&job);
            },
            Code::LyingSizes,
            false,
        ),
        (
            "a blob that never ends",
            |f| {
                let job = f.job(|_| {});
                File::create(f.blob(object_id(b"a segment")))
                    .unwrap()
                    .set_len(1 << 40)
                    .unwrap();
                f.plant(&job);
            },
            Code::LyingSizes,
            false,
        ),
        (
            "a blob that is a link to the right bytes",
            |f| {
                let job = f.job(|_| {});
                let (blob, outside) = (
                    f.blob(object_id(b"a segment")),
                    f.kept.path().join("outside"),
                );
                fs::rename(&blob, &outside).unwrap();
                symlink(outside, blob).unwrap();
                f.plant(&job);
            },
            Code::BlobNotAFile,
            false,
        ),
        (
            "a blob that is a pipe",
            |f| {
                let job = f.job(|_| {});
                let blob = f.blob(object_id(b"a segment"));
                fs::remove_file(&blob).unwrap();
                pipe(&blob);
                f.plant(&job);
            },
            Code::BlobNotAFile,
            false,
        ),
        (
            "a length that the blob does not have",
            |f| {
                let job = f.job(|entries| entries[1].1 -= 1);
                f.plant(&job);
            },
            Code::LyingSizes,
            false,
        ),
        (
            "a sum that the list does not have",
            |f| {
                let mut job = f.job(|_| {});
                job.load.bytes += 1;
                f.plant(&job);
            },
            Code::LyingSizes,
            true,
        ),
        (
            "a list that is none",
            |f| {
                let mut job = f.job(|_| {});
                job.load.list = object_id(b"no list");
                fs::write(f.blob(job.load.list), b"no list").unwrap();
                f.plant(&job);
            },
            Code::BadList,
            true,
        ),
        (
            "more blobs than the client may send",
            |f| {
                let job = f.job(|_| {});
                let trust = f.site.inbox.trust_mut();
                trust
                    .peers
                    .values_mut()
                    .for_each(|peer| peer.limits.blobs = 5);
                let store = &f.client.store;
                let more: Vec<_> = (0..6).map(|number| entry(store, &[number])).collect();
                let list = load(store, &BlobList::new(more).unwrap());
                f.give_blobs(&list);
                f.plant(&Announcement { load: list, ..job });
            },
            Code::TooManyBlobs,
            true,
        ),
        (
            "more bytes than the client may send",
            |f| {
                let mut job = f.job(|_| {});
                f.site
                    .inbox
                    .trust_mut()
                    .peers
                    .values_mut()
                    .for_each(|peer| peer.limits.bytes = 1 << 20);
                job.load.bytes = (1 << 20) + 1;
                f.plant(&job);
            },
            Code::TooManyBytes,
            true,
        ),
        (
            "an envelope that is not in the list",
            |f| {
                let job = f.job(|entries| {
                    entries.remove(0);
                });
                f.plant(&job);
            },
            Code::Disagrees,
            true,
        ),
        (
            "a recipe that is not in the list",
            |f| {
                let job = f.job(|entries| {
                    entries.pop();
                });
                f.plant(&job);
            },
            Code::Disagrees,
            true,
        ),
        (
            "an envelope about another job",
            |f| {
                let job = f.job(|_| {});
                f.plant(&Announcement {
                    job: JobId::from_random([9; 10]),
                    ..job
                });
            },
            Code::Disagrees,
            true,
        ),
        (
            "an envelope for another site",
            |f| {
                let store = &f.client.store;
                let other = envelope(&f.client.signer, 200, Signer::new(66).key(), store, NOW);
                let signed = f.client.signer.seal(&other);
                let (id, len) = entry(store, &signed);
                let job = f.job(|entries| entries[0] = (id, len));
                f.plant(&Announcement {
                    envelope: id,
                    ..job
                });
            },
            Code::Disagrees,
            true,
        ),
    ]
}

#[test]
fn what_is_hostile_is_refused_with_its_reason_and_disturbs_nothing() {
    for (what, plant, code, at_once) in rows() {
        let mut folder = Folder::new();
        let to = folder.to();
        plant(&mut folder);
        let (job, posted) = folder.client.announce(1, to, &[b"honest"], NOW);
        let pushed = folder.client.push(&folder.medium, NOW);
        assert!(
            pushed.stopped.is_none() && pushed.offered == [posted.of],
            "{what}: {pushed:?}"
        );
        let reports = folder.scans();
        for report in &reports {
            assert!(report.stopped.is_none(), "{what}: {:?}", report.stopped);
        }
        let refused = reports.each_ref().map(|report| {
            report
                .refused
                .iter()
                .map(|refused| {
                    assert!(refused.left.is_none(), "{what}: {:?}", refused.left);
                    refused.refusal.code()
                })
                .collect::<Vec<_>>()
        });
        let expected = if at_once {
            [vec![code], vec![]]
        } else {
            [vec![], vec![code]]
        };
        assert_eq!(refused, expected, "{what}: {reports:?}");
        assert_eq!(folder.site.ledger.jobs(), [job], "{what}");
        let said = serde_json::to_value(code).unwrap();
        assert_eq!(folder.reasons(), [said.as_str().unwrap()], "{what}");
        // Nothing of the folder is read a third time.
        let third = folder.site.scan(&folder.medium, NOW + DAY + 1);
        assert_eq!(
            third.refused.len() + third.waiting.len(),
            0,
            "{what}: {third:?}"
        );
    }
}

/// The twin of the rows above: the same job, unchanged, is taken.
#[test]
fn what_is_not_hostile_is_taken() {
    let mut folder = Folder::new();
    let job = folder.job(|_| {});
    folder.plant(&job);
    let letter = folder.cancel();
    folder.plant(&letter);
    let [first, second] = folder.scans();
    assert_eq!(
        (first.accepted, first.refused.len(), second.refused.len()),
        (2, 0, 0),
        "{first:?}"
    );
    assert_eq!(folder.site.ledger.jobs(), [job.job]);
    assert!(folder.reasons().is_empty());
}

/// Each code of a refusal has its row, or cannot be planted in a folder by itself.
#[test]
fn no_reason_is_left_out() {
    let planted: std::collections::BTreeSet<Code> = rows().iter().map(|row| row.2).collect();
    // How late a letter is, and in which epoch, is shown case by case in the judgement's tests.
    for code in [
        Code::UnknownSigner,
        Code::NotTheirs,
        Code::NotAFile,
        Code::Misnamed,
        Code::OverLong,
        Code::Truncated,
        Code::Malformed,
        Code::NotAuthentic,
        Code::NotValid,
        Code::WrongRecipient,
        Code::Replayed,
        Code::Expired,
        Code::NotYetValid,
        Code::TooManyBlobs,
        Code::TooManyBytes,
        Code::BadList,
        Code::LyingSizes,
        Code::HashMismatch,
        Code::BlobNotAFile,
        Code::Disagrees,
    ] {
        assert!(planted.contains(&code), "{code:?}");
    }
}

/// A blob under way: shorter, then zeros of the right length, then right. Nothing is refused, whatever the order.
#[test]
fn what_is_still_arriving_is_waited_for() {
    let mut folder = Folder::new();
    let job = folder.job(|_| {});
    let blob = folder.blob(object_id(b"a segment"));
    let letter = folder.path(&folder.name(&job.stamp, Kind::Job));
    let bytes = folder.client.signer.seal(&job);
    let turn = |folder: &mut Folder, at: u64| {
        let report = folder.site.scan(&folder.medium, NOW + at);
        assert!(
            report.refused.is_empty() && report.stopped.is_none(),
            "{report:?}"
        );
        report.accepted
    };
    fs::remove_file(&blob).unwrap();
    fs::write(&letter, &bytes[..50]).unwrap();
    assert_eq!(turn(&mut folder, 0), 0);
    fs::write(
        &letter,
        [&bytes[..150], &vec![0; bytes.len() - 150]].concat(),
    )
    .unwrap();
    assert_eq!(turn(&mut folder, 3_000), 0);
    fs::write(&letter, &bytes).unwrap();
    assert_eq!(turn(&mut folder, 6_000), 0);
    fs::write(&blob, b"a seg").unwrap();
    assert_eq!(turn(&mut folder, 9_000), 0);
    fs::write(&blob, [0; 9]).unwrap();
    assert_eq!(turn(&mut folder, 12_000), 0);
    fs::write(&blob, b"a segment").unwrap();
    assert_eq!(turn(&mut folder, 15_000), 1);
}

/// A link where a folder should be is not followed, neither to read nor to write.
#[test]
fn a_folder_that_leads_elsewhere_is_not_entered() {
    for name in ["blobs", "ready"] {
        let mut folder = Folder::new();
        let to = folder.to();
        let (inside, outside) = (folder.root().join(name), folder.kept.path().join("outside"));
        fs::rename(&inside, &outside).unwrap();
        symlink(&outside, &inside).unwrap();
        let before = fs::read_dir(&outside).unwrap().count();
        folder.client.announce(1, to, &[b"honest"], NOW);
        let pushed = folder.client.push(&folder.medium, NOW);
        let said = std::error::Error::source(pushed.stopped.as_ref().unwrap())
            .unwrap()
            .to_string();
        assert!(said.ends_with("leads elsewhere"), "{said}");
        assert!(pushed.offered.is_empty());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), before, "{name}");
        let report = folder.site.scan(&folder.medium, NOW);
        assert_eq!(report.accepted, 0);
        assert_eq!(report.stopped.is_some(), name == "ready");
    }
}

/// What somebody put where our blob belongs is replaced, not followed and not trusted.
#[test]
fn a_planted_blob_is_replaced_by_the_next_push() {
    let cases: [fn(&Path, &Path); 3] = [
        |blob, _| fs::write(blob, b"hones!").unwrap(),
        |blob, outside| symlink(outside, blob).unwrap(),
        |blob, _| pipe(blob),
    ];
    for plant in cases {
        let mut folder = Folder::new();
        let to = folder.to();
        let outside = folder.kept.path().join("outside");
        fs::write(&outside, b"outside").unwrap();
        plant(&folder.blob(object_id(b"honest")), &outside);
        folder.client.announce(1, to, &[b"honest"], NOW);
        assert!(folder.client.push(&folder.medium, NOW).stopped.is_none());
        assert_eq!(folder.site.scan(&folder.medium, NOW).accepted, 1);
        assert_eq!(fs::read(&outside).unwrap(), b"outside");
    }
}

/// The same letter once more is not taken once more; its sender is told once more.
#[test]
fn a_letter_that_comes_back_is_answered_again() {
    let mut folder = Folder::new();
    let letter = folder.cancel();
    folder.plant(&letter);
    let first = folder.site.scan(&folder.medium, NOW);
    assert_eq!((first.accepted, first.receipts.len()), (1, 1));
    let soon = folder.site.scan(&folder.medium, NOW + 599);
    assert_eq!((soon.accepted, soon.receipts.len()), (0, 0), "not yet");
    let later = folder.site.scan(&folder.medium, NOW + 600);
    assert_eq!((later.accepted, later.receipts), (0, first.receipts));
    folder.site.restart(NOW);
    assert_eq!(folder.site.scan(&folder.medium, NOW + 601).accepted, 0);
}

/// A refused letter can be forgiven and tried again; an accepted one cannot.
#[test]
fn a_refused_letter_can_be_tried_again() {
    let mut folder = Folder::new();
    let job = folder.job(|_| {});
    let blob = folder.blob(object_id(b"a segment"));
    fs::write(&blob, b"a segmenT").unwrap();
    folder.plant(&job);
    assert_eq!(folder.scans()[1].refused.len(), 1);
    fs::write(&blob, b"a segment").unwrap();
    let to = folder.to();
    let aside = folder.medium.aside(&to).unwrap();
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].reason.as_ref().unwrap().code, Code::HashMismatch);
    assert!(folder.medium.put_back(&to, &aside[0]).unwrap());
    assert!(!folder.medium.put_back(&to, &aside[0]).unwrap());
    assert!(folder.medium.aside(&to).unwrap().is_empty() && folder.reasons().is_empty());
    let from = folder.client.signer.key();
    let report = folder.site.scan(&folder.medium, NOW + DAY);
    assert_eq!(
        (report.accepted, report.receipts.len()),
        (0, 1),
        "told once more that it was refused"
    );
    let Party { inbox, ledger, .. } = &mut folder.site;
    assert!(inbox.forgive(&from, job.stamp.seq, ledger).unwrap());
    assert_eq!(folder.site.scan(&folder.medium, NOW + DAY).accepted, 1);
    let Party { inbox, ledger, .. } = &mut folder.site;
    assert!(!inbox.forgive(&from, job.stamp.seq, ledger).unwrap());
    folder.site.restart(NOW + DAY);
    assert_eq!(folder.site.scan(&folder.medium, NOW + DAY).accepted, 0);
}

/// Without an enemy the contexts are what the format says.
#[test]
fn letters_have_the_contexts_of_the_format() {
    assert_eq!(
        (Announcement::CONTEXT, Cancel::CONTEXT),
        ("announcement", "cancel")
    );
    let folder = Folder::new();
    assert_eq!(folder.medium.room().is_ok(), folder.root().exists());
}
