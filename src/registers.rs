//! A client's register at this site: what is noted of each of its logs, signed by the site, seen and signed by the client.
//!
//! A log's own chain shows that the log follows from itself; it does not show that it is the one that was written, since whoever can write
//! the file can write another chain. So the state of every log goes into the client's register: a Merkle log of statements whose head this
//! site signs (its *audit key*). The client's side looks at each new head, checks that it extends the one it saw last, and signs it with a
//! key of its own (its *witness key*), which it keeps beside its identity. Who holds the site's key can sign another register, but not one
//! that extends what the client has seen.

mod check;
mod mirror;
mod proof;

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

use safelight_audit::{
    Reader, Register, Statement,
    note::{Head, Role, Signer, Verifier},
    pass::begin,
    tree,
};
use safelight_policies::id::{ClientAlias, JobId};
use safelight_seal::random::{Random, SystemRandom};

pub(crate) use self::{
    check::{Checked, check, disagreements},
    mirror::{is_next, take},
    proof::{Proof, prove},
};
use crate::{
    failure::{Failure, Kind, OrFail},
    jobs, process,
    run::site_key,
    state::{LogOf, State},
};

/// The name under which a site signs.
const SITE: &str = "safelight-site";

/// The name under which a client signs what it saw.
const WITNESS: &str = "safelight-client";

/// Where a client's register is.
pub(crate) fn directory(state: &State, client: &ClientAlias) -> PathBuf {
    let audit = state.root().join("audit").join(client.as_str());
    audit.join("register")
}

/// The key that signs this site's registers, made at first use.
pub(crate) fn site_signer(state: &State) -> Result<Signer, Failure> {
    let seed = site_key(state, "audit", &SystemRandom::new())?.to_bytes();
    Signer::new(SITE, Role::Log, &seed).or_fail(Kind::Internal)
}

/// The key with which this client signs what it saw, made at first use.
pub(crate) fn witness_signer(state: &State) -> Result<Signer, Failure> {
    let path = state.root().join("client/witness.key");
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(&mut seed[..])
        .or_fail(Kind::Internal)?;
    jobs::make_private(&path, &seed[..])?;
    let bytes = zeroize::Zeroizing::new(jobs::read(&path)?);
    let damaged = || Failure::new(Kind::Config, format!("{} is damaged", path.display()));
    let seed = <&[u8; 32]>::try_from(&bytes[..]).map_err(|_| damaged())?;
    Signer::new(WITNESS, Role::Witness, seed).or_fail(Kind::Internal)
}

/// What a register is called in its notes.
fn origin(site: &Verifier, client: &ClientAlias) -> String {
    let key = data_encoding::HEXLOWER.encode(&site.key[..8]);
    format!("safelight/{key}/{client}")
}

/// The state of one of a job's logs on this host; `None` if it has not begun.
pub(crate) fn statement(
    state: &State,
    client: &ClientAlias,
    job: JobId,
    which: LogOf,
) -> Result<Option<Statement>, Failure> {
    let path = state.audit_log(client, job, which)?;
    match File::open(&path) {
        Ok(file) if file.metadata().is_ok_and(|file| file.len() > 0) => {
            state_of(job, which.id(job), file).map(Some)
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(
            Kind::Environment,
            format!("cannot read {}: {error}", path.display()),
        )),
    }
}

/// The state of a log, from its bytes.
pub(crate) fn state_of(job: JobId, log: [u8; 16], bytes: impl Read) -> Result<Statement, Failure> {
    let mut reader = Reader::open(bytes).or_fail(Kind::Denied)?.with_tree();
    for record in &mut reader {
        record.or_fail(Kind::Denied)?;
    }
    let (at, root) = (reader.checkpoint(), reader.root());
    let root = root.ok_or_else(|| Failure::new(Kind::Internal, "a log's tree was not kept"))?;
    Ok(Statement {
        job,
        log,
        records: at.records,
        root,
        chain: at.chain,
    })
}

/// The same, whichever of the job's logs it is by its header.
pub(crate) fn state_of_any(job: JobId, mut bytes: impl Read + Seek) -> Result<Statement, Failure> {
    let (header, _) = begin(&mut bytes).or_fail(Kind::Denied)?;
    bytes.seek(SeekFrom::Start(0)).or_fail(Kind::Environment)?;
    state_of(job, header.log, bytes)
}

/// Puts statements into a client's register, and signs it.
pub(crate) fn register(
    state: &State,
    client: &ClientAlias,
    statements: &[Statement],
) -> Result<(), Failure> {
    if statements.is_empty() {
        return Ok(());
    }
    let signer = site_signer(state)?;
    let entries: Vec<_> = statements.iter().map(|it| it.text().into_bytes()).collect();
    let origin = origin(&signer.verifier(), client);
    Register::append_signed(&directory(state, client), &origin, &entries, &signer)
        .or_fail(Kind::Environment)
        .map(drop)
}

/// Puts the state of a log of this host into its client's register, and has the client see it.
pub(crate) fn note(
    state: &State,
    client: &ClientAlias,
    job: JobId,
    which: LogOf,
) -> Result<(), Failure> {
    let now = statement(state, client, job, which)?;
    register(state, client, now.as_slice())?;
    witness(state, client)
}

/// A register that this client knows: its own site's, or its copy of another's.
pub(crate) struct Known {
    /// Whose it is, in words.
    name: String,
    directory: PathBuf,
    /// Where the newest head is that the client saw, signed by both.
    seen: PathBuf,
    site: Verifier,
}

