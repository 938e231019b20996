//! `safelight bundle`: a job in a directory, for somebody who may read it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use safelight_policies::id::{JobId, VerifyKey};
use safelight_seal::{
    key_file::ClientSecret,
    manifest::{Entry, EntryKind, Manifest},
    random::SystemRandom,
};
use safelight_vfs::{area::Area, whole::Whole};

use crate::{
    cli::StateArgs,
    failure::{Failure, Kind, OrFail},
    jobs,
    opened::OpenedJob,
    packed::{PackedDir, claimed_client, pack},
    reader::Reader,
    records::Line,
    state::State,
    terminal::{bytes, print, print_json, say, shown},
};

/// How much of a file is read at once.
const PART: usize = 1 << 20;

/// What to do with bundles.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Check signatures, hashes and completeness of a bundle; needs no key
    Check(CheckArgs),
    /// Pack a job, its results and its logs into a directory, sealed for this client and for readers
    Pack(PackArgs),
    /// List what a bundle holds, and write it out with --to
    Open(OpenArgs),
    /// Compare the inputs of two bundles or jobs
    Diff(DiffArgs),
}

/// Whose bundle it is.
#[derive(Debug, Args)]
struct From {
    /// The client's signing key: `verify_key` in what `safelight key show` prints there [default: this client's own]
    #[arg(long, value_name = "KEY")]
    from: Option<Reader>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The bundle
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    from: From,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// The job
    job: JobId,
    /// A new directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The receiving key of somebody else who may read it
    #[arg(long, value_name = "KEY")]
    reader: Vec<Reader>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// The bundle
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    from: From,
    /// A key file to open it with [default: this client's]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Write directories, files and what tasks printed below this new directory
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// One JSON object a name
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A bundle's directory or a job of this client's
    old: String,
    /// Another one
    new: String,
    #[command(flatten)]
    from: From,
    /// One JSON object a difference
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Does what was asked.
pub(crate) fn run(command: BundleCommand) -> Result<(), Failure> {
    match command {
        BundleCommand::Check(arguments) => check(&arguments),
        BundleCommand::Pack(arguments) => pack_job(&arguments),
        BundleCommand::Open(arguments) => open(&arguments),
        BundleCommand::Diff(arguments) => diff(&arguments),
    }
}

fn secret(state: &State, key: Option<&Path>) -> Result<ClientSecret, Failure> {
    let path = key.map_or_else(|| state.identity(), Path::to_owned);
    let bytes = zeroize::Zeroizing::new(jobs::read(&path)?);
    ClientSecret::from_file_bytes(&bytes).or_fail(Kind::Config)
}

/// A bundle of a client who was named, or of this one.
fn bundle(directory: &Path, from: &From, state: &StateArgs) -> Result<PackedDir, Failure> {
    let claimed = claimed_client(directory)?;
    let trusted = match from.from {
        Some(Reader(key)) => vec![VerifyKey(key.0)],
        None => {
            let state = State::open(state.state.as_deref())?;
            let known = state.identity().exists();
            match known {
                true => jobs::client_secret(&state, &SystemRandom::new())?
                    .signing()
                    .collect(),
                false => Vec::new(),
            }
        }
    };
    if trusted.contains(&claimed) {
        return PackedDir::read(directory, claimed);
    }
    let hex = data_encoding::HEXLOWER.encode(&claimed.0);
    let message = format!(
        "the bundle says that it was signed by {}, whom nobody named",
        claimed.fingerprint()
    );
    Err(Failure::new(Kind::Denied, message)
        .hint(format!("compare that with its client, then: --from {hex}")))
}

fn check(arguments: &CheckArgs) -> Result<(), Failure> {
    let bundle = bundle(&arguments.directory, &arguments.from, &arguments.state)?;
    let (objects, len) = bundle.check()?;
    if arguments.json {
        return print_json(
            &Line::default()
                .with("job", bundle.packed.job.to_string())
                .with("client", bundle.client.fingerprint())
                .with("objects", objects as u64)
                .with("bytes", len)
                .with("results", bundle.packed.results.len() as u64),
        );
    }
    print(format!(
        "{}: {objects} objects, {}, {} results: all there, as {} signed",
        bundle.packed.job,
        bytes(len),
        bundle.packed.results.len(),
        bundle.client.fingerprint()
    ))
}

fn pack_job(arguments: &PackArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let readers: Vec<_> = arguments.reader.iter().map(|reader| reader.0).collect();
    let done = pack(&state, arguments.job, &arguments.directory, &readers)?;
    if arguments.json {
        return print_json(
            &Line::default()
                .with("job", arguments.job.to_string())
                .with("objects", done.objects as u64)
                .with("bytes", done.bytes)
                .with("results", done.results as u64)
                .with("readers", done.readers as u64),
        );
    }
    say(format!(
        "{}: {} objects, {}, {} results, for its client and {} readers",
        arguments.job,
        done.objects,
        bytes(done.bytes),
        done.results,
        done.readers
    ));
    Ok(())
}

fn open(arguments: &OpenArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let bundle = bundle(&arguments.directory, &arguments.from, &arguments.state)?;
    let secret = secret(&state, arguments.key.as_deref())?;
    let opened = bundle.open(secret.receiving())?;
    let mut views = vec![("inputs".to_owned(), &opened.inputs, None)];
    for (at, manifest) in &opened.results {
        let left = &bundle.packed.results[*at];
        let name = format!("result-{}-{}", left.task, left.attempt);
        views.push((name, manifest, bundle.log(&opened, *at)?));
    }
    if let Some(to) = &arguments.to {
        fs::create_dir(to).map_err(|error| {
            let message = format!("cannot make {}: {error}", to.display());
            Failure::new(Kind::User, message).hint("name a new directory")
        })?;
    }
    for (name, manifest, log) in views {
        for tree in &manifest.trees {
            for entry in &tree.entries {
                list(arguments.json, &name, tree.path.as_str(), entry)?;
            }
        }
        if let Some(to) = &arguments.to {
            write_out(&bundle.area, manifest, &to.join(&name))?;
            if let Some(log) = log {
                write_new(&to.join(format!("{name}.log")), &log)?;
            }
        }
    }
    Ok(())
}

fn list(json: bool, view: &str, central: &str, entry: &Entry) -> Result<(), Failure> {
    let (kind, len) = match &entry.kind {
        EntryKind::Directory { .. } => ("directory", 0),
        EntryKind::File { len, .. } => ("file", *len),
        EntryKind::Symlink { .. } => ("symlink", 0),
        EntryKind::Link { .. } => ("link", 0),
        EntryKind::Whiteout => ("removed", 0),
    };
    let path = [central.as_bytes(), b"/", &entry.path].concat();
    let path = if entry.path.is_empty() {
        &path[..path.len() - 1]
    } else {
        &path
    };
    if json {
        let line = Line::default().with("view", view).with("kind", kind);
        return print_json(&line.with("bytes", len).with_path(path));
    }
    print(format!("{view}  {kind:<9}  {len:>12}  {}", shown(path)))
}

/// Directories and files. Links are listed and not made: whoever wants them knows where they may lead.
fn write_out(area: &Area, manifest: &Manifest, to: &Path) -> Result<(), Failure> {
    for tree in &manifest.trees {
        let root = to.join(tree.path.as_str().trim_start_matches('/'));
        for entry in &tree.entries {
            let place = match entry.path.is_empty() {
                true => root.clone(),
                false => root.join(std::ffi::OsStr::from_bytes(&entry.path)),
            };
            match &entry.kind {
                EntryKind::Directory { .. } => fs::create_dir_all(&place).or_fail(Kind::User)?,
                EntryKind::File { .. } => {
                    let mut file = File::create_new(&place).or_fail(Kind::User)?;
                    each_part(area, entry, &mut |part| {
                        file.write_all(part).or_fail(Kind::Environment)
                    })?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = File::create_new(path).or_fail(Kind::User)?;
    file.write_all(bytes).or_fail(Kind::Environment)
}

fn each_part(
    area: &Area,
    entry: &Entry,
    act: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(file) = Whole::new(area, entry) else {
        return Ok(());
    };
    let (mut at, mut part) = (0, zeroize::Zeroizing::new(Vec::new()));
    while at < file.len() {
        file.read(at, PART, &mut part).or_fail(Kind::Denied)?;
        act(&part)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// One side of a comparison.
struct Side {
    inputs: Manifest,
    area: Area,
}

impl Side {
    fn open(arguments: &DiffArgs, what: &str) -> Result<Self, Failure> {
        let state = State::open(arguments.state.state.as_deref())?;
        if let Ok(job) = what.parse::<JobId>() {
            let opened = OpenedJob::open(&state, job)?;
            let inputs = opened.inputs()?;
            let area = opened.area;
            return Ok(Self { inputs, area });
        }
        let bundle = bundle(Path::new(what), &arguments.from, &arguments.state)?;
        let opened = bundle.open(secret(&state, None)?.receiving())?;
        let (inputs, area) = (opened.inputs, bundle.area);
        Ok(Self { inputs, area })
    }

    /// Every entry by its whole path.
    fn entries(&self) -> BTreeMap<Vec<u8>, &Entry> {
        let trees = self.inputs.trees.iter().flat_map(|tree| {
            let whole = |entry: &Entry| [tree.path.as_str().as_bytes(), b"/", &entry.path].concat();
            tree.entries.iter().map(move |entry| (whole(entry), entry))
        });
        trees.collect()
    }

    fn hash(&self, entry: &Entry) -> Result<blake3::Hash, Failure> {
        let mut hasher = blake3::Hasher::new();
        each_part(&self.area, entry, &mut |part| {
            hasher.update(part);
            Ok(())
        })?;
        Ok(hasher.finalize())
    }
}

fn diff(arguments: &DiffArgs) -> Result<(), Failure> {
    let old = Side::open(arguments, &arguments.old)?;
    let new = Side::open(arguments, &arguments.new)?;
    let (before, after) = (old.entries(), new.entries());
    let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut differences = 0_u64;
    for path in paths {
        let what = match (before.get(path), after.get(path)) {
            (Some(_), None) => "removed",
            (None, Some(_)) => "added",
            (Some(a), Some(b)) if !same(&old, a, &new, b)? => "changed",
            _ => continue,
        };
        differences += 1;
        if arguments.json {
            print_json(&Line::default().with("difference", what).with_path(path))?;
        } else {
            print(format!("{what:<7}  {}", shown(path)))?;
        }
    }
    if differences == 0 {
        say("no difference");
    }
    Ok(())
}

/// Equal contents need not be equal objects: another client or another secret seals them otherwise.
fn same(old: &Side, a: &Entry, new: &Side, b: &Entry) -> Result<bool, Failure> {
    if a.mode != b.mode || a.xattrs != b.xattrs {
        return Ok(false);
    }
    match (&a.kind, &b.kind) {
        (EntryKind::File { len: a_len, .. }, EntryKind::File { len: b_len, .. }) => {
            let alike = a.kind == b.kind;
            Ok(a_len == b_len && (alike || old.hash(a)? == new.hash(b)?))
        }
        (a, b) => Ok(a == b),
    }
}
