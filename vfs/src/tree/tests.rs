//! Names and nodes, step by step.

use safelight_seal::manifest::{Entries, Entry, EntryKind};

use super::{node::weight_of_name, *};
use crate::room::Room;

/// A tree over one layer, which has these directories.
fn tree(directories: &[&str]) -> Tree {
    roomy(directories, u64::MAX)
}

/// Likewise, with room for so many names more.
fn roomy(directories: &[&str], names: u64) -> Tree {
    let entry = |path: &&str| Entry {
        path: path.as_bytes().to_vec(),
        kind: EntryKind::Directory { opaque: false },
        mode: 0o755,
        mtime_ns: 0,
        xattrs: Vec::new(),
    };
    let list: Vec<Entry> = [""].iter().chain(directories).map(entry).collect();
    let layers = Layers::of(vec![Entries::of(&list).unwrap()]).unwrap();
    Tree::over(layers, Arc::new(Room::for_names(names)))
}

fn directory() -> Node {
    Node::new(Kind::Directory(Children::default()), 0o755, 1)
}
fn symlink() -> Node {
    Node::new(Kind::Symlink(b"x".to_vec()), 0o777, 1)
}

fn file() -> Node {
    Node::new(
        Kind::File(Bytes::Own(Arc::new(Content::empty(1)))),
        0o644,
        1,
    )
}

#[test]
fn a_session_adds_names_and_attributes_within_limits_and_gets_back_what_it_removes() {
    let mut tree = tree(&[]);
    let attributes = |bytes: usize| BTreeMap::from([(b"user.a".to_vec(), vec![0; bytes])]);
    let f = tree.add(ROOT, b"f", file()).unwrap();
    assert_eq!(
        tree.set_xattrs(f, attributes(XATTR_GROWTH_MAX)),
        Err(Errno::ENOSPC)
    );
    tree.set_xattrs(f, attributes(XATTR_GROWTH_MAX / 2))
        .unwrap();
    let g = tree.add(ROOT, b"g", file()).unwrap();
    assert_eq!(
        tree.set_xattrs(g, attributes(XATTR_GROWTH_MAX / 2)),
        Err(Errno::ENOSPC)
    );
    tree.unlink(ROOT, b"f", 1).unwrap();
    tree.collect(f);
    tree.set_xattrs(g, attributes(XATTR_GROWTH_MAX / 2))
        .unwrap();

    let before = tree.weight.names;
    tree.limit.names = before + 10 * weight_of_name(b"n0");
    let mut made = 0;
    while tree
        .add(ROOT, format!("n{made}").as_bytes(), symlink())
        .is_ok()
    {
        made += 1;
    }
    assert_eq!(made, 10);
    assert_eq!(tree.add(ROOT, b"x", file()).err(), Some(Errno::ENOSPC));
    tree.rename((ROOT, b"n0"), (ROOT, b"n1"), true, 1).unwrap();
    for n in 1..made {
        let ino = tree.unlink(ROOT, format!("n{n}").as_bytes(), 2).unwrap();
        tree.collect(ino);
    }
    assert!(tree.weight.names <= before + 1, "of the one renamed over");
}

#[test]
fn a_session_adds_as_many_names_as_there_is_room_for_and_gets_back_its_own() {
    let mut tree = roomy(&["sealed"], 3);
    for name in [b"a", b"b", b"c"] {
        assert!(tree.names_left() > 0);
        tree.add(ROOT, name, file()).unwrap();
    }
    assert_eq!(tree.names_left(), 0);
    assert_eq!(tree.add(ROOT, b"d", file()).err(), Some(Errno::ENOSPC));
    let a = tree.child(ROOT, b"a").unwrap();
    assert_eq!(tree.link(a, ROOT, b"d", 1), Err(Errno::ENOSPC));
    // Another name for what has one takes no room, and the name of a layer gives none.
    tree.rename((ROOT, b"a"), (ROOT, b"e"), true, 1).unwrap();
    tree.rmdir(ROOT, b"sealed", 1).unwrap();
    assert_eq!(tree.link(a, ROOT, b"d", 1), Err(Errno::ENOSPC));
    tree.unlink(ROOT, b"b", 1).unwrap();
    tree.link(a, ROOT, b"d", 1).unwrap();
    assert_eq!(tree.names_left(), 0);
}

