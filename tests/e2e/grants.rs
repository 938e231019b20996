//! Looking at a job away from home: an ordinary user of the render site, with a grant that the client gave.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use crate::{
    bundles::{TURN, shell, turned},
    harness::{Ended, SAFELIGHT, end},
    sites::{Farm, Site, farm_requires, until},
};

/// Operators of the render site: who is meant, and somebody else.
const OPERATORS: [u32; 2] = [1_620_000_001, 1_620_000_002];

/// A host where every user may mount, as most are, with accounts for the operators.
const OPEN: &str = r#"
set -e
mknod -m 666 "$1/fuse" c 10 229
cp /etc/passwd "$1/passwd"
for uid in $2 $3; do echo "o$uid:x:$uid:$uid::$1/o$uid:/bin/sh" >> "$1/passwd"; done
mount --bind "$1/fuse" /dev/fuse
mount --bind "$1/passwd" /etc/passwd
"#;

/// An ordinary user at a render site.
struct Operator<'a> {
    site: &'a Site,
    uid: u32,
    home: PathBuf,
}

impl<'a> Operator<'a> {
    fn new(site: &'a Site, uid: u32) -> Self {
        let home = site.path(format!("o{uid}"));
        let operator = Self { site, uid, home };
        let seen = operator.seen("");
        fs::create_dir_all(seen.join("at")).expect("a home");
        for path in [seen.clone(), seen.join("at")] {
            std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("chown");
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("rights");
        }
        operator
    }

    /// A path in his home, as the test sees it.
    fn seen(&self, name: &str) -> PathBuf {
        self.site.seen(format!("o{}", self.uid)).join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.site.inside("setpriv");
        let uid = self.uid.to_string();
        command.args([
            "--reuid",
            &uid,
            "--regid",
            &uid,
            "--clear-groups",
            "--",
            program,
        ]);
        command
            .env("HOME", &self.home)
            .env("SAFELIGHT_STATE", self.home.join("own"));
        command
    }

    fn ask(&self, words: &[&str]) -> Ended {
        end(self.command(SAFELIGHT).args(words))
    }

    /// A shell script in his home.
    fn sh(&self, script: &str) -> Ended {
        let script = format!("cd {}; {script}", self.home.display());
        end(self.command("sh").args(["-c", &script]))
    }

    /// Makes his key; answers its public half.
    fn key(&self) -> String {
        let said = self.ask(&["key", "new", "--json"]).ok();
        let said: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        said["verify_key"].as_str().expect("a key").to_owned()
    }

    /// Mounts a job by a grant, which the client handed him.
    fn mount(&self, job: &str, grant: &str, more: &[&str]) -> Ended {
        let (at, site) = (self.home.join("at"), self.site.path("state"));
        let (at, site) = (at.display().to_string(), site.display().to_string());
        let grant = self.home.join(grant).display().to_string();
        let words = ["view", "mount", job, &at, "--grant", &grant, "--at", &site];
        self.ask(&[&words[..], more].concat())
    }

    /// True if nothing is mounted in his home any more.
    fn sees_nothing(&self) -> bool {
        let mounts = end(self.site.inside("cat").arg("/proc/self/mounts"))
            .ok()
            .out;
        !mounts.contains(&self.home.join("at").display().to_string())
    }
}

/// Two sites at work; at the one that renders there are ordinary users who may mount.
fn open_to_operators() -> Farm {
    let mut farm = Farm::at_rest();
    let config = farm.north.read("state/safelight.toml");
    assert!(config.contains("looks = false"), "{config}");
    let config = config.replace("looks = false", "looks = true");
    farm.north.write("state/safelight.toml", config);
    farm.start();
    let [one, two] = OPERATORS.map(|uid| uid.to_string());
    let root = farm.north.path("");
    let mut open = farm.north.inside("sh");
    end(open
        .args(["-c", OPEN, "open"])
        .arg(&root)
        .args([&one, &two]))
    .ok();
    farm
}

/// Has home give a grant, and hands the file over.
fn grant(farm: &Farm, to: &Operator<'_>, key: &str, job: &str, more: &[&str]) -> String {
    let words = ["view", "grant", job, "--site", "north", "--operator", key];
    let name = format!("g{}", crate::harness::word(8));
    let out = farm.home.path(&name).display().to_string();
    let said = farm
        .home
        .ask(&[&words[..], &["--out", &out], more].concat())
        .ok();
    let number = said.out.trim().to_owned();
    let bytes = fs::read(farm.home.seen(&name)).expect("a grant");
    fs::write(to.seen(&number), bytes).expect("a file");
    number
}

/// A refusal, with exactly these words.
#[track_caller]
fn refused(ended: &Ended, why: &str) {
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let expected = format!("the site refuses: {why}");
    assert!(ended.err.contains(&expected), "{ended:?}");
}

