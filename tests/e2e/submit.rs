//! Handing a job in: what is missing is named before anything is sealed, what is sealed says nothing, and the queue has it last.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use safelight_scheduler::{ClientProfile, Reason, SqliteLedger};

use crate::harness::{Ended, Host, Running, below_directory, end, word};

const TEMPLATE: &str = r#"
specificationVersion: jobtemplate-2023-09
name: "@title"
parameterDefinitions:
  - { name: Scene, type: PATH, objectType: FILE, dataFlow: IN, default: scene.txt }
  - { name: Textures, type: PATH, objectType: DIRECTORY, dataFlow: IN, default: tex }
  - { name: Out, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: frames/left }
  - { name: Artist, type: STRING, default: "@artist" }
steps:
  - name: "@step"
    parameterSpace:
      taskParameterDefinitions:
        - { name: Frame, type: INT, range: 1-3 }
    script:
      actions:
        onRun:
          command: sh
          args: ["-c", "echo @command '{{Param.Artist}}'"]
"#;

const SETTINGS: &str = r##"
priority = 70
retries = 2
expect = ["frames/left/@expect-####.png"]
[[central]]
host = "."
path = "/mnt/central"
write = true
[notify]
command = ["true", "@notify"]
url = "https://@url.example/hook"
"##;

/// A host with a bundle, in which every text is a word of its own.
struct Studio {
    host: Host,
    words: Vec<(&'static str, String)>,
}

impl Studio {
    fn new() -> Self {
        let kinds = [
            "title", "artist", "step", "command", "expect", "notify", "url", "pixels", "grain",
            "file", "value", "apart",
        ];
        let words = kinds.map(|kind| (kind, word(24))).to_vec();
        let studio = Self {
            host: Host::new(),
            words,
        };
        studio.write("template.yaml", &studio.filled(TEMPLATE));
        studio.write("safelight-job.toml", &studio.filled(SETTINGS));
        studio.write("scene.txt", studio.get("pixels"));
        studio.write(&format!("tex/{}", studio.get("file")), studio.get("grain"));
        studio.write(&format!("apart/{}", studio.get("apart")), "not of the job");
        studio
    }

    fn get(&self, kind: &str) -> &str {
        let found = self.words.iter().find(|(name, _)| *name == kind);
        &found.expect("a known word").1
    }

    /// The text with the words in their places.
    fn filled(&self, text: &str) -> String {
        let words = self.words.iter();
        words.fold(text.to_owned(), |text, (kind, word)| {
            text.replace(&format!("@{kind}"), word)
        })
    }

    fn bundle(&self) -> PathBuf {
        self.host.path("show")
    }

    fn write(&self, name: &str, text: &str) {
        self.host.write(Path::new("show").join(name), text);
    }

    fn submit(&self, options: &[&str]) -> Ended {
        let mut submit = self.host.safelight();
        end(submit.arg("submit").arg(self.bundle()).args(options))
    }

    fn ask(&self, words: &[&str]) -> Ended {
        end(self.host.safelight().args(words))
    }

    fn jobs(&self) -> Vec<serde_json::Value> {
        let said = self.ask(&["job", "list", "--json"]).ok();
        let parse = |line| serde_json::from_str(line).expect("JSON");
        said.out.lines().map(parse).collect()
    }

    /// Everything in the state below a directory that is a file.
    fn files(&self, below: &str) -> Vec<PathBuf> {
        let all = below_directory(&self.host.state().join(below)).unwrap_or_default();
        all.into_iter().filter(|path| path.is_file()).collect()
    }

    #[track_caller]
    fn nothing_was_sealed(&self) {
        assert!(self.jobs().is_empty());
        for below in ["area", "jobs", "audit"] {
            assert_eq!(self.files(below), Vec::<PathBuf>::new(), "{below}");
        }
    }

    /// Where the ledger would have the job rendered, if a site were open, and why.
    fn placed(&self, job: &str) -> Vec<Reason> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        let profile = ClientProfile {
            sites: vec!["cloud".parse().expect("site")],
            ..ClientProfile::default()
        };
        let placed = runtime.block_on(async {
            let ledger = SqliteLedger::open(&self.host.state().join("ledger.sqlite")).await?;
            let open = vec!["cloud".parse().expect("site")];
            ledger
                .place(job.parse().expect("job"), &profile, open, 1)
                .await
        });
        placed.expect("placed").0.reasons
    }
}