#[test]
fn rename_follows_posix() {
    let mut tree = tree(&[]);
    let a = tree.add(ROOT, b"a", directory()).unwrap();
    let b = tree.add(ROOT, b"b", directory()).unwrap();
    let f = tree.add(a, b"f", symlink()).unwrap();
    assert_eq!(
        tree.rename((ROOT, b"a"), (a, b"x"), true, 2),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        tree.rename((ROOT, b"b"), (ROOT, b"a"), true, 2),
        Err(Errno::ENOTEMPTY)
    );
    assert_eq!(
        tree.rename((a, b"f"), (ROOT, b"b"), true, 2),
        Err(Errno::EISDIR)
    );
    assert_eq!(
        tree.rename((ROOT, b"b"), (a, b"f"), true, 2),
        Err(Errno::ENOTDIR)
    );
    assert_eq!(
        tree.rename((a, b"f"), (ROOT, b"b"), false, 2),
        Err(Errno::EEXIST)
    );
    assert_eq!(tree.rename((a, b"f"), (b, b"g"), true, 2), Ok(()));
    assert_eq!(tree.path(f), b"b/g");
    assert_eq!(tree.rename((ROOT, b"b"), (ROOT, b"a"), true, 2), Ok(()));
    assert_eq!(tree.path(f), b"a/g");
    assert_eq!(tree.node(a).map(|node| node.names.len()), Ok(0));
}

#[test]
fn an_unlinked_open_file_lives_until_its_last_handle_and_lookup() {
    let mut tree = tree(&[]);
    let f = tree.add(ROOT, b"f", symlink()).unwrap();
    tree.looked_up(f);
    tree.opened(f, true).unwrap();
    tree.unlink(ROOT, b"f", 2).unwrap();
    tree.collect(f);
    assert!(tree.node(f).is_ok());
    tree.closed(f, true);
    assert!(tree.node(f).is_ok());
    tree.forget(f, 1);
    assert_eq!(tree.node(f).err(), Some(Errno::ESTALE));
    assert_eq!(tree.len(), 1);
}

#[test]
fn hard_links_share_a_node_and_renaming_one_over_the_other_does_nothing() {
    let mut tree = tree(&[]);
    let f = tree.add(ROOT, b"f", file()).unwrap();
    tree.link(f, ROOT, b"g", 2).unwrap();
    let s = tree.add(ROOT, b"s", symlink()).unwrap();
    tree.link(s, ROOT, b"t", 2).unwrap();
    assert_eq!(tree.node(s).unwrap().links(false), 2);
    let d = tree.add(ROOT, b"d", directory()).unwrap();
    assert_eq!(tree.link(d, ROOT, b"e", 2), Err(Errno::EPERM));
    assert_eq!(tree.node(f).unwrap().links(false), 2);
    tree.rename((ROOT, b"f"), (ROOT, b"g"), true, 3).unwrap();
    assert_eq!(
        (tree.child(ROOT, b"f"), tree.child(ROOT, b"g")),
        (Ok(f), Ok(f))
    );
    tree.unlink(ROOT, b"f", 4).unwrap();
    assert_eq!(tree.path(f), b"g");
}

#[test]
fn names_that_are_not_names_are_refused() {
    let mut tree = tree(&[]);
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
        assert_eq!(
            tree.add(ROOT, name, symlink()).err(),
            Some(Errno::EINVAL),
            "{name:?}"
        );
    }
    assert_eq!(
        tree.add(ROOT, &[b'n'; 256], symlink()).err(),
        Some(Errno::ENAMETOOLONG)
    );
    assert!(tree.add(ROOT, &[0xff; 255], symlink()).is_ok());
}

#[test]
fn an_exchange_swaps_and_never_makes_a_loop() {
    let mut tree = tree(&[]);
    let a = tree.add(ROOT, b"a", directory()).unwrap();
    let b = tree.add(a, b"b", directory()).unwrap();
    let f = tree.add(ROOT, b"f", symlink()).unwrap();
    assert_eq!(
        tree.exchange((ROOT, b"a"), (a, b"b"), 2),
        Err(Errno::EINVAL)
    );
    tree.exchange((a, b"b"), (ROOT, b"f"), 2).unwrap();
    assert_eq!(
        (tree.path(b), tree.path(f)),
        (b"f".to_vec(), b"a/b".to_vec())
    );
}

