//! pjdfstest and fsx on a mounted view, with a sealed lower and an encrypted upper.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    mounting::{Bench, Mounted, can_mount, noise, tool},
    table,
};

/// What of pjdfstest is asked for: all that Linux has.
const PJDFSTEST: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
allow_remount = REMOUNT
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// mount(8) looks for a helper of our kind of file system, and there is none.
const REMOUNT: &str =
    "#!/bin/sh\nPATH=/usr/bin:/bin:/usr/sbin:/sbin\nexec mount -i --options-mode ignore \"$@\"\n";

/// Ends a program that hangs, and says what it said.
fn ended(seconds: u32, program: &Path, complete: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &seconds.to_string()]).arg(program);
    command.env("NO_COLOR", "1");
    complete(&mut command);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
    said
}

/// What pjdfstest says of its tests: those that passed and those that were not run.
fn verdicts(said: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let with = |verdict: &str| {
        let of = |line: &str| Some(line.strip_suffix(verdict)?.trim_end().to_owned());
        said.lines().filter_map(of).collect()
    };
    (with(" ok"), with(" skipped"))
}

/// Runs pjdfstest on a view, and answers which tests passed and which were not run.
fn pjdfstest(
    program: &Path,
    bench: &Bench,
    mounted: &Mounted,
    remount: bool,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let config = bench.at("pjdfstest.toml");
    fs::write(&config, PJDFSTEST.replace("REMOUNT", &remount.to_string())).unwrap();
    let bin = bench.at("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("mount"), REMOUNT).unwrap();
    fs::set_permissions(bin.join("mount"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let said = ended(300, program, |command| {
        command.env("PATH", format!("{}:{path}", bin.display()));
        command.arg("-c").arg(&config).arg("-p").arg(&mounted.at);
        command.arg("-s").arg(bench.at("copy"));
        // A file system can be made read-only only if nothing removed is open, and the suite leaves such files behind: so these come alone.
        command.args(remount.then_some("erofs"));
    });
    verdicts(&said)
}

#[test]
fn pjdfstest_as_root() {
    let Some(program) = tool("pjdfstest_as_root", "pjdfstest") else {
        return;
    };
    if !can_mount("pjdfstest_as_root") {
        return;
    }
    let mut bench = Bench::new();
    bench.many = true;
    fs::write(bench.at("in/sealed"), noise(100_000)).unwrap();
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    for above in mounted.at.ancestors().take(2) {
        fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (passed, left_out) = pjdfstest(&program, &bench, &mounted, false);
    let (of_remounts, none) = pjdfstest(&program, &bench, &mounted, true);
    mounted.end();
    assert_eq!(none, BTreeSet::new());
    assert!(passed.len() > 380 && of_remounts.len() > 10, "{passed:?}");
    let excluded: BTreeSet<String> = left_out.difference(&of_remounts).cloned().collect();
    let listed = table::rows("## What of pjdfstest is not run");
    let listed: BTreeSet<String> = listed.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(excluded, listed, "docs/semantics.md lists what is not run");
    assert!(listed.len() <= 10);
}

/// Sizes of fsx: the longest file, the shortest and the longest operation.
type Sizes = (u64, u64, u64);

const BLOCK: u64 = 64 << 10;
const SEGMENT: u64 = 16 << 20;

/// Around blocks with any operation and with those of about a block; tiny operations; around segments.
const SIZES: [Sizes; 4] = [
    (5 * BLOCK + 7, 1, 2 * BLOCK + 1),
    (9 * BLOCK + 1, BLOCK - 1, BLOCK + 1),
    (2 * BLOCK + 3, 1, 99),
    (SEGMENT + BLOCK + 1, 1, 4 * BLOCK + 1),
];

fn config(at: &Path, (longest, least, most): Sizes) -> PathBuf {
    let weights = "close_open = 1\ninvalidate = 0.5\nmapread = 10\nmapwrite = 10\nread = 10\nwrite = 10\ntruncate = 3\nfsync = 0.3\n\
                   fdatasync = 0.3\nposix_fallocate = 1\npunch_hole = 4\nsendfile = 2\nposix_fadvise = 1\ncopy_file_range = 2\n";
    let sizes = format!("flen = {longest}\n[opsize]\nmin = {least}\nmax = {most}\n");
    let path = at.join(format!("fsx-{longest}-{most}.toml"));
    fs::write(&path, format!("{sizes}[weights]\n{weights}")).unwrap();
    path
}

/// Runs fsx on a view, and compares what it left before and after it is sealed.
fn fsx(name: &str, operations: u64, seeds: std::ops::Range<u64>) {
    let Some(program) = tool(name, "fsx") else {
        return;
    };
    if !can_mount(name) {
        return;
    }
    let bench = Bench::new();
    fs::write(bench.at("in/sealed"), noise(100_000)).unwrap();
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    let artifacts = bench.at("copy");
    for seed in seeds {
        for sizes in SIZES {
            let config = config(&bench.at("copy"), sizes);
            let file = mounted.at.join(format!("{seed}-{}-{}", sizes.0, sizes.2));
            println!("fsx: seed {seed}, {sizes:?}, {operations} operations");
            let said = ended(3600, &program, |command| {
                command.arg("-f").arg(&config).arg("-P").arg(&artifacts);
                command.args(["-N", &operations.to_string(), "-S", &seed.to_string()]);
                command.arg(&file);
            });
            assert!(said.contains("All operations completed A-OK!"), "{said}");
        }
    }
    let digests = |at: &Path| -> Vec<_> {
        let mut all: Vec<_> = fs::read_dir(at)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        all.sort();
        let digest = |path: PathBuf| {
            let bytes = fs::read(&path).unwrap();
            (
                path.file_name().unwrap().to_owned(),
                bytes.len(),
                blake3::hash(&bytes),
            )
        };
        all.into_iter().map(digest).collect()
    };
    let before = digests(&mounted.at);
    let view = mounted.end();
    let result = bench.seal(&view);
    let again = bench.mount("again", &[&inputs, &result], false, &[]);
    assert_eq!(before, digests(&again.at));
    again.end();
}

#[test]
fn fsx_of_some_operations() {
    fsx("fsx_of_some_operations", 1_500, 1..2);
}

#[test]
#[ignore = "long: 200,000 operations for each of four sizes, about an hour"]
fn fsx_of_many_operations() {
    fsx("fsx_of_many_operations", 200_000, 1..2);
}
