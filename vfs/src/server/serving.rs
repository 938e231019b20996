//! The views of one session, from their first mount to the sealed result.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use safelight_channel::Channel;
use safelight_policies::{
    cause::Cause,
    central::Judge,
    event::{Access, Op, Verdict},
    id::ObjectId,
    path::CentralPath,
};
use safelight_seal::{
    blob::Purpose,
    job_key::JobKey,
    manifest::{Entries, Kind, Manifest, Opened, OpenedTree, Tree as ManifestTree},
    random::Random,
    working::WorkingKey,
};

use super::{
    Error, SealedLog, Tasks,
    turns::{Given, Shared, Turns},
};
use crate::{
    area::Area,
    commit,
    console::{Console, Kept},
    content::Store,
    fuse,
    heard::Heard,
    log::Log,
    lower::Segments,
    protocol::{Order, Sealed},
    session::ToLauncher,
    tree::Found,
    upper::{Quota, Upper},
    view::{Clock, Setup, View},
};

/// Event loops of one mount.
const LOOPS: usize = 2;

pub(super) struct Serving {
    views: Vec<Arc<View>>,
    store: Arc<Store>,
    log: Arc<SealedLog>,
    clock: Clock,
    ends: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
    started: usize,
    output: Arc<Console>,
}

impl Serving {
    /// Builds the views of the layers, of which the lowest are the inputs. Nothing is mounted yet.
    pub(super) fn prepare(
        order: &Order,
        layers: &[Opened],
        area: Area,
        attempt: &Area,
        log: Arc<SealedLog>,
        random: &dyn Random,
        clock: Clock,
    ) -> Result<Self, Error> {
        let upper = Upper::new(
            working_file(attempt.root())?,
            WorkingKey::generate(random)?,
            Quota {
                bytes: order.quota,
                entries: order.entries,
            },
        );
        let store = Arc::new(Store::new(Segments::new(area), Some(upper)));
        let mut views = Vec::new();
        for central in &order.central {
            let trees = entries(layers, &central.path)?;
            let setup = Setup {
                central: central.path.clone(),
                judge: Judge::for_grant(central)?,
                writable: central.write,
                owner: order.owner,
                clock,
            };
            let view = View::of_layers(setup, trees, store.clone(), log.clone())?;
            views.push(Arc::new(view));
        }
        let heard = Heard::new(&order.lacks)?;
        let kept = Kept::new(store.clone(), order.output);
        let output = Arc::new(Console::new(kept, heard));
        Ok(Self {
            views,
            store,
            log,
            clock,
            ends: Some(mpsc::channel()),
            started: 0,
            output,
        })
    }

    /// Serves each view on its mount.
    pub(super) fn start(&mut self, mounts: Vec<OwnedFd>) -> Result<(), Error> {
        for (view, device) in self.views.iter().zip(mounts) {
            let view = view.clone();
            let end = self.ends.as_ref().map(|(end, _)| end.clone());
            std::thread::Builder::new()
                .name("view".to_owned())
                .spawn(move || {
                    let outcome = fuse::serve(view, device, LOOPS);
                    if let Err(error) = outcome {
                        tracing::warn!(%error, "a view ended early");
                    }
                    // Nobody may be waiting any more.
                    let _ = end.map(|end| end.send(()));
                })
                .map_err(|source| Error::System {
                    what: "start an event loop",
                    source,
                })?;
            self.started += 1;
        }
        Ok(())
    }

