//! The client's process, asked as its site asks it: it signs, addresses and delivers, and refuses what a site has no business with.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use safelight_bundle::{BlobList, Envelope, Epoch, Heartbeat, Prekey, Seq, Stamp, object_id};
use safelight_channel::Channel;
use safelight_policies::id::{ClientAlias, JobId, ObjectId, SessionId, VerifyKey};
use safelight_seal::{
    identity::{KemSecret, SigningSecret},
    job_key::{JobKey, Stanza, TO_WARDEN},
    manifest::{Kind, Manifest},
    random::SystemRandom,
};
use safelight_vfs::area::Area;
use serde::{Deserialize, Serialize};

use crate::harness::{Ended, Host, end, requires};

/// What is asked, in the order of the program's own.
#[derive(Debug, Serialize)]
enum Ask {
    Who,
    Sign {
        context: String,
        body: Vec<u8>,
    },
    Readdress {
        job: JobId,
        prekey: Vec<u8>,
        site: VerifyKey,
    },
    Deliver {
        job: JobId,
        session: SessionId,
    },
    Notify {
        job: JobId,
        state: String,
        at: u64,
    },
}

/// What is answered, likewise.
#[derive(Debug, PartialEq, Deserialize)]
enum Answer {
    Client {
        key: VerifyKey,
        alias: ClientAlias,
    },
    Signature(Vec<u8>),
    Readdressed {
        envelope: ObjectId,
        list: ObjectId,
    },
    Delivered {
        stored: u64,
        aside: u64,
        leading_out: u64,
        failed: Vec<String>,
    },
    Notified {
        command: Option<String>,
        url: Option<String>,
    },
    Refused {
        reason: String,
        denied: bool,
    },
}

/// A host and its client's process.
struct Client {
    host: Host,
    child: Child,
    channel: Channel,
}

impl Client {
    fn start(host: Host) -> Self {
        fs::create_dir_all(host.state()).expect("state");
        let (ours, theirs) = Channel::pair().expect("channel");
        ours.set_timeouts(None, Some(Duration::from_secs(120)))
            .expect("timeouts");
        let child = Command::new(crate::harness::SAFELIGHT)
            .args(["__client", "--state", "."])
            .current_dir(host.state())
            .env_clear()
            .stdin(Stdio::from(theirs.into_descriptor()))
            .process_group(0)
            .spawn()
            .expect("client");
        Self {
            host,
            child,
            channel: ours,
        }
    }

    fn ask(&self, ask: &Ask) -> Answer {
        self.channel.send(ask).expect("asked");
        self.channel.expect::<Answer>().expect("answer").message
    }

