//! Job bundles for the tests with two sites, each with words drawn anew, and what their frames look like when nobody hides anything.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    frames::{blender_project, copy, pov_project},
    harness::{Host, clean, end, word},
    sites::Site,
};

/// Where the jobs of these tests see their bundle.
pub(crate) const CENTRAL: &str = "/mnt/central";

/// Where suppliers listen, inside a site's own network.
const HOOK: &str = "127.0.0.1:7500";

/// What is the same in every bundle: the central path, and who is told.
fn settings(site: &Site, more: &str) -> String {
    let told = site.path("told").display().to_string();
    format!(
        "{more}\n[[central]]\nhost = \".\"\npath = \"{CENTRAL}\"\nwrite = true\n[notify]\nurl = \"http://{HOOK}/done\"\n\
         command = [\"sh\", \"-c\", \"echo $SAFELIGHT_JOB $SAFELIGHT_JOB_STATE >> {told}\"]\n"
    )
}

/// Who was told by the command: lines of job and state.
#[track_caller]
pub(crate) fn told_by_command(site: &Site, job: &str) -> Vec<String> {
    let told = site.read("told");
    let lines = told.lines().filter_map(|line| line.strip_prefix(job));
    lines.map(|state| state.trim().to_owned()).collect()
}

// --- Shell ------------------------------------------------------------------------------------------------------------------------

/// A job of shell commands: `script` runs for each frame, which is `$0`; `$1` is the bundle as the session sees it.
pub(crate) fn shell(site: &Site, name: &str, frames: u32, script: &str, more: &str) -> String {
    let drawn = word(24);
    let script = serde_json::to_string(script).expect("JSON");
    let template = format!(
        "specificationVersion: jobtemplate-2023-09\nname: {name}\nparameterDefinitions:\n\
         \x20 - {{ name: Words, type: PATH, objectType: FILE, dataFlow: IN, default: words.txt }}\n\
         \x20 - {{ name: Out, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: out }}\n\
         steps:\n  - name: Turn\n    parameterSpace:\n      taskParameterDefinitions:\n\
         \x20       - {{ name: Frame, type: INT, range: \"1-{frames}\" }}\n\
         \x20   script:\n      actions:\n        onRun:\n          command: sh\n\
         \x20         args: [\"-c\", {script}, \"{{{{Task.Param.Frame}}}}\", \"{CENTRAL}\"]\n"
    );
    site.write(format!("{name}/template.yaml"), template);
    site.write(
        format!("{name}/safelight-job.toml"),
        settings(site, &format!("retries = 9\n{more}")),
    );
    site.write(format!("{name}/words.txt"), &drawn);
    drawn
}

/// A frame's work: takes a moment, says a word, and turns the drawn word's letters with the frame's number behind them.
pub(crate) const TURN: &str =
    "echo frame $0; sleep 0.3; (tr a-z b-za < $1/words.txt; echo $0) > $1/out/$0.txt";

/// What [`TURN`] makes of a word in a frame.
pub(crate) fn turned(word: &str, frame: u32) -> String {
    let next = |byte: u8| if byte == b'z' { b'a' } else { byte + 1 };
    let turned: String = word.bytes().map(|byte| char::from(next(byte))).collect();
    format!("{turned}{frame}\n")
}

/// Every frame of [`TURN`] is at home, each once, and nothing else is there.
#[track_caller]
pub(crate) fn all_turned(site: &Site, name: &str, drawn: &str, frames: u32) {
    let mut there: Vec<_> = fs::read_dir(site.seen(name).join("out"))
        .expect("results")
        .flatten()
        .map(|entry| entry.file_name().into_string().expect("a name"))
        .collect();
    there.sort();
    let mut all: Vec<_> = (1..=frames).map(|frame| format!("{frame}.txt")).collect();
    all.sort();
    assert_eq!(there, all);
    for frame in 1..=frames {
        let path = format!("{name}/out/{frame}.txt");
        assert_eq!(site.read(&path), turned(drawn, frame), "{path}");
    }
}

// --- Renderers --------------------------------------------------------------------------------------------------------------------

/// A renderer with a project of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Renderer {
    Povray,
    Blender,
}

/// A project that a renderer draws frames of, in the open, and in any number of bundles.
pub(crate) struct Project {
    renderer: Renderer,
    open: PathBuf,
    frames: u32,
}

impl Project {
    /// A project with a word drawn anew, every frame of which is rendered in the open now.
    pub(crate) fn new(host: &Host, renderer: Renderer, frames: u32) -> Self {
        let (name, drawn) = ("project", word(5));
        let open = match renderer {
            Renderer::Povray => pov_project(host, name, &drawn),
            Renderer::Blender => blender_project(host, name, &drawn),
        };
        Self {
            renderer,
            open,
            frames,
        }
    }

    /// A frame's command, the frame written as `{}`.
    fn command(&self) -> Vec<String> {
        let words = match self.renderer {
            Renderer::Povray => {
                "povray +W64 +H48 -D -V +WT1 +K0.{} +I@/scene.pov +O@/frames/frame{}.png"
            }
            Renderer::Blender => {
                "blender --background @/scene.blend --threads 1 --render-output @/frames/frame# --render-frame {}"
            }
        };
        words
            .split(' ')
            .map(|word| word.replace('@', CENTRAL))
            .collect()
    }