#[test]
fn a_bundle_becomes_a_job_in_the_queue() {
    let studio = Studio::new();
    let said = studio.submit(&[]).ok();
    let job = said.out.trim_end();
    assert!(job.starts_with("job-") && !job.contains('\n'), "{said:?}");
    assert!(said.err.contains("it runs under generic"), "{said:?}");
    assert!(said.err.contains("sealed 2 files"), "{said:?}");
    assert!(said.err.contains("this host is no site yet"), "{said:?}");
    let shown = studio.ask(&["job", "show", job, "--tasks", "--json"]).ok();
    let shown: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
    for (key, value) in [
        ("job", job.into()),
        ("state", "new".into()),
        ("policy", "generic".into()),
        ("files", 2.into()),
        ("bytes", 48.into()),
        ("audit_records", 1.into()),
        ("attempts", serde_json::json!([])),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    let log = studio.ask(&["audit", "verify", job]);
    log.ok();
    // For scripts the same in one object, and nothing else.
    let said = studio
        .submit(&["--json", "--quiet", "-p", "Artist=x=y"])
        .ok();
    let object: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(
        (&object["steps"], &object["tasks"], &object["files"]),
        (&1.into(), &3.into(), &2.into())
    );
    assert_eq!(said.err, "");
    assert_eq!(studio.jobs().len(), 2);
}

#[test]
fn only_what_the_job_names_is_packed_and_nothing_of_it_can_be_read() {
    let studio = Studio::new();
    let value = format!("Artist={}", studio.get("value"));
    studio.submit(&["-p", &value]).ok();
    let files = studio.files("");
    let mut looked = 0;
    for path in &files {
        let bytes = fs::read(path).expect("file");
        looked += bytes.len();
        for (kind, word) in &studio.words {
            let within = |bytes: &[u8]| bytes.windows(word.len()).any(|it| it == word.as_bytes());
            assert!(!within(&bytes), "the {kind} is in {}", path.display());
            assert!(
                !within(path.as_os_str().as_encoded_bytes()),
                "the {kind} names {}",
                path.display()
            );
        }
    }
    assert!(looked > 10_000, "{looked} bytes in {} files", files.len());
    // The same search finds what is not sealed.
    let title = studio.get("title").as_bytes();
    let template = fs::read(studio.bundle().join("template.yaml")).expect("template");
    assert!(template.windows(title.len()).any(|it| it == title));
    // With its client's key it is all there, and no more than was named.
    let listed = studio.ask(&["view", "ls", "last", "--inputs"]).ok();
    for there in ["scene.txt", studio.get("file"), "frames/left"] {
        assert!(listed.out.contains(there), "{there}: {listed:?}");
    }
    assert!(!listed.out.contains(studio.get("apart")), "{listed:?}");
}

#[test]
fn everything_that_is_missing_is_named_before_anything_is_sealed() {
    let studio = Studio::new();
    fs::remove_file(studio.bundle().join("scene.txt")).expect("scene");
    studio.write(
        "asset_references.yaml",
        "assetReferences: { inputs: { filenames: [rig.json, apart, out], directories: [lib] } }",
    );
    std::os::unix::fs::symlink("/etc/hostname", studio.bundle().join("out")).expect("link");
    let said = studio.submit(&[]).failed(2);
    for (path, of, why) in [
        (
            "scene.txt",
            "template.yaml: parameterDefinitions[0] (Scene)",
            "there is nothing",
        ),
        (
            "rig.json",
            "asset_references.yaml: assetReferences.inputs.filenames[0]",
            "there is nothing",
        ),
        (
            "lib",
            "asset_references.yaml: assetReferences.inputs.directories[0]",
            "there is nothing",
        ),
        (
            "apart",
            "asset_references.yaml: assetReferences.inputs.filenames[1]",
            "it is a directory",
        ),
        (
            "out",
            "asset_references.yaml: assetReferences.inputs.filenames[2]",
            "leads out",
        ),
    ] {
        let path = studio.bundle().join(path);
        let line = said
            .err
            .lines()
            .find(|line| line.contains(&format!("{} ({of})", path.display())));
        assert!(
            line.is_some_and(|line| line.contains(why)),
            "{path:?}: {said:?}"
        );
    }
    studio.nothing_was_sealed();
}

#[test]
fn what_cannot_be_a_job_is_refused_by_name() {
    let studio = Studio::new();
    let settings = |text: &str| studio.write("safelight-job.toml", text);
    let refused = |options: &[&str], code, why: &str| {
        let said = studio.submit(options).failed(code);
        assert!(said.err.contains(why), "{why}: {said:?}");
        assert_eq!(said.out, "");
    };
    refused(
        &["-p", "Scene=/etc/hostname"],
        2,
        "\"/etc/hostname\" lies below no central path",
    );
    refused(
        &["-p", "Scene=../outside.txt"],
        2,
        "lies below no central path",
    );
    refused(
        &["-p", "Nobody=1"],
        2,
        "not defined in the template: Nobody",
    );
    refused(&["-p", "Artist"], 2, "expected NAME=VALUE");
    refused(&["--priority", "101"], 2, "101 is not in 0..=100");
    refused(
        &["--where", "no such site"],
        2,
        "expected auto, local or a site",
    );
    refused(
        &["--policy", "nobody"],
        2,
        "there is no policy named \"nobody\"",
    );
    settings("timeout = 86400000\n");
    refused(&[], 4, "the policy ends a session after");
    settings("policy = \"nobody\"\n");
    refused(&[], 2, "there is no policy named \"nobody\"");
    settings("colour = 1\n");
    refused(&[], 2, "unknown field `colour`");
    settings("[[central]]\nhost = \"nowhere\"\npath = \"/mnt/central\"\nwrite = true\n");
    refused(
        &[
            "-p",
            "Scene=nowhere/x",
            "-p",
            "Textures=nowhere/y",
            "-p",
            "Out=nowhere/z",
        ],
        2,
        "safelight-job.toml: central[0].host",
    );
    settings("");
    studio.write(
        "template.yaml",
        "specificationVersion: jobtemplate-2023-09\nname: x\nsteps: []\n",
    );
    refused(&[], 2, "template.yaml");
    studio.write("template.yaml", "steps: [");
    refused(&[], 2, "cannot read template.yaml");
    fs::remove_file(studio.bundle().join("template.yaml")).expect("template");
    refused(&[], 2, "has no template.yaml or template.json");
    studio.nothing_was_sealed();
}

#[test]
fn a_site_that_renders_for_others_takes_no_job() {
    let studio = Studio::new();
    let init = ["site", "init", "--name", "north", "--role", "remote"];
    studio.ask(&init).ok();
    let said = studio.submit(&[]).failed(2);
    assert!(
        said.err.contains("north renders for other sites"),
        "{said:?}"
    );
    assert!(!studio.host.state().join("client/identity.key").exists());
    studio.nothing_was_sealed();
}

#[test]
fn where_it_may_run_is_what_was_asked_for() {
    let studio = Studio::new();
    let job = |options: &[&str]| studio.submit(options).ok().out.trim_end().to_owned();
    let asked_there = |reasons: &[Reason]| {
        let there =
            |it: &Reason| matches!(it, Reason::AskedThere { site } if site.as_str() == "cloud");
        reasons.iter().any(there)
    };
    let local = job(&["--where", "local"]);
    let cloud = job(&["--where", "cloud"]);
    let auto = job(&[]);
    assert_eq!(studio.placed(&local)[0], Reason::AskedHere);
    assert!(asked_there(&studio.placed(&cloud)));
    let free = studio.placed(&auto);
    assert!(
        !asked_there(&free) && !free.contains(&Reason::AskedHere),
        "{free:?}"
    );
    // The bundle says it, and the command line says otherwise.
    studio.write("safelight-job.toml", "where = \"cloud\"\n");
    assert!(asked_there(&studio.placed(&job(&[]))));
    assert_eq!(
        studio.placed(&job(&["--where", "local"]))[0],
        Reason::AskedHere
    );
}

/// Random bytes: what can be guessed packs too fast to be caught at it.
fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let urandom = fs::File::open("/dev/urandom");
    urandom
        .and_then(|mut it| it.read_exact(&mut bytes))
        .expect("random bytes");
    bytes
}

