//! How the kernel caches a session's views.

use std::{fs::File, io::Write, path::Path};

/// Where the kernel has what it tells of a mount's caching (Documentation/ABI/testing/sysfs-class-bdi).
const BDI: &str = "/sys/class/bdi";

/// How the kernel caches the views. With its default of 128 KiB of read-ahead a sequential read waits for a round trip too often. And it
/// does not trust a FUSE server to write back, so it holds a view's unwritten pages to a hundredth of the host's, which makes a session
/// that writes wait for each small batch; this server is ours, and the session's memory limit bounds what it can leave unwritten.
const CACHING: [(&str, &str); 3] = [
    ("read_ahead_kb", "4096"),
    ("max_ratio", "100"),
    ("strict_limit", "0"),
];

/// Lets the kernel cache what these views show, as it does for every session's: by their device numbers, once they are served.
pub fn let_cache(devices: &[(u32, u32)]) {
    set_caching(Path::new(BDI), devices);
}

/// Best effort, and only root may, and not every kernel has each of them: without it views work as well, and more slowly.
fn set_caching(bdi: &Path, devices: &[(u32, u32)]) {
    for (major, minor) in devices {
        let directory = bdi.join(format!("{major}:{minor}"));
        for (name, value) in CACHING {
            let file = File::options().write(true).open(directory.join(name));
            let set = file.and_then(|mut file| file.write_all(value.as_bytes()));
            if let Err(error) = set {
                tracing::debug!(name, %error, "a view's caching stays as it is");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_caching_of_each_view_is_set_where_the_kernel_has_it() {
        let bdi = tempfile::tempdir().unwrap();
        for view in ["0:51", "0:52", "8:0"] {
            fs::create_dir(bdi.path().join(view)).unwrap();
        }
        let at = |file: &str| bdi.path().join(file);
        for file in ["0:51/read_ahead_kb", "0:51/max_ratio", "0:51/strict_limit"] {
            fs::write(at(file), "1").unwrap();
        }
        fs::write(at("0:52/max_ratio"), "1").unwrap();
        fs::write(at("8:0/max_ratio"), "1").unwrap();
        set_caching(bdi.path(), &[(0, 51), (0, 52), (0, 53)]);
        for (file, expected) in [
            ("0:51/read_ahead_kb", "4096"),
            ("0:51/max_ratio", "100"),
            ("0:51/strict_limit", "0"),
            ("0:52/max_ratio", "100"),
            ("8:0/max_ratio", "1"),
        ] {
            let found = fs::read_to_string(at(file)).unwrap();
            assert!(found.starts_with(expected), "{file}: {found}");
        }
        assert!(!at("0:52/strict_limit").exists(), "nothing is made up");
    }
}
