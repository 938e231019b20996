//! Proof that one record is on a log, for somebody who has neither the log nor a key to open it.
//!
//! Two ways up: from the record to the root of its log's tree, which a statement of the register names; and from that statement to the
//! register's head, which the site signed and the client signed that it saw.

use data_encoding::BASE64;
use safelight_audit::{Reader, Register, Statement, note::Verifier, tree};
use serde::{Deserialize, Serialize};

use super::{Known, known, witness_signer};
use crate::{
    failure::{Failure, Kind, OrFail},
    opened::OpenedJob,
    records::{Log, Logs},
    state::State,
};

/// What the format is called.
const FORMAT: &str = "safelight-proof/v1";

/// A proof, as it is written and read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proof {
    pub(crate) format: String,
    /// The record as it stands on the log, in base64. What is sealed in it stays sealed.
    pub(crate) record: String,
    /// Its number on the log, from one.
    pub(crate) seq: u64,
    /// The way from the record to the root of its log.
    pub(crate) record_path: Vec<String>,
    /// The register's entry that names that root.
    pub(crate) statement: String,
    /// The entry's number, from zero.
    pub(crate) entry: u64,
    /// The way from the entry to the register's root.
    pub(crate) statement_path: Vec<String>,
    /// The register's head, signed by the site and by the client that saw it.
    pub(crate) checkpoint: String,
    /// The keys, for whoever knows no better source of them.
    pub(crate) site_key: String,
    pub(crate) client_key: String,
}

/// Proves that a record is on a log of a job.
pub(crate) fn prove(
    state: &State,
    opened: &OpenedJob,
    (logs, log): (&Logs<'_>, &Log),
    seq: u64,
) -> Result<Proof, Failure> {
    let client = &opened.envelope.outline.client;
    let all = known(state, client)?;
    let (known, register, statement, entry) = newest(&all, opened, logs.id(log)?)?;
    if seq == 0 || seq > statement.records {
        let message = format!("record {seq} is not registered; {} are", statement.records);
        return Err(Failure::new(Kind::User, message));
    }
    let (mut forest, mut record) = (tree::Forest::default(), None);
    let reader = Reader::open(logs.bytes(log)?).or_fail(Kind::Denied)?;
    let read = reader.leaves(|found, leaf| {
        if forest.size() < statement.records {
            forest.push(leaf);
            if found.seq == seq {
                record = postcard::to_stdvec(found)
                    .ok()
                    .filter(|bytes| tree::leaf(bytes) == leaf);
            }
        }
    });
    read.or_fail(Kind::Denied)?;
    let nodes = |level, index| forest.node(level, index).ok_or(());
    let path = tree::inclusion(seq - 1, statement.records, &nodes);
    let (Some(record), Ok(path)) = (record, path) else {
        let message = "the log is not the one that was registered";
        return Err(Failure::new(Kind::Denied, message)
            .hint(format!("safelight audit verify {}", opened.job())));
    };
    let text = |path: &[tree::Hash]| path.iter().map(|hash| BASE64.encode(hash)).collect();
    let signed = match known.last_seen(state)? {
        Some((head, note)) if head.size == register.size() => note,
        _ => register.note().to_owned(),
    };
    let proof = Proof {
        format: FORMAT.to_owned(),
        record: BASE64.encode(&record),
        seq,
        record_path: text(&path),
        statement: statement.text(),
        entry,
        statement_path: text(&register.inclusion(entry).or_fail(Kind::Denied)?),
        checkpoint: signed,
        site_key: known.site.text(),
        client_key: witness_signer(state)?.verifier().text(),
    };
    // What does not verify is no proof.
    proof.verify(&known.site)?;
    Ok(proof)
}

/// The newest statement about a log, and the register that has it.
fn newest<'a>(
    known: &'a [Known],
    opened: &OpenedJob,
    log: [u8; 16],
) -> Result<(&'a Known, Register, Statement, u64), Failure> {
    const AT_ONCE: u64 = 4096;
    for one in known {
        let register = Register::open(&one.directory).or_fail(Kind::Denied)?;
        let mut end = register.size();
        while end > 0 {
            let from = end.saturating_sub(AT_ONCE) / 256 * 256;
            let entries = register.entries(from, end).or_fail(Kind::Denied)?;
            let numbered: Vec<_> = (from..).zip(entries.iter()).collect();
            let found = numbered.iter().rev().find_map(|(number, entry)| {
                let statement = Statement::read(entry)?;
                let meant = statement.job == opened.job() && statement.log == log;
                meant.then_some((statement, *number))
            });
            if let Some((statement, number)) = found {
                return Ok((one, register, statement, number));
            }
            end = from;
        }
    }
    let message = format!("this log of {} is not registered yet", opened.job());
    Err(Failure::new(Kind::User, message))
}

impl Proof {
    /// Verifies the proof against the site's key. Answers what the client's signature says: when it saw the register, if it did.
    pub(crate) fn verify(&self, site: &Verifier) -> Result<Statement, Failure> {
        let wrong =
            |what: &str| Failure::new(Kind::Denied, format!("the proof does not hold: {what}"));
        if self.format != FORMAT {
            return Err(Failure::new(
                Kind::User,
                format!("{:?} is no format of a proof", self.format),
            ));
        }
        let hashes = |all: &[String]| {
            let one = |text: &String| BASE64.decode(text.as_bytes()).ok()?.try_into().ok();
            all.iter().map(one).collect::<Option<Vec<tree::Hash>>>()
        };
        let (Some(record_path), Some(statement_path)) =
            (hashes(&self.record_path), hashes(&self.statement_path))
        else {
            return Err(wrong("a hash is malformed"));
        };
        let record = BASE64
            .decode(self.record.as_bytes())
            .map_err(|_| wrong("the record is malformed"))?;
        let statement = Statement::read(self.statement.as_bytes())
            .ok_or_else(|| wrong("the statement is malformed"))?;
        let index = self
            .seq
            .checked_sub(1)
            .ok_or_else(|| wrong("records count from one"))?;
        if !tree::includes(
            tree::leaf(&record),
            index,
            statement.records,
            &record_path,
            &statement.root,
        ) {
            return Err(wrong(
                "the record is not on the log that the statement names",
            ));
        }
        let (head, _) = site
            .open(&self.checkpoint)
            .ok_or_else(|| wrong("the site did not sign the checkpoint"))?;
        let leaf = tree::leaf(self.statement.as_bytes());
        if !tree::includes(leaf, self.entry, head.size, &statement_path, &head.root) {
            return Err(wrong(
                "the statement is not in the register that the site signed",
            ));
        }
        Ok(statement)
    }
}