#[test]
fn an_operator_looks_at_a_job_by_a_grant_and_everything_of_it_is_on_the_clients_log() {
    if !farm_requires(&["fusermount3"]) {
        return;
    }
    let farm = open_to_operators();
    let drawn = shell(&farm.home, "show", 2, TURN, "");
    let job = farm.submit("show", "north");
    shell(&farm.home, "other", 1, TURN, "");
    let other = farm.submit("other", "north");
    let (meant, stranger) = (
        Operator::new(&farm.north, OPERATORS[0]),
        Operator::new(&farm.north, OPERATORS[1]),
    );
    let (key, _) = (meant.key(), stranger.key());
    farm.delivered(&job);
    farm.delivered(&other);

    // The right grant shows the inputs and what the tasks wrote, to him who is meant, and to be read only.
    let right = grant(&farm, &meant, &key, &job, &["--for", "1h"]);
    meant.mount(&job, &right, &[]).ok();
    let all = meant
        .sh("cat at/words.txt at/out/1.txt; ls at/out; ! echo x > at/new 2>/dev/null")
        .ok();
    let expected = format!("{drawn}{}1.txt\n2.txt\n", turned(&drawn, 1));
    assert_eq!(all.out, expected);
    assert_ne!(
        stranger
            .sh(&format!("ls {}", meant.home.join("at").display()))
            .code,
        Some(0)
    );
    let root_looks = end(farm
        .north
        .inside("cat")
        .arg(meant.home.join("at/words.txt")));
    assert_ne!(
        root_looks.code,
        Some(0),
        "another user reads it, though it is root"
    );
    meant.sh("fusermount3 -u at").ok();

    // Everything else is refused, each for its own reason.
    refused(
        &meant.mount(&other, &right, &[]),
        "the grant is for another job",
    );
    let mut bytes = fs::read(meant.seen(&right)).expect("a grant");
    bytes[130] ^= 1;
    fs::write(meant.seen("changed"), &bytes).expect("a file");
    refused(
        &meant.mount(&job, "changed", &[]),
        "the grant was changed after its client signed it",
    );
    fs::copy(meant.seen(&right), stranger.seen(&right)).expect("a stolen grant");
    refused(
        &stranger.mount(&job, &right, &[]),
        "the grant is for another operator's key",
    );
    let early = grant(&farm, &meant, &key, &job, &["--after", "1h"]);
    refused(
        &meant.mount(&job, &early, &[]),
        "the grant does not hold yet",
    );
    let of_task = grant(&farm, &meant, &key, &job, &["--task", "0/1"]);
    refused(
        &meant.mount(&job, &of_task, &["--task", "0/0"]),
        "the grant is for task 0/1 only",
    );
    meant.mount(&job, &of_task, &[]).ok();
    assert_eq!(meant.sh("ls at/out").ok().out, "2.txt\n");

    // What is taken back is over at once, for who looks too.
    farm.home.ask(&["view", "revoke", &of_task]).ok();
    until("the look is over", || meant.sees_nothing().then_some(()));
    refused(
        &meant.mount(&job, &of_task, &[]),
        "the grant was revoked by its client",
    );

    // At home: who looked at what, by which grant; each refusal; and nothing is missing.
    let of_look = |number: &str, what: &str| {
        until(&format!("{number}: {what} is on the log"), || {
            let said = farm.home.ask(&["audit", "show", &job, "--json"]).out;
            let mut lines = said.lines();
            lines
                .any(|line| line.contains(number) && line.contains(what))
                .then_some(())
        });
    };
    of_look(&right, "mount of the inputs and what counts of all tasks");
    of_look(&right, "of operator");
    of_look(&early, "refused to who showed");
    of_look(&of_task, "the grant was revoked by its client");
    let who = farm
        .home
        .ask(&["audit", "who-read", "/**/words.txt", "--json"])
        .out;
    assert!(who.contains("debug"), "{who}");
    until("the logs are whole and all there", || {
        let verdict = farm.home.ask(&["audit", "verify", &job]);
        (verdict.code == Some(0)).then_some(())
    });
    let listed = farm.home.told(&["view", "grants", &job]);
    let states: Vec<_> = listed
        .iter()
        .filter_map(|it| it["state"].as_str())
        .collect();
    for state in ["holds", "not yet", "revoked"] {
        assert!(states.contains(&state), "{states:?}");
    }
}

/// Time cannot be hurried here: grants hold by the second.
#[test]
#[ignore = "long: it waits for the end of a grant"]
fn a_look_ends_by_itself_when_its_grant_does() {
    if !farm_requires(&["fusermount3"]) {
        return;
    }
    let farm = open_to_operators();
    let drawn = shell(&farm.home, "show", 1, TURN, "");
    let job = farm.submit("show", "north");
    let operator = Operator::new(&farm.north, OPERATORS[0]);
    let key = operator.key();
    farm.delivered(&job);
    let short = grant(&farm, &operator, &key, &job, &["--for", "15s"]);
    operator.mount(&job, &short, &[]).ok();
    assert_eq!(operator.sh("cat at/words.txt").ok().out, drawn);
    // Who holds a file open holds it no longer than the grant.
    let held = operator.sh("exec 3<at/words.txt; sleep 20; cat <&3");
    assert_ne!(held.code, Some(0), "{held:?}");
    assert!(!held.out.contains(&drawn));
    until("nothing is mounted any more", || {
        operator.sees_nothing().then_some(())
    });
    refused(&operator.mount(&job, &short, &[]), "the grant has expired");
    until("the end is on the log", || {
        let said = farm.home.ask(&["audit", "show", &job, "--json"]).out;
        let over = said.contains("ran longer than") && said.contains("the grant has expired");
        over.then_some(())
    });
    let listed = farm.home.told(&["view", "grants", &job]);
    assert_eq!(listed[0]["state"], "expired");
}