#[test]
fn a_submission_that_dies_leaves_no_job() {
    let studio = Studio::new();
    fs::write(studio.bundle().join("tex/large"), random(256 << 20)).expect("file");
    let mut submit = studio.host.safelight();
    let running = Running::start(submit.arg("submit").arg(studio.bundle()));
    let until = Instant::now() + Duration::from_secs(60);
    while studio.files("area").is_empty() {
        assert!(Instant::now() < until, "nothing is sealed");
        std::thread::sleep(Duration::from_millis(2));
    }
    running.signal(Signal::SIGKILL);
    let ended = running.end();
    assert_eq!(
        (ended.signal, ended.out.as_str()),
        (Some(9), ""),
        "{ended:?}"
    );
    assert!(studio.jobs().is_empty());
    // And it is in nobody's way.
    studio.submit(&[]).ok();
    assert_eq!(studio.jobs().len(), 1);
}

#[test]
fn waiting_tells_what_happens_and_knows_no_word_of_the_job() {
    let studio = Studio::new();
    let mut submit = studio.host.safelight();
    submit.arg("submit").arg(studio.bundle()).arg("--wait");
    let mut running = Running::start(&mut submit);
    let job = format!("job-{}", running.line("job-"));
    // It became another program: its arguments and environment name nothing of the bundle's.
    let seen = |what: &str| fs::read(format!("/proc/{}/{what}", running.pid())).unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(30);
    let follows = b"__follow";
    while !seen("cmdline")
        .windows(follows.len())
        .any(|it| it == follows)
    {
        assert!(Instant::now() < until, "it does not wait");
        std::thread::sleep(Duration::from_millis(5));
    }
    let bundle = studio.bundle();
    let bundle = bundle.as_os_str().as_encoded_bytes();
    for what in ["cmdline", "environ"] {
        assert!(
            !seen(what).windows(bundle.len()).any(|it| it == bundle),
            "{what}"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let moved = runtime.expect("runtime").block_on(async {
        let ledger = SqliteLedger::open(&studio.host.state().join("ledger.sqlite")).await?;
        let canceled = safelight_scheduler::Report::Canceled;
        ledger.report(job.parse().expect("job"), canceled, 1).await
    });
    assert!(matches!(
        moved.expect("canceled"),
        safelight_scheduler::Moved::Done { .. }
    ));
    let ended = running.end().failed(10);
    for line in [": submitted", ": canceled", " is canceled"] {
        assert!(ended.err.contains(&format!("{job}{line}")), "{ended:?}");
    }
}
