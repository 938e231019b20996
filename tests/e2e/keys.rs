//! Keys that rotate and are erased, bundles for those who may read them, and objects that nobody refers to any more: through the program.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use serde_json::Value;

use crate::{
    golden::files,
    harness::{Ended, Host, end, python, requires},
};

const NEEDS: &[&str] = &["fuse", "userns", "landlock"];

/// A host on which a job has run, which a colleague on another host may read.
struct World {
    host: Host,
    colleague: Host,
    job: String,
}

impl World {
    fn new() -> Option<Self> {
        if !requires(NEEDS) {
            return None;
        }
        let (host, colleague) = (Host::new(), Host::new());
        let show = host.dir("show");
        host.write("show/board.txt", "a secret storyboard\n");
        host.write("show/deep/noise.bin", vec![7; 300_000]);
        let reader = key_of(&colleague, "kem_key");
        let options = ["--json", "--reader", reader.as_str()];
        let script = "cat board.txt; tr a-z A-Z < board.txt > loud.txt";
        let run = &mut host.run(&[(&show, "/mnt/c")], &options, &["sh", "-c", script]);
        let said = end(run).ok().said();
        let job = said["job"].as_str().expect("job").to_owned();
        Some(Self {
            host,
            colleague,
            job,
        })
    }

    fn ask(&self, words: &[&str]) -> Ended {
        end(self.host.safelight().args(words))
    }