    fn key(&self) -> (VerifyKey, ClientAlias) {
        match self.ask(&Ask::Who) {
            Answer::Client { key, alias } => (key, alias),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refuses(&self, ask: &Ask, why: &str) {
        match self.ask(ask) {
            Answer::Refused { reason, .. } => assert!(reason.contains(why), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    /// What the site's people did: they enrolled another site.
    fn enroll(&self, role: &str, letters: VerifyKey) {
        let hex = |key: [u8; 32]| key.map(|byte| format!("{byte:02x}")).concat();
        let client = if role == "local" {
            "client = \"other\"\n"
        } else {
            ""
        };
        let peer = format!(
            "out = \"/out\"\nin = \"/in\"\n[card]\nsite = \"{role}\"\nrole = \"{role}\"\nletters = \"{}\"\nschedule = \"{}\"\n{client}",
            hex(letters.0),
            hex([0; 32])
        );
        self.host.write(format!("state/peers/{role}.toml"), peer);
    }

    /// Hands a bundle in.
    fn submit(&self, settings: &str) -> JobId {
        self.host.write("show/template.yaml", TEMPLATE);
        self.host.write("show/safelight-job.toml", settings);
        self.host.write("show/scene.txt", "a secret scene");
        let mut submit = self.host.safelight();
        let said: Ended = end(submit.arg("submit").arg(self.host.path("show"))).ok();
        said.out.trim_end().parse().expect("job")
    }

    fn area(&self) -> Area {
        let alias = self.key().1;
        Area::open(self.host.state().join("area").join(alias.as_str())).expect("area")
    }

    fn of_job(&self, job: JobId, name: &str) -> PathBuf {
        self.host
            .state()
            .join("jobs")
            .join(job.to_string())
            .join(name)
    }

    fn envelope(&self, job: JobId) -> (Envelope, ObjectId) {
        let signed = fs::read(self.of_job(job, "envelope")).expect("envelope");
        let envelope = safelight_bundle::open(&signed, &self.key().0).expect("signed");
        (envelope, object_id(&signed))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const TEMPLATE: &str = r#"
specificationVersion: jobtemplate-2023-09
name: a title
parameterDefinitions:
  - { name: Scene, type: PATH, objectType: FILE, dataFlow: IN, default: scene.txt }
steps:
  - name: Render
    script: { actions: { onRun: { command: "true" } } }
"#;

/// Another site's warden.
struct Site {
    key: SigningSecret,
    kem: KemSecret,
}

impl Site {
    fn new() -> Self {
        let random = SystemRandom::new();
        Self {
            key: SigningSecret::generate(&random).expect("key"),
            kem: KemSecret::generate(&random).expect("key"),
        }
    }

    fn prekey(&self, id: u8) -> Vec<u8> {
        let prekey = Prekey {
            id: [id; 16],
            key: self.kem.public(),
            site: self.key.public(),
            issued: 1,
        };
        let sign = |context: &str, body: &[u8]| self.key.sign(context, body);
        safelight_bundle::seal(&prekey, &self.key.public(), sign).expect("prekey")
    }
}

#[test]
fn it_signs_letters_and_nothing_else() {
    let client = Client::start(Host::new());
    let (key, alias) = client.key();
    assert!(alias.as_str().starts_with("c-"));
    let stamp = Stamp {
        to: VerifyKey([1; 32]),
        seq: Seq {
            epoch: Epoch::new(9, [0; 3]),
            number: 1,
        },
        issued: 10,
        expires: 20,
    };
    let letter = Heartbeat {
        stamp,
        last_seen: None,
    };
    // Nobody enrolled the one whom it is for.
    let body = postcard::to_stdvec(&letter).expect("bytes");
    let context = "heartbeat".to_owned();
    client.refuses(&Ask::Sign { context, body }, "signs its own letters only");
    client.enroll("remote", VerifyKey([1; 32]));
    // What is not signed for this context does not verify, and sealing fails.
    let signed = safelight_bundle::seal(&letter, &key, |context, body| {
        let (context, body) = (context.to_owned(), body.to_vec());
        match client.ask(&Ask::Sign { context, body }) {
            Answer::Signature(bytes) => bytes.try_into().expect("64 bytes"),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(
        safelight_bundle::open::<Heartbeat>(&signed.expect("signed"), &key).expect("letter"),
        letter
    );
    for context in ["envelope", "manifest", "prekey", "lease", "job ended"] {
        let body = postcard::to_stdvec(&letter).expect("bytes");
        let context = context.to_owned();
        client.refuses(&Ask::Sign { context, body }, "signs its own letters only");
    }
    // It holds the key: nobody of this user looks into it, and it leaves no core.
    let status = fs::read_to_string(format!("/proc/{}/limits", client.child.id())).expect("limits");
    let core = status
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    assert!(
        core.is_some_and(|line| line.split_whitespace().nth(4) == Some("0")),
        "{core:?}"
    );
}

#[test]
fn a_job_is_addressed_to_a_site_and_stays_the_same_job() {
    let client = Client::start(Host::new());
    let job = client.submit("");
    let (before, old) = client.envelope(job);
    let site = Site::new();
    let (prekey, to) = (site.prekey(7), site.key.public());
    let ask = |prekey: &[u8], site| Ask::Readdress {
        job,
        prekey: prekey.to_vec(),
        site,
    };
    // Whoever asks cannot have the job's key wrapped for anybody but a site that was enrolled to render.
    client.refuses(&ask(&prekey, to), "to enrolled sites only");
    client.enroll("local", to);
    client.refuses(&ask(&prekey, to), "to enrolled sites only");
    client.enroll("remote", VerifyKey([1; 32]));
    client.refuses(&ask(&prekey, to), "to enrolled sites only");
    assert_eq!(client.envelope(job).1, old);
    client.enroll("remote", to);
    let answer = client.ask(&ask(&prekey, to));
    let Answer::Readdressed { envelope, list } = answer else {
        panic!("{answer:?}");
    };
    let (after, new) = client.envelope(job);
    assert_eq!((new, after.prekey, after.site), (envelope, [7; 16], to));
    assert_eq!(
        (&after.outline, after.inputs, after.recipe),
        (&before.outline, before.inputs, before.recipe)
    );
    // The site's warden opens it, and with the key the inputs.
    let stanza = Stanza::from_bytes(&after.stanza_for_site).expect("stanza");
    let key = JobKey::unwrap(&stanza, &site.kem, TO_WARDEN, job).expect("the job's key");
    let area = client.area();
    let inputs = area.read(after.inputs).expect("inputs");
    Manifest::open(&inputs, &key, job, &Kind::Inputs, &after.client_verify).expect("manifest");
    // The list names everything, the new envelope instead of the old, and each object is there with its length.
    let noted = fs::read_to_string(client.of_job(job, "list")).expect("list");
    assert_eq!(noted, list.to_string());
    let blobs = BlobList::decode(&area.read(list).expect("list")).expect("list");
    assert!(
        blobs.has(new) && !blobs.has(old) && blobs.has(after.inputs) && blobs.has(after.recipe)
    );
    assert_eq!(
        blobs.entries().len(),
        4,
        "envelope, manifest, recipe, one segment"
    );
    for (id, len) in blobs.entries() {
        assert_eq!(area.len(*id).expect("object"), Some(u64::from(*len)));
    }
    // One prekey, one envelope; whatever a crash left undone is done.
    let again = || client.ask(&ask(&prekey, to));
    assert_eq!(again(), Answer::Readdressed { envelope, list });
    fs::write(client.of_job(job, "list"), old.to_string()).expect("list");
    assert_eq!(again(), Answer::Readdressed { envelope, list });
    assert_eq!(
        fs::read_to_string(client.of_job(job, "list")).expect("list"),
        list.to_string()
    );
    // Another prekey, another envelope.
    let answer = client.ask(&ask(&site.prekey(8), to));
    assert!(matches!(answer, Answer::Readdressed { envelope: newer, .. } if newer != envelope));
    // A prekey that the site did not sign moves nothing.
    let (now, _) = client.envelope(job);
    let stranger = Site::new();
    client.refuses(&ask(&stranger.prekey(9), to), "prekey");
    client.refuses(&ask(&site.prekey(9)[1..], to), "signed");
    assert_eq!(client.envelope(job).0, now);
}

#[test]
fn results_come_home_once_however_often_they_are_asked_for() {
    if !requires(&["fuse", "userns", "landlock"]) {
        return;
    }
    let client = Client::start(Host::new());
    let show = client.host.dir("show");
    client.host.write("show/mine.txt", "mine");
    let script = "echo frame > frame.png; echo theirs > mine.txt; ln -s ../../etc/passwd out";
    let ran = end(&mut client
        .host
        .run(&[(&show, "/mnt/c")], &["--json"], &["sh", "-c", script]))
    .ok();
    let job: JobId = ran.job().parse().expect("job");
    let left = fs::read_dir(client.of_job(job, "left")).expect("left");
    let left = left.flatten().next().expect("one session").path();
    let session: SessionId = left
        .file_stem()
        .and_then(|it| it.to_str())
        .and_then(|it| it.parse().ok())
        .expect("session");
    // The process dies before it has said so: nothing is stored twice.
    let deliver = || client.ask(&Ask::Deliver { job, session });
    let names = |directory: &PathBuf| {
        let mut names: Vec<_> = fs::read_dir(directory)
            .expect("show")
            .flatten()
            .map(|it| it.file_name())
            .collect();
        names.sort();
        names
    };
    let before = names(&show);
    let report = |stored| Answer::Delivered {
        stored,
        aside: 1,
        leading_out: 1,
        failed: Vec::new(),
    };
    assert_eq!(deliver(), report(1));
    assert_eq!(names(&show), before);
    // What is gone is not brought again once it was delivered.
    fs::remove_file(show.join("frame.png")).expect("frame");
    assert_eq!(deliver(), report(1));
    assert!(!show.join("frame.png").exists());
    // Without the mark it is.
    let mark = left.with_extension("delivered");
    assert_eq!(
        fs::read_to_string(&mark).expect("mark"),
        r#"{"stored":1,"aside":1,"leading_out":1,"failed":[]}"#
    );
    fs::remove_file(&mark).expect("mark");
    assert_eq!(deliver(), report(1));
    assert_eq!(
        fs::read_to_string(show.join("frame.png")).expect("frame"),
        "frame\n"
    );
    assert_eq!(
        fs::read_to_string(show.join("mine.txt")).expect("mine"),
        "mine"
    );
    // What could not be stored is no delivery: it is tried again.
    fs::remove_file(&mark).expect("mark");
    fs::remove_dir_all(&show).expect("show");
    client.refuses(&Ask::Deliver { job, session }, "No such file");
    fs::create_dir(&show).expect("show");
    assert_eq!(
        deliver(),
        Answer::Delivered {
            stored: 2,
            aside: 0,
            leading_out: 1,
            failed: Vec::new()
        }
    );
    let other = SessionId::from_random([9; 10]);
    client.refuses(
        &Ask::Deliver {
            job,
            session: other,
        },
        "left no result",
    );
}

#[test]
fn whom_the_author_names_is_told() {
    let host = Host::new();
    let said = host.path("said");
    let client = Client::start(host);
    let script = format!(
        "echo $SAFELIGHT_JOB $SAFELIGHT_JOB_STATE > {}",
        said.display()
    );
    let job = client.submit(&format!(
        "[notify]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n"
    ));
    let tell = |job| {
        client.ask(&Ask::Notify {
            job,
            state: "delivered".to_owned(),
            at: 7,
        })
    };
    assert_eq!(
        tell(job),
        Answer::Notified {
            command: None,
            url: None
        }
    );
    assert_eq!(
        fs::read_to_string(&said).expect("said"),
        format!("{job} delivered\n")
    );
    let job =
        client.submit("[notify]\ncommand = [\"false\"]\nurl = \"http://127.0.0.1:1/secret\"\n");
    assert_eq!(
        tell(job),
        Answer::Notified {
            command: Some("exit status: 1".to_owned()),
            url: Some("connection refused".to_owned())
        }
    );
    // Who was told is not told again because another was not.
    let script = format!("echo again >> {}", said.display());
    let job = client.submit(&format!(
        "[notify]\ncommand = [\"sh\", \"-c\", \"{script}\"]\nurl = \"http://127.0.0.1:1/secret\"\n"
    ));
    for _ in 0..2 {
        assert!(matches!(
            tell(job),
            Answer::Notified {
                command: None,
                url: Some(_)
            }
        ));
    }
    let told = fs::read_to_string(&said).expect("said");
    assert_eq!(told.matches("again").count(), 1);
    let silent = client.submit("");
    assert_eq!(
        tell(silent),
        Answer::Notified {
            command: None,
            url: None
        }
    );
}

#[test]
fn it_ends_with_its_parent_and_with_what_it_does_not_understand() {
    let mut client = Client::start(Host::new());
    client.key();
    client.channel.send(&255u8).expect("sent");
    assert!(!client.child.wait().expect("ended").success());
    let host = Host::new();
    let mut client = Client::start(host);
    client.key();
    client.channel = Channel::from(std::os::fd::OwnedFd::from(
        File::open("/dev/null").expect("null"),
    ));
    assert!(client.child.wait().expect("ended").success());
}
