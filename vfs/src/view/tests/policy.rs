//! What the policy refuses, what the log says of it, and what happens without a log.

use nix::errno::Errno;
use safelight_policies::event::{Op, Verdict};
use safelight_seal::manifest::EntryKind;

use super::*;
use crate::{
    content::Part,
    tree::{ROOT, Special},
    view::{Renaming, SetAttributes, What as Is},
};

fn denied(rule: &str) -> Verdict {
    Verdict::Denied {
        rule: rule.to_owned(),
    }
}

/// Every way to change something at a path.
fn changes(view: &View, directory: &str, name: &str) -> Vec<(Op, Answer<()>)> {
    let at = ino(view, directory);
    let path = format!("{directory}/{name}");
    let known = |outcome: Answer<Attributes>| outcome.map(drop);
    let mut all = vec![
        (Op::Create, known(view.make_file(ANYONE, at, b"new", 0o644))),
        (
            Op::Mkdir,
            known(view.make_directory(ANYONE, at, b"new", 0o755)),
        ),
        (
            Op::Symlink,
            known(view.make_symlink(ANYONE, at, b"new", b"x")),
        ),
        (
            Op::Link,
            known(view.link(ANYONE, ino(view, &path), at, b"new")),
        ),
        (
            Op::Rename,
            view.rename(
                ANYONE,
                (at, name.as_bytes()),
                (at, b"new"),
                Renaming::Replace,
            ),
        ),
        (Op::Unlink, view.unlink(ANYONE, at, name.as_bytes())),
        (
            Op::Rmdir,
            view.remove_directory(ANYONE, at, name.as_bytes()),
        ),
        (
            Op::OpenWrite,
            view.open(ANYONE, ino(view, &path), WRITE).map(drop),
        ),
        (
            Op::Xattr,
            view.set_xattr(ANYONE, ino(view, &path), b"user.a", Some(b"1"), 0),
        ),
    ];
    for set in [
        SetAttributes {
            mode: Some(0o777),
            ..SetAttributes::default()
        },
        SetAttributes {
            size: Some(0),
            ..SetAttributes::default()
        },
        SetAttributes {
            mtime: Some(Ok(1)),
            ..SetAttributes::default()
        },
    ] {
        all.push((
            Op::Setattr,
            view.set_attributes(ANYONE, ino(view, &path), set).map(drop),
        ));
    }
    all
}

#[test]
fn every_refused_change_is_on_the_log_with_its_rule_and_changes_nothing() {
    for (writable, errno, rule) in [
        (true, Errno::EACCES, "no rule allows writing here"),
        (
            false,
            Errno::EROFS,
            "the central path was granted read-only",
        ),
    ] {
        let mut bench = Bench::new();
        bench.writable = writable;
        bench.write = vec!["out/**"];
        let layer = bench.layer(&[("in", What::Directory), ("in/a", What::File(b"kept"))]);
        let view = bench.view(&[&layer]);
        let outcomes = changes(&view, "in", "a");
        let expected: Vec<Op> = outcomes.iter().map(|(op, _)| *op).collect();
        assert!(
            outcomes.iter().all(|(_, outcome)| *outcome == Err(errno)),
            "{outcomes:?}"
        );
        let log = bench.log.take();
        assert_eq!(log.iter().map(|(op, ..)| *op).collect::<Vec<_>>(), expected);
        for (op, path, verdict) in log {
            assert_eq!(verdict, denied(rule), "{op:?}");
            assert!(path.starts_with("/mnt/show/in/"), "{op:?} {path}");
        }
        assert_eq!(read(&view, "in/a").unwrap(), b"kept");
        assert_eq!(bench.commit(&view).len(), 1);
        assert!(!is_poisoned(&view));
    }
}

#[test]
fn the_same_changes_are_done_and_logged_where_a_rule_allows_them() {
    let mut bench = Bench::new();
    bench.write = vec!["out/**"];
    let layer = bench.layer(&[("out", What::Directory), ("out/a", What::File(b"x"))]);
    let view = bench.view(&[&layer]);
    let at = ino(&view, "out");
    view.make_file(ANYONE, at, b"b", 0o644).unwrap();
    view.make_directory(ANYONE, at, b"c", 0o755).unwrap();
    view.rename(ANYONE, (at, b"a"), (at, b"d"), Renaming::Keep)
        .unwrap();
    view.unlink(ANYONE, at, b"b").unwrap();
    let log = bench.log.take();
    let expected = [
        (Op::Create, "/mnt/show/out/b"),
        (Op::Mkdir, "/mnt/show/out/c"),
        (Op::Rename, "/mnt/show/out/a"),
        (Op::Unlink, "/mnt/show/out/b"),
    ];
    let expected = expected.map(|(op, path)| (op, path.to_owned(), Verdict::Allowed));
    assert_eq!(log, expected);
}

