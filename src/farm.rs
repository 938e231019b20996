//! A farm on this machine: two sites with hot folders in between, and nodes if somebody wants them. For the demo and for measuring.
//!
//! Every part is this very program, started as an operator would start it. What was started here is ended here.

use std::{
    fs::{self, File, OpenOptions},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    failure::{Failure, Kind, OrFail},
    process,
    run::Books,
    state::State,
    terminal,
};

/// How long a part may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sites and their roles.
const SITES: [(&str, &str); 2] = [("home", "local"), ("north", "remote")];

/// The nodes of each site.
pub(crate) type Nodes = [&'static [&'static str]; 2];

/// The farm, running.
pub(crate) struct Farm {
    directory: PathBuf,
    children: Vec<(String, Child)>,
}

impl Farm {
    /// Makes the farm, or takes up one that an earlier demo made, and starts it.
    pub(crate) fn start(directory: PathBuf, nodes: &Nodes) -> Result<Self, Failure> {
        let mut farm = Self {
            directory,
            children: Vec::new(),
        };
        fs::create_dir_all(farm.directory.join("logs")).or_fail(Kind::Environment)?;
        let mut ports = Vec::new();
        for (name, role) in SITES {
            let listen = free_port()?;
            farm.command(
                &[
                    "site", "init", "--name", name, "--role", role, "--listen", &listen,
                ],
                name,
            )?;
            ports.push(listen);
        }
        for (own, other) in [("home", "north"), ("north", "home")] {
            let card = farm.path(other).join("card.toml");
            let (out, r#in) = (farm.hot(own, other), farm.hot(other, own));
            let words = [
                "site",
                "enroll",
                text(&card)?,
                "--out",
                text(&out)?,
                "--in",
                text(&r#in)?,
            ];
            farm.command(&words, own)?;
        }
        let places = || SITES.iter().zip(&ports).zip(nodes);
        for (((site, _), listen), nodes) in places() {
            for node in *nodes {
                farm.join(node, site, listen)?;
            }
        }
        for (site, _) in SITES {
            farm.serve(site)?;
        }
        for (((site, _), listen), nodes) in places() {
            wait_until(&format!("the site {site} to open"), || {
                Ok(std::net::TcpStream::connect(listen).is_ok())
            })?;
            for node in *nodes {
                farm.spawn(node, &["node", "serve"])?;
            }
        }
        for ((site, _), nodes) in SITES.iter().zip(nodes) {
            farm.await_nodes(site, nodes.len())?;
        }
        Ok(farm)
    }

    /// Starts a site's server.
    pub(crate) fn serve(&mut self, site: &str) -> Result<(), Failure> {
        self.spawn(site, &["serve"])
    }

    /// Kills a part as a machine that fails does.
    pub(crate) fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let Some(at) = self.children.iter().position(|(it, _)| it == name) else {
            return Ok(());
        };
        let (_, mut child) = self.children.swap_remove(at);
        child.kill().or_fail(Kind::Environment)?;
        child.wait().or_fail(Kind::Environment).map(drop)
    }

    /// The state directory of a site or a node.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The state of a site.
    pub(crate) fn state(&self, site: &str) -> Result<State, Failure> {
        State::open(Some(&self.path(site)))
    }

    /// Runs a command of ours against a site or a node; answers what it printed.
    pub(crate) fn command(&self, words: &[&str], name: &str) -> Result<String, Failure> {
        let output = Command::new(process::executable()?)
            .args(words)
            .arg("--state")
            .arg(self.path(name))
            .stdin(Stdio::null())
            .output()
            .or_fail(Kind::Environment)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = terminal::shown(output.stderr.trim_ascii_end()).replace("\\n", "\n");
        let message = format!("safelight {} failed:\n{said}", words.join(" "));
        Err(Failure::new(Kind::Environment, message))
    }

    /// The hot folder from one site to the other.
    pub(crate) fn hot(&self, from: &str, to: &str) -> PathBuf {
        self.directory.join(format!("hot-{from}-to-{to}"))
    }

    fn join(&self, node: &str, site: &str, listen: &str) -> Result<(), Failure> {
        let card = self.path(site).join("card.toml");
        let url = format!("http://{listen}");
        let words = [
            "node",
            "join",
            "--site",
            &url,
            "--name",
            node,
            "--card",
            text(&card)?,
        ];
        let said = self.command(&words, node)?;
        let key = said.split_whitespace().nth(1).unwrap_or_default();
        self.command(&["node", "enroll", node, key], site).map(drop)
    }

    fn spawn(&mut self, name: &str, words: &[&str]) -> Result<(), Failure> {
        let log = self.directory.join(format!("logs/{name}.log"));
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .or_fail(Kind::Environment)?;
        let child = Command::new(process::executable()?)
            .args(words)
            .arg("--state")
            .arg(self.path(name))
            .env("SAFELIGHT_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .or_fail(Kind::Environment)?;
        self.children.push((name.to_owned(), child));
        Ok(())
    }

    fn await_nodes(&mut self, site: &str, count: usize) -> Result<(), Failure> {
        let books = Books::open(&self.state(site)?)?;
        wait_until(&format!("the nodes of {site}"), || {
            self.all_live()?;
            let slots = books.wait(books.ledger().slots(process::now_seconds()))?;
            let free = slots.iter().filter(|slot| slot.unavailable.is_none());
            Ok(free.count() >= count)
        })
    }

    /// A failure if a part went away.
    pub(crate) fn all_live(&mut self) -> Result<(), Failure> {
        for (name, child) in &mut self.children {
            if let Some(status) = child.try_wait().or_fail(Kind::Environment)? {
                let log = self.directory.join(format!("logs/{name}.log"));
                let message = format!("{name} ended ({status})");
                let hint = format!("see {}", log.display());
                return Err(Failure::new(Kind::Environment, message).hint(hint));
            }
        }
        Ok(())
    }
}

/// Ends what was started: nodes first, since they say goodbye to their sites.
impl Drop for Farm {
    fn drop(&mut self) {
        for (_, child) in self.children.iter_mut().rev() {
            let Ok(pid) = i32::try_from(child.id()) else {
                continue;
            };
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let until = Instant::now() + PATIENCE;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > until {
                    let _ = child.kill();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Asks again and again until something happened.
pub(crate) fn wait_until(
    what: &str,
    mut happened: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    while !happened()? {
        if Instant::now() > until {
            let message = format!("waited {} s in vain for {what}", PATIENCE.as_secs());
            return Err(Failure::new(Kind::Environment, message));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// An address on this machine where nobody listens now.
fn free_port() -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").or_fail(Kind::Environment)?;
    let address = listener.local_addr().or_fail(Kind::Environment)?;
    Ok(address.to_string())
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str()
        .ok_or_else(|| Failure::new(Kind::User, format!("{} is not UTF-8", path.display())))
}