/// The registers of a client that are here.
pub(crate) fn known(state: &State, client: &ClientAlias) -> Result<Vec<Known>, Failure> {
    let witness = state.root().join("client/witness");
    let mut all = vec![Known {
        name: "the register".to_owned(),
        directory: directory(state, client),
        seen: witness.join(format!("{client}.note")),
        site: site_signer(state)?.verifier(),
    }];
    let Ok(sites) = fs::read_dir(mirror::place(state, client)) else {
        return Ok(all);
    };
    for entry in sites {
        let entry = entry.or_fail(Kind::Environment)?;
        let site = entry.file_name().to_string_lossy().into_owned();
        all.push(Known {
            name: format!("{site}'s register"),
            seen: witness.join(format!("{client}.{site}.note")),
            site: mirror::key(&entry.path())?,
            directory: entry.path(),
        });
    }
    Ok(all)
}

impl Known {
    /// Whose it is, in words.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The site's key, as others take it.
    pub(crate) fn key(&self) -> String {
        self.site.text()
    }

    /// The newest head that the client saw; `None` if it never looked. It must be its own signature.
    pub(crate) fn last_seen(&self, state: &State) -> Result<Option<(Head, String)>, Failure> {
        if !self.seen.exists() {
            return Ok(None);
        }
        let note = String::from_utf8(jobs::read(&self.seen)?).or_fail(Kind::Denied)?;
        let opened = witness_signer(state)?.verifier().open(&note);
        let (head, _) = opened.ok_or_else(|| {
            let message = format!("{} is not signed by this client", self.seen.display());
            Failure::new(Kind::Denied, message)
        })?;
        Ok(Some((head, note)))
    }

    /// The client looks at the register: what it saw before must be its beginning. Then it signs the new head.
    fn witness(&self, state: &State) -> Result<(), Failure> {
        let register = Register::open(&self.directory).or_fail(Kind::Denied)?;
        if register.size() == 0 && !self.seen.exists() {
            return Ok(());
        }
        let Some((new, _)) = self.site.open(register.note()) else {
            return Err(self.rewritten("its checkpoint is not signed by its site"));
        };
        if let Some((old, _)) = self.last_seen(state)? {
            if old == new {
                return Ok(());
            }
            if old.size > new.size {
                return Err(self.rewritten("it is shorter than what this client saw"));
            }
            let path = register
                .consistency(old.size.max(1))
                .or_fail(Kind::Denied)?;
            let (before, now) = ((old.size, &old.root), (new.size, &new.root));
            if !tree::extends(before, now, &path) {
                return Err(self.rewritten("it does not begin with what this client saw"));
            }
        }
        let line = witness_signer(state)?.line(&new.text(), process::now_seconds());
        if let Some(directory) = self.seen.parent() {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            made.or_fail(Kind::Environment)?;
        }
        jobs::write_private(&self.seen, format!("{}{line}", register.note()).as_bytes())
    }

    fn rewritten(&self, how: &str) -> Failure {
        let message = format!("{} was changed: {how}", self.name);
        Failure::new(Kind::Denied, message).hint("safelight audit verify")
    }
}

/// The client looks at each of its registers.
pub(crate) fn witness(state: &State, client: &ClientAlias) -> Result<(), Failure> {
    let mut first = Ok(());
    for register in known(state, client)? {
        first = first.and(register.witness(state));
    }
    first
}

/// What is new in a register: the entries, the head after them as a signed note, and the key that signed it.
pub(crate) struct News {
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) checkpoint: String,
    pub(crate) key: [u8; 32],
}

/// What a client's site does not have yet of its register here, from the entry with the number `sent` on.
pub(crate) fn news(
    state: &State,
    client: &ClientAlias,
    sent: u64,
    most: u64,
) -> Result<Option<News>, Failure> {
    let register = Register::open(&directory(state, client)).or_fail(Kind::Environment)?;
    if register.size() <= sent {
        return Ok(None);
    }
    let to = register.size().min(sent.saturating_add(most));
    let entries = register.entries(sent, to).or_fail(Kind::Environment)?;
    let signer = site_signer(state)?;
    let head = register.head_at(to).or_fail(Kind::Environment)?;
    let head = head.ok_or_else(|| Failure::new(Kind::Internal, "a register lost its head"))?;
    Ok(Some(News {
        entries,
        checkpoint: signer.sign(&head, 0),
        key: signer.verifier().key,
    }))
}

/// Verifies a proof against the keys of the sites that this host knows.
pub(crate) fn verify(state: &State, proof: &Proof) -> Result<safelight_audit::Statement, Failure> {
    let mut keys = vec![site_signer(state)?.verifier()];
    let clients = fs::read_dir(state.root().join("audit")).or_fail(Kind::Environment)?;
    for client in clients.filter_map(Result::ok) {
        let Ok(sites) = fs::read_dir(client.path().join("sites")) else {
            continue;
        };
        for site in sites.filter_map(Result::ok) {
            keys.push(mirror::key(&site.path())?);
        }
    }
    let named = keys.iter().find(|key| key.text() == proof.site_key);
    let unknown = || {
        Failure::new(
            Kind::Denied,
            "the proof is signed by a site that is not known here",
        )
    };
    proof.verify(named.ok_or_else(unknown)?)
}