    fn pack(&self, name: &str) -> PathBuf {
        let to = self.host.path(name);
        let words = ["bundle", "pack", &self.job, path(&to)];
        self.ask(&words).ok();
        to
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A field of `key show`; the keys are made if there are none.
fn key_of(host: &Host, field: &str) -> String {
    if !host.path("state/client/identity.key").exists() {
        end(host.safelight().args(["key", "new"])).ok();
    }
    let shown = end(host.safelight().args(["key", "show", "--json"])).ok();
    let key: Value = serde_json::from_str(&shown.out).expect("JSON");
    key[field].as_str().expect("a field").to_owned()
}

#[test]
fn a_bundle_is_checked_without_a_key_and_opened_by_whom_its_client_named() {
    let Some(world) = World::new() else { return };
    let bundle = world.pack("bundle");
    let from = key_of(&world.host, "verify_key");
    let colleague = |words: &[&str]| end(world.colleague.safelight().args(words));
    // Nobody is believed by their own word.
    let stranger = colleague(&["bundle", "check", path(&bundle)]).failed(4);
    assert!(stranger.err.contains(&from), "{stranger:?}");
    colleague(&["bundle", "check", path(&bundle), "--from", &from]).ok();
    // The colleague opens it, with the results and what was printed.
    let out = world.colleague.path("out");
    let words = [
        "bundle",
        "open",
        path(&bundle),
        "--from",
        &from,
        "--to",
        path(&out),
    ];
    let listed = colleague(&words).ok();
    assert!(listed.out.contains("/mnt/c/deep/noise.bin"), "{listed:?}");
    let found = files(&out);
    let at = |name: &str| String::from_utf8_lossy(&found[Path::new(name)]).into_owned();
    assert_eq!(at("inputs/mnt/c/board.txt"), "a secret storyboard\n");
    assert_eq!(at("result-0.0-1/mnt/c/loud.txt"), "A SECRET STORYBOARD\n");
    assert_eq!(at("result-0.0-1.log"), "a secret storyboard\n");
    assert_eq!(
        found[Path::new("inputs/mnt/c/deep/noise.bin")],
        vec![7; 300_000]
    );
    // A third one may check it and not open it.
    let third = Host::new();
    key_of(&third, "kem_key");
    let words = ["bundle", "open", path(&bundle), "--from", &from];
    let refused = end(third.safelight().args(words)).failed(4);
    assert!(
        refused.err.contains("not sealed to this key"),
        "{refused:?}"
    );
    // Nothing of the job is in the bundle as it is.
    for (name, bytes) in files(&bundle) {
        for secret in [&b"storyboard"[..], b"STORYBOARD", b"board.txt", b"loud.txt"] {
            let there = bytes.windows(secret.len()).any(|part| part == secret);
            assert!(!there, "{} has {secret:?}", name.display());
        }
    }
    // A file of it that is changed, cut, or gone is named.
    for (name, bytes) in files(&bundle) {
        if name == Path::new("keys") {
            continue;
        }
        let place = bundle.join(&name);
        for spoilt in [
            None,
            Some([&bytes[..], b"x"].concat()),
            Some(bytes[1..].to_vec()),
        ] {
            match spoilt {
                Some(spoilt) => fs::write(&place, spoilt).expect("a spoilt file"),
                None => fs::remove_file(&place).expect("a file less"),
            }
            let ended = colleague(&["bundle", "check", path(&bundle), "--from", &from]);
            assert!(ended.code != Some(0), "{}: {ended:?}", name.display());
        }
        fs::write(&place, bytes).expect("a file");
    }
    colleague(&["bundle", "check", path(&bundle), "--from", &from]).ok();
}

#[test]
fn bundles_and_jobs_are_compared_by_what_they_hold() {
    let Some(world) = World::new() else { return };
    // What was sealed stays as it is; what is sealed from now on is sealed with another secret.
    world.ask(&["key", "rotate"]).ok();
    let bundle = world.pack("bundle");
    let same = world
        .ask(&["bundle", "diff", path(&bundle), &world.job])
        .ok();
    assert_eq!(same.out, "");
    // The same files, sealed with another secret, and a few changes.
    world.host.write("show/board.txt", "another storyboard\n");
    world.host.write("show/new.txt", "new");
    let show = world.host.dir("show");
    let run = &mut world.host.run(&[(&show, "/mnt/c")], &["--json"], &["true"]);
    let said = end(run).ok().said();
    let other = said["job"].as_str().expect("job");
    let diff = world
        .ask(&["bundle", "diff", path(&bundle), other, "--json"])
        .ok();
    let rows: Vec<Value> = diff
        .out
        .lines()
        .map(|it| serde_json::from_str(it).expect("JSON"))
        .collect();
    let rows: Vec<_> = rows
        .iter()
        .map(|it| {
            format!(
                "{} {}",
                it["difference"].as_str().unwrap_or(""),
                it["path"].as_str().unwrap_or("")
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            "changed /mnt/c/board.txt",
            "added /mnt/c/loud.txt",
            "added /mnt/c/new.txt"
        ]
    );
}

#[test]
fn keys_are_rotated_without_sealing_again_and_the_old_ones_open_nothing() {
    let Some(world) = World::new() else { return };
    let state = world.host.state();
    let old = fs::read(state.join("client/identity.key")).expect("a key file");
    let objects = files(&state.join("area"));
    let before = key_of(&world.host, "verify_key");
    world.ask(&["key", "rotate"]).ok();
    assert!(
        files(&state.join("area")) == objects,
        "something was sealed again"
    );
    assert_eq!(key_of(&world.host, "verify_key"), before);
    let listed = world.ask(&["key", "list"]).ok();
    assert!(listed.out.contains(&world.job), "{listed:?}");
    world.ask(&["view", "ls", &world.job]).ok();
    // Readers open it as before.
    let bundle = world.pack("bundle");
    let words = ["bundle", "open", path(&bundle), "--from", &before];
    end(world.colleague.safelight().args(words)).ok();
    // Whoever stole the old file opens nothing that is here now.
    let stolen = world.host.path("stolen.key");
    fs::write(&stolen, &old).expect("a file");
    let words = ["bundle", "open", path(&bundle), "--key", path(&stolen)];
    let refused = world.ask(&words).failed(4);
    assert!(
        refused.err.contains("not sealed to this key"),
        "{refused:?}"
    );
}

#[test]
fn a_job_whose_keys_are_erased_opens_for_nobody_and_its_objects_are_collected() {
    let Some(world) = World::new() else { return };
    let area = world.host.state().join("area");
    let collect = |words: &[&str]| -> Value {
        let said = world
            .ask(&[&["area", "collect", "--json"], words].concat())
            .ok();
        serde_json::from_str(&said.out).expect("JSON")
    };
    // What is needed stays, however old it is; what is young stays, whoever needs it.
    age(&area);
    let said = collect(&[]);
    assert_eq!(
        (&said["removed"], &said["young"]),
        (&0.into(), &0.into()),
        "{said}"
    );
    assert!(said["needed"].as_u64() > Some(3), "{said}");
    let all = files(&area).len();
    let copy = fs::read(
        world
            .host
            .state()
            .join("jobs")
            .join(&world.job)
            .join("keys"),
    );
    // Nobody is asked without a terminal, and nothing is erased by accident.
    world.ask(&["key", "erase", &world.job]).failed(2);
    world.ask(&["view", "ls", &world.job]).ok();
    let erased = world.ask(&["key", "erase", &world.job, "--yes"]).ok();
    assert!(erased.err.contains("cannot be undone"), "{erased:?}");
    let shut = world.ask(&["view", "ls", &world.job]).failed(4);
    assert!(shut.err.contains("its keys were erased"), "{shut:?}");
    world.ask(&["key", "erase", &world.job, "--yes"]).failed(2);
    // The control: it was the keys that were missing.
    let keys = world
        .host
        .state()
        .join("jobs")
        .join(&world.job)
        .join("keys");
    fs::write(&keys, copy.expect("a copy")).expect("a file");
    world.ask(&["view", "ls", &world.job]).ok();
    fs::remove_file(&keys).expect("erased again");
    // Now nobody refers to its objects.
    assert_eq!(collect(&["--dry-run"])["removed"], all);
    assert_eq!(files(&area).len(), all);
    assert_eq!(collect(&[])["removed"], all);
    assert_eq!(files(&area).len(), 0);
}

/// What was erased is certified, and both the program and one that shares no code with it see when the certificate was changed.
#[test]
fn an_erased_key_has_a_certificate_that_anybody_can_verify() {
    let Some(world) = World::new() else { return };
    if !requires(&["python-packages"]) {
        return;
    }
    let file = world.host.path("certificate.json");
    let words = [
        "key",
        "erase",
        &world.job,
        "--yes",
        "--certificate",
        path(&file),
    ];
    world.ask(&words).ok();
    world.ask(&["view", "ls", &world.job]).failed(4);
    let ours = || world.ask(&["audit", "verify", "--proof", path(&file)]);
    let verifier = Path::new(env!("CARGO_MANIFEST_DIR")).join("vfs/audit/verifier/verify.py");
    let other = || {
        let mut command = Command::new(python());
        end(command.arg(&verifier).args(["certificate", path(&file)]))
    };
    let said = ours().ok();
    let job = format!("job: {}", world.job);
    for line in [
        job.as_str(),
        "erased: the job's key",
        "to 1 readers",
        "sealed objects",
    ] {
        assert!(said.out.contains(line), "{line}: {said:?}");
    }
    let said = other().ok();
    assert!(
        said.out.contains(&job) && said.out.contains("seen by the client"),
        "{said:?}"
    );
    let whole = fs::read_to_string(&file).expect("a certificate");
    for (from, to) in [
        ("by: user", "by: nobody"),
        ("erased: ", "kept: "),
        (world.job.as_str(), "job-0000000000000000"),
    ] {
        assert!(whole.contains(from), "{from}");
        fs::write(&file, whole.replace(from, to)).expect("a file");
        ours().failed(4);
        other().failed(1);
    }
    // It is kept, and written again whenever somebody asks; a job that is erased is not erased again.
    fs::write(&file, &whole).expect("a file");
    let again = world.host.path("again.json");
    let words = ["audit", "certificate", &world.job, "--to", path(&again)];
    world.ask(&words).ok();
    assert_eq!(fs::read_to_string(&again).expect("a certificate"), whole);
    world.ask(&["key", "erase", &world.job, "--yes"]).failed(2);
}

#[test]
fn there_is_no_certificate_of_what_was_not_erased_and_one_of_each_job_of_an_erased_client() {
    let Some(world) = World::new() else { return };
    let certificate = || world.ask(&["audit", "certificate", &world.job]);
    let early = certificate().failed(2);
    assert!(early.err.contains("are not erased"), "{early:?}");
    let alias = world.host.state().join("audit");
    let alias = fs::read_dir(alias)
        .expect("audit")
        .next()
        .expect("a client");
    let alias = alias
        .expect("entry")
        .file_name()
        .to_string_lossy()
        .into_owned();
    world.ask(&["key", "erase", "--client", "--yes"]).ok();
    let file = world.host.path("certificate.json");
    fs::write(&file, certificate().ok().out).expect("a file");
    let said = world.ask(&["audit", "verify", "--proof", path(&file)]).ok();
    let also = format!("erased: the keys of {alias}");
    assert!(said.out.contains(&also), "{also}: {said:?}");
}

/// A log that cannot be written to keeps nobody from erasing, but from having it certified.
#[test]
fn what_cannot_be_certified_is_erased_if_no_certificate_is_asked_for() {
    let Some(world) = World::new() else { return };
    let clients = fs::read_dir(world.host.state().join("audit")).expect("audit");
    let client = clients.flatten().next().expect("a client").path();
    let log = client.join(format!("{}.log", world.job));
    let mut bytes = fs::read(&log).expect("log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).expect("log");
    let file = world.host.path("certificate.json");
    let words = ["key", "erase", &world.job, "--yes"];
    let refused = world.ask(&[&words[..], &["--certificate", path(&file)]].concat());
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(!file.exists());
    world.ask(&["view", "ls", &world.job]).ok();
    let erased = world.ask(&words).ok();
    assert!(erased.err.contains("has no certificate: "), "{erased:?}");
    world.ask(&["view", "ls", &world.job]).failed(4);
    world.ask(&["audit", "certificate", &world.job]).failed(2);
}

#[test]
fn a_client_that_is_erased_opens_nothing_any_more() {
    let Some(world) = World::new() else { return };
    world.ask(&["key", "erase"]).failed(2);
    world.ask(&["key", "erase", "--client"]).failed(2);
    world.ask(&["key", "erase", "--client", "--yes"]).ok();
    assert!(!world.host.state().join("client/identity.key").exists());
    let shut = world.ask(&["view", "ls", &world.job]).failed(4);
    assert!(shut.err.contains("no client key"), "{shut:?}");
}

/// Makes every object look as if nobody had asked for it for years.
fn age(area: &Path) {
    for name in files(area).keys() {
        let file = File::options()
            .write(true)
            .open(area.join(name))
            .expect("an object");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
    }
}
