//! A directory as a medium: what it says when it is gone, full, read-only or not ours.

use std::{
    fs,
    io::Read,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
};

use safelight_bundle::{
    Code, Directory, EntryName, Epoch, Kind, MARKER, Medium, MediumError, ReadyName, Reason, Seq,
    object_id,
};
use safelight_policies::id::VerifyKey;

use crate::parties::START;

fn hot() -> (tempfile::TempDir, Directory) {
    let kept = tempfile::tempdir().unwrap();
    let medium = Directory::create(kept.path()).unwrap();
    (kept, medium)
}

fn put(medium: &Directory, bytes: &[u8]) -> Result<(), MediumError> {
    medium.put_blob(object_id(bytes), bytes.len() as u64, &mut &bytes[..])
}

fn name() -> ReadyName {
    let seq = Seq {
        epoch: Epoch::new(START, [0; 3]),
        number: 1,
    };
    ReadyName {
        to: VerifyKey([1; 32]),
        from: VerifyKey([2; 32]),
        seq,
        kind: Kind::Job,
    }
}

fn reason() -> Reason {
    Reason {
        code: Code::Misnamed,
        reason: "x".into(),
        name: "y".into(),
        from: None,
        at: 7,
    }
}

/// Every file below a folder, by its path.
fn files(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn what_is_put_is_there_once_and_nothing_is_left_over() {
    let (kept, medium) = hot();
    let id = object_id(b"blob");
    assert_eq!(medium.blob_len(id).unwrap(), None);
    assert!(medium.open_blob(id).unwrap().is_none());
    put(&medium, b"blob").unwrap();
    put(&medium, b"blob").unwrap();
    assert_eq!(medium.blob_len(id).unwrap(), Some(4));
    let mut bytes = vec![];
    medium
        .open_blob(id)
        .unwrap()
        .unwrap()
        .source
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes, b"blob");
    medium.put_ready(&name(), b"letter").unwrap();
    let read = |max| medium.read_ready(&name().to, &name().entry(), max);
    assert_eq!(read(6).unwrap().unwrap(), b"letter");
    assert!(matches!(
        read(5),
        Err(MediumError::TooLong { len: 6, max: 5, .. })
    ));
    assert_eq!(files(kept.path()).len(), 3, "{:?}", files(kept.path()));
    for _ in 0..2 {
        medium.remove_blob(id).unwrap();
        medium.remove_ready(&name().to, &name().entry()).unwrap();
    }
    assert_eq!(files(kept.path()).len(), 1);
}

/// A source that fails leaves nothing, and what an earlier crash left is no hindrance.
#[test]
fn an_interrupted_write_leaves_nothing() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _out: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let (kept, medium) = hot();
    let id = object_id(b"blob");
    assert!(medium.put_blob(id, 4, &mut Broken).is_err());
    assert_eq!(files(kept.path()).len(), 1);
    let text = id.to_string();
    let folder = kept.path().join("blobs").join(&text[..2]);
    fs::write(folder.join(format!(".part-{text}")), b"half").unwrap();
    put(&medium, b"blob").unwrap();
    assert_eq!(files(kept.path()).len(), 2);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let (kept, medium) = hot();
    let folder = kept.path().to_owned();
    fs::remove_file(folder.join(MARKER)).unwrap();
    let said = put(&medium, b"x").unwrap_err();
    assert_eq!(
        said.to_string(),
        format!(
            "{} is not a hot folder: it has no file {MARKER}",
            folder.display()
        )
    );
    assert_eq!(
        files(&folder).len(),
        0,
        "nothing is written where nothing is mounted"
    );
    drop(kept);
    let said = put(&medium, b"x").unwrap_err();
    assert_eq!(
        said.to_string(),
        format!("the hot folder {} is not there", folder.display())
    );
    assert!(said.is_of_the_folder() && said.next_step().starts_with("mount it"));
    assert!(
        Directory::create(&folder).is_err(),
        "a mount point is not made"
    );
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_written() {
    let (kept, medium) = hot();
    let room = medium.room().unwrap();
    let said = medium
        .put_blob(object_id(b"x"), room + (1 << 40), &mut &b"x"[..])
        .unwrap_err();
    let MediumError::Full {
        folder,
        needed,
        free,
    } = &said
    else {
        panic!("{said}")
    };
    assert_eq!(folder, kept.path());
    assert!(needed > free);
    // Not even its directory was made.
    assert_eq!(fs::read_dir(kept.path().join("blobs")).unwrap().count(), 0);
}

#[test]
fn a_marker_that_is_a_link_is_none() {
    let (kept, medium) = hot();
    fs::rename(kept.path().join(MARKER), kept.path().join("other")).unwrap();
    std::os::unix::fs::symlink("other", kept.path().join(MARKER)).unwrap();
    assert!(matches!(
        medium.room(),
        Err(MediumError::NotAHotFolder { .. })
    ));
}