#[test]
fn a_node_of_the_layers_is_in_memory_while_it_is_open_or_changed() {
    let mut tree = tree(&["a", "a/b", "c"]);
    let (a, b, c) = (2, 3, 4);
    assert_eq!(
        (tree.resolve(b"a/b"), tree.path(b)),
        (Ok(b), b"a/b".to_vec())
    );
    for ino in [a, b, c] {
        tree.looked_up(ino);
    }
    assert_eq!(tree.made.len(), 0, "looking at it is no reason");
    tree.opened(b, false).unwrap();
    assert_eq!(tree.made.len(), 1);
    assert!(tree.closed(b, false).is_none());
    assert!(tree.is_untouched(b));
    tree.node_mut(b).unwrap().set_mode(0o700);
    tree.opened(b, false).unwrap();
    tree.closed(b, false);
    tree.forget(b, 1);
    assert_eq!(tree.node(b).unwrap().mode, 0o700);
}

#[test]
fn what_is_below_a_moved_directory_moves_with_it_and_stays_unmade() {
    let mut tree = tree(&["a", "a/b", "a/b/c", "d"]);
    let (a, b, c) = (2, 3, 4);
    tree.rename((ROOT, b"a"), (ROOT, b"e"), true, 1).unwrap();
    assert_eq!(tree.path(c), b"e/b/c");
    assert_eq!(tree.resolve(b"e/b/c"), Ok(c));
    assert_eq!(tree.resolve(b"a"), Err(Errno::ENOENT));
    assert!(tree.is_from(b, b"a/b") && !tree.is_from(b, b"e/b"));
    assert!(tree.is_untouched(b) && tree.is_untouched(c));
    let names: Vec<&[u8]> = tree.children(ROOT).unwrap().map(|(name, _)| name).collect();
    assert_eq!(names, [&b"d"[..], b"e"]);
    assert_eq!(
        tree.rename((ROOT, b"e"), (c, b"x"), true, 2),
        Err(Errno::EINVAL)
    );
    tree.rename((ROOT, b"e"), (ROOT, b"a"), true, 3).unwrap();
    assert!(tree.is_from(a, b"a"));
    assert_eq!(tree.children_len(ROOT), Ok(2));
}

#[test]
fn a_removed_node_of_the_layers_is_gone_when_the_kernel_forgets_it_and_its_name_is_free() {
    let mut tree = tree(&["a", "a/b"]);
    let (a, b) = (2, 3);
    tree.looked_up(b);
    tree.rmdir(a, b"b", 1).unwrap();
    tree.collect(b);
    assert_eq!(tree.node(b).unwrap().links(false), 0);
    assert_eq!((tree.path(b), tree.len()), (b"a/b".to_vec(), 3));
    tree.forget(b, 1);
    assert_eq!(tree.node(b).err(), Some(Errno::ESTALE));
    assert_eq!(tree.child(b, b"x").err(), Some(Errno::ESTALE));
    assert_eq!((tree.made.len(), tree.len()), (1, 2));
    assert_eq!(tree.child(a, b"b"), Err(Errno::ENOENT));
    let again = tree.add(a, b"b", directory()).unwrap();
    assert!(again > b);
    assert_eq!(tree.child_listed(a, b"b", b), Ok(again));
    tree.rmdir(a, b"b", 2).unwrap();
    assert_eq!(tree.children_len(a), Ok(0));
    assert_eq!(tree.child_listed(a, b"b", b), Err(Errno::ENOENT));
}

#[test]
fn a_node_that_the_kernel_knows_too_often_is_never_forgotten() {
    let mut tree = tree(&["a"]);
    tree.known[1] = u32::MAX - 2;
    tree.looked_up(2);
    tree.looked_up(2);
    tree.rmdir(ROOT, b"a", 1).unwrap();
    tree.forget(2, u64::MAX);
    assert!(tree.node(2).is_ok());
}
