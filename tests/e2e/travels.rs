//! What a file is besides its bytes: its other names and its `user.` attributes. Seen by the job, and there again at home.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::harness::{Host, end, requires};

/// Looks at what came, and makes the like of it.
const SCRIPT: &str = r#"
import os
f, g, deep = (os.stat(name) for name in ("f", "g", "d/deep"))
assert f.st_ino == g.st_ino == deep.st_ino and f.st_nlink == 3, (f, g, deep)
assert os.stat("alone").st_nlink == 1
for name in ("f", "g", "d/deep"):
    assert os.getxattr(name, "user.sum") == b"\0\xff", name
assert os.getxattr("d", "user.of-a-directory") == b"1"
assert os.listxattr("alone") == []
with open("out", "w") as file:
    file.write("made")
os.setxattr("out", "user.made", b"by the job")
os.link("out", "out2")
# Another name of an input is one file with it, also when it is written to.
with open("d/deep", "a") as file:
    file.write(" and more")
assert open("f").read() == "one file and more"
print("all of it is there")
"#;

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 100];
    let len = getxattr(path, name, value.as_mut_slice()).expect("an attribute");
    value.truncate(len);
    value
}

#[test]
fn names_and_attributes_of_a_file_are_seen_by_the_job_and_come_home() {
    if !requires(&["fuse", "userns", "landlock", "python3"]) {
        return;
    }
    let host = Host::new();
    let show = host.dir("show");
    host.dir("show/d");
    let f = host.write("show/f", "one file");
    host.write("show/alone", "one file");
    host.write("show/look.py", SCRIPT);
    for other in ["show/g", "show/d/deep"] {
        fs::hard_link(&f, host.path(other)).expect("another name");
    }
    let give = |path: &Path, name: &str, value: &[u8]| {
        setxattr(path, name, value, XattrFlags::empty()).expect("a file system with attributes");
    };
    give(&f, "user.sum", &[0, 255]);
    give(&host.path("show/d"), "user.of-a-directory", b"1");
    let command = ["/usr/bin/python3", "-I", "-B", "look.py"];
    let options = ["--policy", "generic", "--json"];
    let ended = end(&mut host.run(&[(&show, "/mnt/c")], &options, &command)).ok();
    assert_eq!(
        ended.said()["cause"],
        serde_json::json!({"exited": {"code": 0}}),
        "{ended:?}"
    );
    let (out, again) = (host.path("show/out"), host.path("show/out2"));
    assert_eq!(attribute(&out, "user.made"), b"by the job");
    let inode = |path: &Path| fs::metadata(path).expect("a file").ino();
    assert_eq!(inode(&out), inode(&again), "two files came home");
    // The client's own file is as it was; what the job made of it is beside, once, under each of its names.
    assert_eq!(fs::read_to_string(&f).expect("a file"), "one file");
    let job = ended.job();
    let beside = ["f", "g", "d/deep"].map(|name| host.path(format!("show/{name}.{job}")));
    for path in &beside {
        let text = fs::read_to_string(path).expect("a file beside");
        assert_eq!(text, "one file and more", "{}", path.display());
        assert_eq!(attribute(path, "user.sum"), [0, 255]);
        assert_eq!(inode(path), inode(&beside[0]));
    }
}