/// Only a user without privileges is refused by a mode; root proves the rest.
#[test]
fn a_folder_without_permission_is_named() {
    let (kept, medium) = hot();
    fs::set_permissions(kept.path().join("blobs"), fs::Permissions::from_mode(0o500)).unwrap();
    let put = put(&medium, b"x");
    fs::set_permissions(kept.path().join("blobs"), fs::Permissions::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        put.unwrap();
    } else {
        let said = put.unwrap_err();
        assert!(matches!(said, MediumError::Denied { .. }), "{said}");
        assert!(said.next_step().starts_with("give the site's user"));
    }
}

#[test]
fn what_is_set_aside_is_kept_under_a_new_name_each_time() {
    let (kept, medium) = hot();
    let to = name().to;
    let folder = kept.path().join("ready").join("01".repeat(32));
    for _ in 0..3 {
        medium.put_ready(&name(), b"letter").unwrap();
        medium.set_aside(&to, &name().entry(), &reason()).unwrap();
    }
    assert_eq!(files(&folder), Vec::<String>::new());
    let aside = kept.path().join("aside").join("01".repeat(32));
    assert_eq!(files(&aside).len(), 6);
    let text = fs::read_to_string(aside.join("7-2.json")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said["code"], "misnamed");
    // What is gone already is no error.
    medium.set_aside(&to, &name().entry(), &reason()).unwrap();
    assert_eq!(files(&aside).len(), 6);
}