#[test]
fn what_is_denied_is_not_listed_not_found_and_not_opened() {
    let mut bench = Bench::new();
    bench.deny = vec!["secret/**"];
    let list = [
        ("open", What::File(b"1")),
        ("secret", What::Directory),
        ("secret/a", What::File(b"2")),
    ];
    let layer = bench.layer(&list);
    let view = bench.view(&[&layer]);
    assert_eq!(names(&view, ""), [".", "..", "open"]);
    bench.log.take();
    assert_eq!(
        view.lookup(ANYONE, ROOT, b"secret").err(),
        Some(Errno::EACCES)
    );
    let inside = ino(&view, "secret");
    assert_eq!(view.lookup(ANYONE, inside, b"a").err(), Some(Errno::EACCES));
    assert_eq!(view.open_directory(ANYONE, inside), Err(Errno::EACCES));
    assert_eq!(read(&view, "secret/a"), Err(Errno::EACCES));
    let rule = denied("test.toml:1: deny \"secret/**\"");
    let expected = [
        (Op::Lookup, "/mnt/show/secret"),
        (Op::Lookup, "/mnt/show/secret/a"),
        (Op::List, "/mnt/show/secret"),
        (Op::OpenRead, "/mnt/show/secret/a"),
    ];
    let expected = expected.map(|(op, path)| (op, path.to_owned(), rule.clone()));
    assert_eq!(bench.log.take(), expected);
}

#[test]
fn a_target_and_an_attribute_are_read_only_where_reading_is_allowed() {
    let mut bench = Bench::new();
    bench.read = vec!["in/**"];
    bench.write = vec!["out/**"];
    let list = [
        ("in", What::Directory),
        ("in/l", What::Symlink("x")),
        ("out", What::Directory),
        ("out/l", What::Symlink("x")),
    ];
    let layer = bench.layer(&list);
    let view = bench.view(&[&layer]);
    assert_eq!(view.read_link(ANYONE, ino(&view, "in/l")).unwrap(), b"x");
    assert_eq!(
        view.read_link(ANYONE, ino(&view, "out/l")),
        Err(Errno::EACCES)
    );
    assert_eq!(
        view.xattr(ANYONE, ino(&view, "in/l"), b"user.a"),
        Err(Errno::ENODATA)
    );
    assert_eq!(
        view.xattr(ANYONE, ino(&view, "out/l"), b"user.a"),
        Err(Errno::EACCES)
    );
    assert_eq!(
        view.xattr_names(ANYONE, ino(&view, "out/l")),
        Err(Errno::EACCES)
    );
    let refused = bench.log.take();
    assert_eq!(refused.len(), 3);
    let rule = denied("no rule allows reading here");
    assert!(
        refused
            .iter()
            .all(|(_, path, verdict)| path == "/mnt/show/out/l" && *verdict == rule)
    );
    // The kernel asks for this before every write; it is not the job's doing.
    assert_eq!(
        view.xattr(ANYONE, ino(&view, "out/l"), b"security.capability"),
        Err(Errno::ENODATA)
    );
    assert_eq!(bench.log.take(), []);
}

#[test]
fn what_is_missing_is_on_the_log_and_what_is_there_is_not() {
    let bench = Bench::new();
    let layer = bench.layer(&[("a", What::File(b"1"))]);
    let view = bench.view(&[&layer]);
    assert_eq!(view.lookup(ANYONE, ROOT, b"b").err(), Some(Errno::ENOENT));
    view.lookup(ANYONE, ROOT, b"a").unwrap();
    assert_eq!(
        bench.log.take(),
        [(Op::Lookup, "/mnt/show/b".to_owned(), Verdict::Missing)]
    );
}

#[test]
fn neither_a_rename_nor_a_link_carries_what_cannot_be_read_to_where_it_can() {
    for (read, errno) in [
        (vec!["out/**"], Err(Errno::EACCES)),
        (vec!["out/**", "drop/**"], Ok(())),
    ] {
        let mut bench = Bench::new();
        bench.read = read;
        bench.write = vec!["drop/**", "out/**"];
        let list = [
            ("drop", What::Directory),
            ("drop/d", What::Directory),
            ("drop/d/x", What::File(b"secret")),
            ("out", What::Directory),
        ];
        let layer = bench.layer(&list);
        let view = bench.view(&[&layer]);
        let (drop, out) = (ino(&view, "drop"), ino(&view, "out"));
        let file = ino(&view, "drop/d/x");
        let link = view.link(ANYONE, file, out, b"l").map(std::mem::drop);
        assert_eq!(link, errno);
        assert_eq!(
            view.rename(ANYONE, (drop, b"d"), (out, b"d"), Renaming::Replace),
            errno
        );
        assert_eq!(view.tree().resolve(b"out/d/x").is_ok(), errno.is_ok());
    }
}