    /// Gives the launcher the command, or goes on giving it one after the other. Each is on the log before the launcher has it.
    pub(super) fn hand_over(
        &mut self,
        launcher: Channel,
        order: &Order,
        tasks: Tasks,
        shown: [OwnedFd; 2],
    ) -> Result<Shared, Error> {
        let interactive = !order.instead.is_empty();
        let [stdout, stderr] = match interactive {
            true => shown,
            false => self.carried(shown)?,
        };
        let mut env: Vec<(Vec<u8>, Vec<u8>)> = order
            .env
            .iter()
            .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()))
            .collect();
        let mut given = Given::default();
        let (message, turns) = match tasks {
            Tasks::One(task) => {
                let command = match interactive {
                    true => order.instead.clone(),
                    false => task.command,
                };
                self.note(&command)?;
                for (name, value) in &task.env {
                    env.retain(|(known, _)| known != name);
                    env.push((name.clone(), value.clone()));
                }
                given = Given {
                    expect: task.expect,
                    all: true,
                };
                let run = ToLauncher::Run {
                    interactive,
                    command,
                    directory: task.directory,
                    env,
                    files: task.files,
                };
                (run, None)
            }
            Tasks::InTurn(mut turns) => {
                let around = std::mem::take(&mut turns.around);
                for environment in &around {
                    for action in environment.enter.iter().chain(&environment.exit) {
                        self.note(&action.command)?;
                    }
                }
                let sit = ToLauncher::Sit {
                    directory: turns.directory.clone(),
                    env,
                    around,
                };
                (sit, Some(turns))
            }
        };
        launcher.send_with(&message, &[stdout.as_fd(), stderr.as_fd()])?;
        let given = Arc::new(Mutex::new(given));
        if let Some(turns) = turns {
            self.answer(turns, launcher, given.clone())?;
        }
        Ok(given)
    }

    /// The ends of pipes that lead, through the task's log, to where output is shown.
    fn carried(&self, shown: [OwnedFd; 2]) -> Result<[OwnedFd; 2], Error> {
        let failed = |what| move |source: std::io::Error| Error::System { what, source };
        let carry = |to: OwnedFd| -> Result<OwnedFd, Error> {
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
                .map_err(|errno| failed("make a pipe")(errno.into()))?;
            self.output
                .carry(File::from(read), File::from(to))
                .map_err(failed("carry the output"))?;
            Ok(write)
        };
        let [out, err] = shown;
        Ok([carry(out)?, carry(err)?])
    }

    /// Goes on giving the session tasks, on a thread of its own that ends with it.
    fn answer(&self, turns: Turns, launcher: Channel, given: Shared) -> Result<(), Error> {
        let (log, clock) = (self.log.clone(), self.clock);
        let answer = move || {
            if let Err(error) = turns.answer(&launcher, &log, clock, &given) {
                // The session hears nothing more, and fails for it.
                tracing::warn!(%error, "the session gets no further task");
            }
        };
        let thread = std::thread::Builder::new()
            .name("turns".to_owned())
            .spawn(answer);
        thread.map(drop).map_err(|source| Error::System {
            what: "start a thread",
            source,
        })
    }

    fn note(&self, command: &[Vec<u8>]) -> Result<(), Error> {
        let noted = self.log.record(exec(command, self.clock));
        noted.map_err(|_| Error::DoesNotFit)
    }

    /// Waits until the kernel has let go of every mount, so that no write is under way. Answers a worse cause if a write failed.
    pub(super) fn finish(&mut self, limit: Duration) -> Result<Option<Cause>, Error> {
        let until = Instant::now() + limit;
        if let Some((end, ended)) = self.ends.take() {
            drop(end);
            for _ in 0..self.started {
                let wait = until.saturating_duration_since(Instant::now());
                ended.recv_timeout(wait).map_err(|_| Error::StillInUse)?;
            }
        }
        self.output.finish();
        for view in &self.views {
            view.close_all();
        }
        let poisoned = self.store.upper.as_ref().is_some_and(Upper::is_poisoned);
        Ok(poisoned.then_some(Cause::Poisoned))
    }

    /// The cause of the session's end, by what it said before.
    pub(super) fn told(&self, cause: Cause) -> Cause {
        self.output.told(cause)
    }

    /// Looks for every expected output; a missing one is on the log, and is the cause of the failure.
    pub(super) fn expected(
        &self,
        given: &Mutex<Given>,
        log: &SealedLog,
    ) -> Result<Option<Cause>, Error> {
        let given = given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing = !given.all;
        for path in &given.expect {
            if self.views.iter().any(|view| has_output(view, path)) {
                continue;
            }
            missing = true;
            let access = Access {
                at: (self.clock)(),
                pid: 0,
                comm: "expected output".to_owned(),
                op: Op::Lookup,
                path: path.clone(),
                to: None,
                verdict: Verdict::Missing,
                bytes: 0,
            };
            log.record(access).map_err(|_| Error::DoesNotFit)?;
        }
        Ok(missing.then_some(Cause::NoOutput))
    }

    /// Seals what the session changed, and its output.
    pub(super) fn seal(
        &self,
        order: &Order,
        key: &JobKey,
        to: &Area,
        cause: Cause,
        random: &dyn Random,
    ) -> Result<Sealed, Error> {
        let (mut trees, mut files, mut bytes) = (Vec::new(), 0, 0);
        for view in &self.views {
            let outputs = commit::seal(view, to, random)?;
            files += outputs.files;
            bytes += outputs.bytes;
            let path = view.central().clone();
            trees.push(ManifestTree::new(path, outputs.entries));
        }
        trees.sort_by(|a, b| a.path.cmp(&b.path));
        let kind = Kind::Result {
            session: order.session,
            attempt: order.attempt,
            fence: order.fence,
        };
        let manifest = Manifest {
            job: order.job,
            kind,
            trees,
        }
        .sign_and_seal(&key.attest_key(), key, random)?;
        let text = zeroize::Zeroizing::new(self.output.text());
        let log = key.seal_blob(Purpose::TaskLog, &kind.place(order.job), &text, random)?;
        let sealed = Sealed {
            manifest: name(&manifest),
            log: name(&log),
            files,
            bytes,
            cause,
        };
        to.put(sealed.manifest, &manifest)?;
        to.put(sealed.log, &log)?;
        Ok(sealed)
    }
}