/// A tree that is deeper than any path may be long, with a link out of it, and a file that nobody may read.
#[test]
fn what_is_discarded_is_gone_however_deep_it_is_and_nothing_is_followed() {
    let (kept, medium) = hot();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), b"x").unwrap();
    let to = VerifyKey([1; 32]);
    let mailbox = kept.path().join("ready").join("01".repeat(32));
    fs::create_dir_all(&mailbox).unwrap();
    let name = EntryName::new("deep").unwrap();
    let mut at = rustix::fs::open(
        &mailbox,
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for depth in 0..1_000 {
        let name = if depth == 0 { "deep" } else { "d" };
        rustix::fs::mkdirat(&at, name, rustix::fs::Mode::RWXU).unwrap();
        rustix::fs::symlinkat(outside.path(), &at, format!("link{depth}")).unwrap_or(());
        at = rustix::fs::openat(
            &at,
            name,
            rustix::fs::OFlags::PATH,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    medium.set_aside(&to, &name, &reason()).unwrap();
    let [aside] = &medium.aside(&to).unwrap()[..] else {
        panic!()
    };
    assert!(!medium.discard(&to, "../x").unwrap() && !medium.discard(&to, "other").unwrap());
    assert!(medium.discard(&to, &aside.stem).unwrap());
    assert!(!medium.discard(&to, &aside.stem).unwrap());
    assert_eq!(medium.aside(&to).unwrap(), []);
    assert_eq!(
        fs::read_dir(kept.path().join("aside").join("01".repeat(32)))
            .unwrap()
            .count(),
        0
    );
    assert!(outside.path().join("kept").exists());
}

#[test]
fn too_much_aside_deletes_nothing() {
    let (kept, medium) = hot();
    let aside = kept.path().join("aside").join("01".repeat(32));
    fs::create_dir_all(&aside).unwrap();
    for number in 0..2_000 {
        fs::write(aside.join(format!("x{number}")), b"").unwrap();
    }
    medium.put_ready(&name(), b"letter").unwrap();
    let said = medium
        .set_aside(&name().to, &name().entry(), &reason())
        .unwrap_err();
    assert!(matches!(said, MediumError::AsideFull { .. }), "{said}");
    let left = medium.read_ready(&name().to, &name().entry(), 100).unwrap();
    assert_eq!(left.unwrap(), b"letter");
    assert_eq!(files(&aside).len(), 2_000);
}

#[test]
fn only_a_letter_is_put_back() {
    let (kept, medium) = hot();
    let to = name().to;
    let names = ["../../secret", "secret", ".."];
    for (number, named) in names.into_iter().enumerate() {
        medium.put_ready(&name(), b"letter").unwrap();
        let reason = Reason {
            name: named.into(),
            at: number as u64,
            ..reason()
        };
        medium.set_aside(&to, &name().entry(), &reason).unwrap();
    }
    let aside = medium.aside(&to).unwrap();
    assert_eq!(aside.len(), names.len());
    assert!(
        aside
            .iter()
            .all(|aside| !medium.put_back(&to, aside).unwrap())
    );
    assert!(!kept.path().join("secret").exists());
}

/// Also one that stays inside: two names for one thing are one too many.
#[test]
fn a_link_on_the_way_is_not_followed() {
    let (kept, medium) = hot();
    put(&medium, b"blob").unwrap();
    fs::rename(kept.path().join("blobs"), kept.path().join("other")).unwrap();
    std::os::unix::fs::symlink("other", kept.path().join("blobs")).unwrap();
    let before = files(&kept.path().join("other"));
    let said = medium.open_blob(object_id(b"blob")).map(drop).unwrap_err();
    assert!(matches!(said, MediumError::Escapes { .. }), "{said}");
    let said = put(&medium, b"more").unwrap_err();
    assert!(matches!(said, MediumError::Escapes { .. }), "{said}");
    assert_eq!(files(&kept.path().join("other")), before);
}

#[test]
fn a_name_cannot_leave_the_folder() {
    let (kept, medium) = hot();
    fs::write(kept.path().join("secret"), b"secret").unwrap();
    assert!(EntryName::new("../../secret").is_none());
    std::os::unix::fs::symlink("../../secret", kept.path().join("ready").join("link")).unwrap();
    let key = VerifyKey([1; 32]);
    std::os::unix::fs::symlink(".", kept.path().join("ready").join("01".repeat(32))).unwrap();
    let said = medium
        .read_ready(&key, &EntryName::new("link").unwrap(), 100)
        .unwrap_err();
    assert!(matches!(said, MediumError::Escapes { .. }), "{said}");
}

/// An object of ours as a store keeps it, for `group`.
fn ours(directory: &Path, mode: u32) -> std::path::PathBuf {
    let path = directory.join("object");
    fs::write(&path, b"sealed").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_file_of_ours_is_on_the_medium_without_being_written_twice() {
    let (kept, medium) = hot();
    let store = tempfile::tempdir_in(kept.path().parent().unwrap()).unwrap();
    let path = ours(store.path(), 0o640);
    let (id, file) = (object_id(b"sealed"), fs::File::open(&path).unwrap());
    let links = || fs::metadata(&path).unwrap().nlink();
    assert!(medium.share_blob(id, &file).unwrap());
    assert_eq!((links(), medium.blob_len(id).unwrap()), (2, Some(6)));
    // Once more, and in place of something else that has the name.
    assert!(medium.share_blob(id, &file).unwrap());
    assert_eq!(links(), 2);
    let name = id.to_string();
    let there = kept.path().join("blobs").join(&name[..2]).join(&name);
    fs::remove_file(&there).unwrap();
    fs::write(&there, b"what somebody left").unwrap();
    assert!(medium.share_blob(id, &file).unwrap());
    assert_eq!(fs::read(&there).unwrap(), b"sealed");
    assert_eq!(files(&kept.path().join("blobs")).len(), 1, "no other name");
    // A carrier that removes or replaces the name changes nothing of ours.
    fs::write(kept.path().join("new"), b"another").unwrap();
    fs::rename(kept.path().join("new"), &there).unwrap();
    assert_eq!((links(), fs::read(&path).unwrap()), (1, b"sealed".to_vec()));
    medium.remove_blob(id).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"sealed");
}

#[test]
fn what_others_may_write_is_copied_and_not_shared() {
    let (kept, medium) = hot();
    let store = tempfile::tempdir_in(kept.path().parent().unwrap()).unwrap();
    let id = object_id(b"sealed");
    for mode in [0o660, 0o644, 0o600] {
        let path = ours(store.path(), mode);
        let file = fs::File::open(&path).unwrap();
        assert!(!medium.share_blob(id, &file).unwrap(), "{mode:o}");
        assert_eq!(medium.blob_len(id).unwrap(), None);
        fs::remove_file(path).unwrap();
    }
}

/// The wall is the mode of the file: where it lets the group write, a carrier can.
#[test]
fn a_carrier_of_the_files_group_reads_what_is_shared_and_cannot_change_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: another user can be tried by root only");
        return;
    }
    let (kept, medium) = hot();
    let store = tempfile::tempdir_in(kept.path().parent().unwrap()).unwrap();
    let path = ours(store.path(), 0o640);
    let id = object_id(b"sealed");
    let file = fs::File::open(&path).unwrap();
    let name = id.to_string();
    let fan = kept.path().join("blobs").join(&name[..2]);
    assert!(medium.share_blob(id, &file).unwrap());
    for place in [kept.path(), &kept.path().join("blobs"), &fan] {
        chown(place, None, Some(4242)).unwrap();
        fs::set_permissions(place, fs::Permissions::from_mode(0o770)).unwrap();
    }
    chown(&path, None, Some(4242)).unwrap();
    let carrier = |script: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(fan.join(&name));
        shell
            .uid(4242)
            .gid(4242)
            .stderr(std::process::Stdio::null());
        shell.status().unwrap().success()
    };
    assert!(carrier("cat $1 > /dev/null"));
    assert!(!carrier("echo changed > $1"));
    assert_eq!(fs::read(&path).unwrap(), b"sealed");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    assert!(carrier("echo changed > $1"), "nothing else refused");
    assert_eq!(fs::read(&path).unwrap(), b"changed\n");
}