#[test]
fn both_places_of_a_move_and_everything_below_must_be_writable() {
    let mut bench = Bench::new();
    bench.write = vec!["out/**", "half", "half/a"];
    let list = [
        ("half", What::Directory),
        ("half/a", What::File(b"1")),
        ("half/b", What::File(b"2")),
        ("in", What::Directory),
        ("in/x", What::File(b"3")),
        ("out", What::Directory),
        ("out/y", What::File(b"4")),
    ];
    let layer = bench.layer(&list);
    let view = bench.view(&[&layer]);
    let (input, out) = (ino(&view, "in"), ino(&view, "out"));
    let half: (Ino, &[u8]) = (ROOT, b"half");
    let refused = Err(Errno::EACCES);
    for how in [Renaming::Replace, Renaming::Exchange] {
        for (from, to) in [
            ((input, &b"x"[..]), (out, &b"y"[..])),
            ((out, b"y"), (input, b"x")),
            (half, (out, b"y")),
        ] {
            assert_eq!(view.rename(ANYONE, from, to, how), refused, "{how:?}");
        }
    }
    let link = view.link(ANYONE, ino(&view, "out/y"), input, b"z");
    assert_eq!(link.map(drop), refused);
    let moved = view.rename(ANYONE, (out, b"y"), (out, b"z"), Renaming::Keep);
    assert_eq!(moved, Ok(()));
}

#[test]
fn a_directory_with_something_denied_in_it_stays_where_it_is() {
    let mut bench = Bench::new();
    bench.deny = vec!["a/secret"];
    let list = [
        ("a", What::Directory),
        ("a/secret", What::File(b"1")),
        ("b", What::Directory),
    ];
    let layer = bench.layer(&list);
    let view = bench.view(&[&layer]);
    for how in [Renaming::Replace, Renaming::Keep, Renaming::Exchange] {
        for (from, to) in [(&b"a"[..], &b"b"[..]), (b"b", b"a"), (b"a", b"new")] {
            if how == Renaming::Replace && from == b"b" {
                continue;
            }
            let outcome = view.rename(ANYONE, (ROOT, from), (ROOT, to), how);
            let moves_a = from == b"a" || how == Renaming::Exchange;
            let expected = if moves_a {
                Errno::EACCES
            } else {
                Errno::EEXIST
            };
            assert_eq!(outcome, Err(expected), "{how:?} {from:?} {to:?}");
        }
    }
    assert!(view.tree().resolve(b"a/secret").is_ok());
}

#[test]
fn directories_are_made_on_the_way_to_where_writing_is_allowed_and_nothing_else_is() {
    let mut bench = Bench::new();
    bench.write = vec!["jobs/7/**"];
    let layer = bench.layer(&[]);
    let view = bench.view(&[&layer]);
    let jobs = view
        .make_directory(ANYONE, ROOT, b"jobs", 0o755)
        .unwrap()
        .ino;
    let seven = view.make_directory(ANYONE, jobs, b"7", 0o755).unwrap().ino;
    view.make_file(ANYONE, seven, b"x", 0o644).unwrap();
    assert_eq!(
        view.make_directory(ANYONE, jobs, b"8", 0o755).err(),
        Some(Errno::EACCES)
    );
    assert_eq!(
        view.make_file(ANYONE, jobs, b"x", 0o644).err(),
        Some(Errno::EACCES)
    );
    assert_eq!(
        view.make_symlink(ANYONE, ROOT, b"jobs2", b"/").err(),
        Some(Errno::EACCES)
    );
}

