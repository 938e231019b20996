//! Which host paths a policy may name at all.
//!
//! A bind can carry in more than files: a socket below `/run` is a door to the daemon behind it, `/proc` and `/sys` are the kernel's
//! own. Such places are refused here whatever a policy says, and the ones that merely deserve a second look give a warning.

/// Places that are never bound, with everything below them and, for a bind, everything that holds them.
const REFUSED: [(&str, &str); 11] = [
    ("/proc", "the session has its own /proc"),
    (
        "/dev",
        "device nodes are named as devices, and /dev/shm as a tmp directory",
    ),
    (
        "/sys/fs",
        "control groups and FUSE connections are managed there",
    ),
    ("/sys/kernel", "the kernel is managed there"),
    ("/sys/module", "the kernel's modules are managed there"),
    ("/sys/firmware", "it tells which machine this is"),
    ("/run", "a socket there is a door to a daemon of the host"),
    (
        "/var/run",
        "a socket there is a door to a daemon of the host",
    ),
    ("/etc/shadow", "it holds the host's passwords"),
    ("/etc/gshadow", "it holds the host's passwords"),
    ("/etc/ssl/private", "it holds the host's keys"),
];

/// Places that hold more than a renderer needs.
const WIDE: [(&str, &str); 5] = [
    ("/opt", "it holds whatever else was installed there"),
    ("/home", "it holds people's files"),
    ("/root", "it holds the administrator's files"),
    ("/srv", "it holds the site's data"),
    ("/mnt", "it holds the site's data"),
];

/// The device nodes that a policy may name.
pub(crate) const DEVICES: [&str; 5] = ["full", "null", "random", "urandom", "zero"];

/// Files that the worker writes afresh for each session instead of binding the host's.
pub(crate) const SYNTHESIZED: [&str; 5] = [
    "/etc/group",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/nsswitch.conf",
    "/etc/passwd",
];

/// True if `path` is `base` or lies below it. Both are normal.
pub(crate) fn within(path: &str, base: &str) -> bool {
    path.strip_prefix(base)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// True if one of two normal paths lies at or below the other.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    within(a, b) || within(b, a)
}

/// Checks that a path is absolute, normal and printable.
pub(crate) fn check_normal(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("it is not absolute");
    }
    if path.len() > 1024 {
        return Err("it is longer than 1,024 bytes");
    }
    if path == "/" {
        return Err("it is the root directory");
    }
    if path[1..]
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err("it has an empty, '.' or '..' part");
    }
    if path.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    Ok(())
}

/// Checks a host path that is to be bound.
pub(crate) fn check_root(path: &str) -> Result<(), String> {
    check_normal(path)?;
    for (refused, why) in REFUSED {
        if within(path, refused) {
            return Err(why.to_owned());
        }
        if within(refused, path) {
            return Err(format!("it holds {refused}, and {why}"));
        }
    }
    match SYNTHESIZED.iter().find(|at| within(path, at)) {
        Some(_) => Err("the session has its own".to_owned()),
        None => Ok(()),
    }
}

/// Checks a place for a private directory in memory.
pub(crate) fn check_tmp(path: &str) -> Result<(), &'static str> {
    check_normal(path)?;
    if path == "/dev/shm" {
        return Ok(());
    }
    for (system, why) in [
        ("/proc", "the session has its own /proc"),
        ("/sys", "it is the kernel's"),
        ("/dev", "only /dev/shm may be a tmp directory there"),
        ("/etc", "the session has its own /etc"),
        ("/usr", "programs are bound there"),
        ("/bin", "programs are bound there"),
        ("/sbin", "programs are bound there"),
        ("/lib", "programs are bound there"),
        ("/lib64", "programs are bound there"),
    ] {
        if within(path, system) {
            return Err(why);
        }
    }
    Ok(())
}

/// Why a bind of this path deserves a second look.
pub(crate) fn wide(path: &str) -> Option<&'static str> {
    WIDE.iter()
        .find(|(wide, _)| path == *wide)
        .map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_carry_in_more_than_files_is_refused() {
        for path in [
            "/usr",
            "/etc/fonts",
            "/opt/blender-4.2",
            "/sys/devices/system/cpu",
            "/var/lib/fonts",
            "/srv",
            "/running",
        ] {
            assert_eq!(check_root(path), Ok(()), "{path}");
        }
        for (path, why) in [
            ("usr", "it is not absolute"),
            ("/", "it is the root directory"),
            ("/usr/../etc/shadow", "it has an empty, '.' or '..' part"),
            ("/proc/sys", "the session has its own /proc"),
            (
                "/sys",
                "it holds /sys/fs, and control groups and FUSE connections are managed there",
            ),
            (
                "/run/docker.sock",
                "a socket there is a door to a daemon of the host",
            ),
            (
                "/var",
                "it holds /var/run, and a socket there is a door to a daemon of the host",
            ),
            (
                "/etc",
                "it holds /etc/shadow, and it holds the host's passwords",
            ),
            ("/etc/shadow", "it holds the host's passwords"),
            ("/etc/passwd", "the session has its own"),
        ] {
            assert_eq!(check_root(path), Err(why.to_owned()), "{path}");
        }
    }

    #[test]
    fn a_tmp_directory_never_hides_the_system() {
        for path in ["/tmp", "/dev/shm", "/home/render", "/var/tmp", "/scratch"] {
            assert_eq!(check_tmp(path), Ok(()), "{path}");
        }
        for path in [
            "/",
            "/dev",
            "/dev/shm/x",
            "/etc",
            "/etc/fonts",
            "/usr/tmp",
            "/proc",
            "/sys/fs",
            "tmp",
            "/tmp/",
        ] {
            assert!(check_tmp(path).is_err(), "{path}");
        }
    }

    #[test]
    fn overlap_is_by_component() {
        assert!(overlap("/a/b", "/a") && overlap("/a", "/a/b") && overlap("/a", "/a"));
        assert!(!overlap("/a/b", "/a/bc") && !within("/a", "/a/b"));
    }
}