/// What each layer has at a central path, lowest first. The inputs must have something, and an empty directory is enough; a task that was
/// given fewer central paths has nothing at the others.
fn entries(layers: &[Opened], at: &CentralPath) -> Result<Vec<Entries>, Error> {
    fn tree<'a>(layer: &'a Opened, at: &CentralPath) -> Option<&'a OpenedTree> {
        layer.trees.iter().find(|tree| tree.path == *at)
    }
    if layers.first().and_then(|layer| tree(layer, at)).is_none() {
        return Err(Error::DoesNotFit);
    }
    let trees = layers.iter().filter_map(|layer| tree(layer, at));
    Ok(trees.map(|tree| tree.entries.clone()).collect())
}

/// That this is run, as the log says it.
pub(super) fn exec(command: &[Vec<u8>], clock: Clock) -> Access {
    Access {
        at: clock(),
        pid: 0,
        comm: String::new(),
        op: Op::Exec,
        path: command.first().cloned().unwrap_or_default(),
        to: Some(command.get(1..).unwrap_or_default().join(&0)),
        verdict: Verdict::Allowed,
        bytes: 0,
    }
}

fn has_output(view: &View, path: &[u8]) -> bool {
    let below = path
        .strip_prefix(view.central().as_str().as_bytes())
        .and_then(|rest| rest.strip_prefix(b"/"));
    below.is_some_and(|path| {
        let tree = view.tree();
        // What the client sent in is not an output, whatever its name.
        tree.resolve(path).is_ok_and(|ino| {
            let is_output =
                |node: Found<'_>| !node.is_special() && (node.dirty || !tree.is_from(ino, path));
            tree.node(ino).is_ok_and(is_output)
        })
    })
}

fn name(object: &[u8]) -> ObjectId {
    ObjectId(*blake3::hash(object).as_bytes())
}

/// The working file has no name from the beginning: only this process can reach it, and it is gone with it.
fn working_file(attempt: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |source| Error::System {
        what: "make the working file",
        source,
    };
    File::options()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE)
        .open(attempt)
        .map_err(failed)
}