#[test]
fn devices_never_exist_and_pipes_and_sockets_end_with_the_session() {
    let mut bench = Bench::new();
    bench.deny = vec!["shut/**"];
    let layer = bench.layer(&[("below", What::File(b"1")), ("shut", What::Directory)]);
    let view = bench.view(&[&layer]);
    for device in [Special::CharDevice(259), Special::BlockDevice(2049)] {
        let refused = view.make_special(ANYONE, ROOT, b"device", 0o600, device);
        assert_eq!(refused, Err(Errno::EPERM));
        let rule = denied("no device nodes exist in a view");
        assert_eq!(
            bench.log.take(),
            [(Op::Mknod, "/mnt/show/device".to_owned(), rule)]
        );
    }
    let shut = ino(&view, "shut");
    let refused = view.make_special(ANYONE, shut, b"pipe", 0o600, Special::Pipe);
    assert_eq!(refused, Err(Errno::EACCES));
    view.unlink(ANYONE, ROOT, b"below").unwrap();
    for (name, special) in [("below", Special::Pipe), ("socket", Special::Socket)] {
        let made = view.make_special(ANYONE, ROOT, name.as_bytes(), 0o640, special);
        let made = made.unwrap();
        assert_eq!(made.what, Is::Special(special));
        assert_eq!(view.open(ANYONE, made.ino, BOTH).err(), Some(Errno::ENXIO));
    }
    let result = bench.commit(&view);
    let paths: Vec<&[u8]> = result.iter().map(|entry| &entry.path[..]).collect();
    assert_eq!(paths, [&b""[..], b"below"]);
    assert!(result[1].kind == EntryKind::Whiteout);
}

#[test]
fn a_stranger_is_refused_and_seen() {
    let bench = Bench::new();
    let layer = bench.layer(&[("a", What::File(b"1"))]);
    let view = bench.view(&[&layer]);
    assert_eq!(view.refuse_stranger(ANYONE, ino(&view, "a")), Errno::EACCES);
    let rule = denied("only the session's own user may use a view");
    assert_eq!(
        bench.log.take(),
        [(Op::Lookup, "/mnt/show/a".to_owned(), rule)]
    );
}

#[test]
fn a_name_is_255_bytes_of_anything() {
    let bench = Bench::new();
    let layer = bench.layer(&[]);
    let view = bench.view(&[&layer]);
    let (longest, too_long) = ([0xff; 255], [0xff; 256]);
    view.make_file(ANYONE, ROOT, &longest, 0o644).unwrap();
    view.lookup(ANYONE, ROOT, &longest).unwrap();
    let refused = Err(Errno::ENAMETOOLONG);
    assert_eq!(
        view.make_file(ANYONE, ROOT, &too_long, 0o644).map(drop),
        refused
    );
    assert_eq!(view.lookup(ANYONE, ROOT, &too_long).map(drop), refused);
    assert_eq!(bench.commit(&view)[1].path, longest);
}

#[test]
fn without_a_log_nothing_is_answered_and_the_attempt_is_spoiled() {
    type Act = fn(&View) -> Answer<()>;
    let acts: [(&str, Act); 8] = [
        ("read", |view| read(view, "a").map(drop)),
        ("write", |view| {
            view.open(ANYONE, ino(view, "a"), WRITE).map(drop)
        }),
        ("create", |view| {
            view.create(ANYONE, ROOT, b"n", 0o644, BOTH).map(drop)
        }),
        ("list", |view| view.open_directory(ANYONE, ROOT).map(drop)),
        ("miss", |view| view.lookup(ANYONE, ROOT, b"none").map(drop)),
        ("unlink", |view| view.unlink(ANYONE, ROOT, b"a")),
        ("rename", |view| {
            view.rename(ANYONE, (ROOT, b"a"), (ROOT, b"b"), Renaming::Replace)
        }),
        ("special", |view| {
            let made = view.make_special(ANYONE, ROOT, b"p", 0o644, Special::Pipe);
            made.map(drop)
        }),
    ];
    for (what, act) in acts {
        let bench = Bench::new();
        let layer = bench.layer(&[("a", What::File(b"1"))]);
        let view = bench.view(&[&layer]);
        bench.log.break_down();
        assert!(!is_poisoned(&view));
        assert_eq!(act(&view), Err(Errno::EIO), "{what}");
        assert!(is_poisoned(&view), "{what}");
    }
}

#[test]
fn what_was_read_and_written_is_on_the_log_at_the_close() {
    let bench = Bench::new();
    let layer = bench.layer(&[("a", What::File(b"12345"))]);
    let view = bench.view(&[&layer]);
    let number = view.open(ANYONE, ino(&view, "a"), BOTH).unwrap();
    view.write(ANYONE, number, 5, b"678").unwrap();
    view.read(ANYONE, number, 0, 100, &mut Vec::new()).unwrap();
    view.read(ANYONE, number, 6, 1, &mut Vec::new()).unwrap();
    // The name goes, the file stays; and the kernel need not say that it closes.
    view.unlink(ANYONE, ROOT, b"a").unwrap();
    view.close_all();
    let at = "/mnt/show/a".to_owned();
    let expected = [
        (Op::OpenRead, 0),
        (Op::OpenWrite, 0),
        (Op::Unlink, 0),
        (Op::CloseRead, 9),
        (Op::CloseWrite, 3),
    ];
    let bytes: Vec<u64> = bench.log.bytes();
    assert_eq!(bytes, expected.map(|(_, bytes)| bytes));
    assert_eq!(
        bench.log.take(),
        expected.map(|(op, _)| (op, at.clone(), Verdict::Allowed))
    );
    assert_eq!(view.close(ANYONE, number), Err(Errno::EBADF));
}