    /// A bundle of the project's at a site.
    pub(crate) fn bundle(&self, site: &Site, name: &str) {
        let command: Vec<_> = self.command();
        let args: Vec<_> = command[1..]
            .iter()
            .map(|word| format!("{:?}", word.replace("{}", "{{Task.Param.Frame}}")))
            .collect();
        let template = format!(
            "specificationVersion: jobtemplate-2023-09\nname: {name}\nparameterDefinitions:\n\
             \x20 - {{ name: Out, type: PATH, objectType: DIRECTORY, dataFlow: OUT, default: frames }}\n\
             steps:\n  - name: Render\n    parameterSpace:\n      taskParameterDefinitions:\n\
             \x20       - {{ name: Frame, type: INT, range: \"1-{}\" }}\n\
             \x20   script:\n      actions:\n        onRun:\n          command: {}\n          args: [{}]\n",
            self.frames,
            command[0],
            args.join(", ")
        );
        copy(&self.open, &site.seen(name));
        let frames = site.seen(name).join("frames");
        fs::remove_dir_all(&frames).expect("frames");
        fs::create_dir(&frames).expect("frames");
        let assets = fs::read_dir(&self.open).expect("a project").flatten();
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        for asset in assets.filter(|asset| asset.file_name() != "frames") {
            let name = format!("{:?}", asset.file_name());
            if asset.path().is_dir() {
                directories.push(name)
            } else {
                files.push(name)
            }
        }
        let (files, directories) = (files.join(", "), directories.join(", "));
        site.write(format!("{name}/template.yaml"), template);
        site.write(
            format!("{name}/asset_references.yaml"),
            format!(
                "assetReferences: {{ inputs: {{ filenames: [{files}], directories: [{directories}] }} }}"
            ),
        );
        let policy = format!(
            "policy = \"{}\"\nexpect = [\"frames/frame#.png\"]",
            command[0]
        );
        site.write(
            format!("{name}/safelight-job.toml"),
            settings(site, &policy),
        );
    }

    /// Renders every frame in the open; answers where they are.
    pub(crate) fn in_the_open(&self, host: &Host) -> PathBuf {
        // A mount namespace of its own, so that nobody else sees the project there.
        let script = "mount -t tmpfs none /mnt && mkdir /mnt/central && mount --bind \"$1\" /mnt/central && shift && exec \"$@\"";
        for frame in 1..=self.frames {
            let command = self.command();
            let command = command
                .iter()
                .map(|word| word.replace("{}", &frame.to_string()));
            let mut bare = clean(Command::new("unshare"), &host.state(), host.root());
            bare.args(["--mount", "--", "sh", "-c", script, "bare"]);
            end(bare.arg(&self.open).args(command)).ok();
        }
        self.open.join("frames")
    }
}

/// The frame's file name.
pub(crate) fn frame_file(frame: u32) -> String {
    format!("frame{frame}.png")
}

/// Where a site has a bundle's frames, as the test sees it.
pub(crate) fn frames_of(site: &Site, name: &str) -> PathBuf {
    site.seen(Path::new(name).join("frames"))
}

// --- Who is told --------------------------------------------------------------------------------------------------------------------

/// A supplier that is posted to, in a site's own network.
pub(crate) struct Supplier {
    heard: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    deaf: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Supplier {
    pub(crate) fn at(site: &Site) -> Self {
        let network = site.network();
        let (heard, over, deaf) = (Arc::default(), Arc::default(), Arc::default());
        let (hears, ends, is_deaf) = (Arc::clone(&heard), Arc::clone(&over), Arc::clone(&deaf));
        let thread = thread::spawn(move || {
            nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).expect("the network");
            let listener = TcpListener::bind(HOOK).expect("an address");
            listener.set_nonblocking(true).expect("a listener");
            while !AtomicBool::load(&ends, Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => hear(stream, &hears, &is_deaf),
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Self {
            heard,
            over,
            deaf,
            thread: Some(thread),
        }
    }

    /// Answers everybody with an error, or does so no more.
    pub(crate) fn be_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::Relaxed);
    }

    /// What was heard of a job: the states.
    pub(crate) fn heard_of(&self, job: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = heard.iter().map(|body| {
            serde_json::from_str::<serde_json::Value>(body)
                .unwrap_or_else(|error| panic!("{error}: {body:?}"))
        });
        heard
            .filter(|told| told["job"] == job)
            .map(|told| told["state"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

fn hear(mut stream: std::net::TcpStream, heard: &Mutex<Vec<String>>, deaf: &AtomicBool) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    // The body is the one thing in braces.
    while !request.ends_with(b"}") {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let answer = if deaf.load(Ordering::Relaxed) {
        "503 Not now"
    } else {
        let request = String::from_utf8_lossy(&request);
        let body = request.split("\r\n\r\n").nth(1).unwrap_or_default();
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(body.to_owned());
        "204 Heard"
    };
    let _ = stream.write_all(
        format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes(),
    );
}

impl Drop for Supplier {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