#[test]
fn an_unlinked_file_is_judged_where_it_was() {
    let mut bench = Bench::new();
    bench.write = vec!["tmp/**"];
    bench.read = vec!["tmp/**"];
    let layer = bench.layer(&[("tmp", What::Directory)]);
    let view = bench.view(&[&layer]);
    let at = ino(&view, "tmp");
    let (of, number) = view.create(ANYONE, at, b"scratch", 0o600, BOTH).unwrap();
    view.unlink(ANYONE, at, b"scratch").unwrap();
    view.write(ANYONE, number, 0, b"hello").unwrap();
    let set = SetAttributes {
        size: Some(4),
        ..SetAttributes::default()
    };
    assert_eq!(
        view.set_attributes(ANYONE, of.ino, set)
            .map(|of| (of.size, of.links)),
        Ok((4, 0))
    );
    let last = bench.log.take().pop().unwrap();
    assert_eq!(
        last,
        (
            Op::Setattr,
            "/mnt/show/tmp/scratch".to_owned(),
            Verdict::Allowed
        )
    );
}

#[test]
fn a_listing_never_tells_of_a_name_that_is_gone_or_is_another_files() {
    let bench = Bench::new();
    let list = [
        ("a", What::File(b"1")),
        ("b", What::File(b"22")),
        ("c", What::File(b"333")),
    ];
    let layer = bench.layer(&list);
    let view = bench.view(&[&layer]);
    let number = view.open_directory(ANYONE, ROOT).unwrap();
    let held = view.open(ANYONE, ino(&view, "a"), READ).unwrap();
    let mut seen = Vec::new();
    view.entries(number, 0, true, |_, name, of| {
        seen.push((name.to_vec(), of.size));
        seen.len() < 3
    })
    .unwrap();
    assert_eq!(seen.pop().unwrap().0, b"a");
    view.unlink(ANYONE, ROOT, b"a").unwrap();
    view.rename(ANYONE, (ROOT, b"c"), (ROOT, b"b"), Renaming::Replace)
        .unwrap();
    let mut rest = Vec::new();
    view.entries(number, 2, true, |_, name, of| {
        rest.push((name.to_vec(), of.size));
        true
    })
    .unwrap();
    assert_eq!(rest, [(b"b".to_vec(), 3)]);
    view.close(ANYONE, held).unwrap();
    // From the beginning, it is what is there now.
    view.make_file(ANYONE, ROOT, b"d", 0o644).unwrap();
    let mut again = Vec::new();
    view.entries(number, 0, false, |_, name, _| {
        again.push(name.to_vec());
        true
    })
    .unwrap();
    assert_eq!(again, [&b"."[..], b"..", b"b", b"d"]);
}

#[test]
fn owners_are_the_sessions_and_nobody_elses() {
    let bench = Bench::new();
    let layer = bench.layer(&[("a", What::File(b"1"))]);
    let view = bench.view(&[&layer]);
    let set = |owner| SetAttributes {
        owner,
        ..SetAttributes::default()
    };
    let at = ino(&view, "a");
    assert!(
        view.set_attributes(ANYONE, at, set((Some(0), Some(0))))
            .is_ok()
    );
    for owner in [(Some(1), None), (None, Some(1))] {
        assert_eq!(
            view.set_attributes(ANYONE, at, set(owner)),
            Err(Errno::EPERM)
        );
    }
}

#[test]
fn holes_are_not_told_while_the_kernel_may_keep_pages_of_a_writer() {
    let bench = Bench::new();
    let layer = bench.layer(&[("a", What::File(b"1"))]);
    let view = bench.view(&[&layer]);
    let reader = view.open(ANYONE, ino(&view, "a"), READ).unwrap();
    assert_eq!(view.seek(reader, 0, &Part::Hole), Ok(1));
    let writer = view.open(ANYONE, ino(&view, "a"), WRITE).unwrap();
    assert_eq!(view.seek(reader, 0, &Part::Hole), Err(Errno::EINVAL));
    assert_eq!(view.seek(reader, 0, &Part::Data), Err(Errno::EINVAL));
    view.close(ANYONE, writer).unwrap();
    assert_eq!(view.seek(reader, 0, &Part::Data), Ok(0));
}
