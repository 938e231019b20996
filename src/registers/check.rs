//! Whether a job's logs are the ones that the register tells of, and the register the one that the client saw.

use std::{collections::BTreeMap, io::Read};

use safelight_audit::{Reader, Register, Statement, tree::Frontier};
use safelight_policies::id::JobId;

use super::{Known, known};
use crate::{
    failure::{Failure, Kind, OrFail},
    opened::OpenedJob,
    state::State,
};

/// What the register says of a job.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Entries of the whole register.
    pub(crate) entries: u64,
    /// Entries that the client saw and signed.
    pub(crate) seen: u64,
    /// What is said of each of the job's logs, oldest first.
    pub(crate) statements: BTreeMap<[u8; 16], Vec<Statement>>,
    /// What is wrong with the register itself.
    pub(crate) findings: Vec<String>,
}

/// Checks the client's registers themselves, and gathers what they say of a job.
pub(crate) fn check(state: &State, opened: &OpenedJob) -> Result<Checked, Failure> {
    let client = &opened.envelope.outline.client;
    let mut checked = Checked::default();
    for known in known(state, client)? {
        checked.one(state, &known, opened.job())?;
    }
    Ok(checked)
}

impl Checked {
    fn one(&mut self, state: &State, known: &Known, job: JobId) -> Result<(), Failure> {
        let name = &known.name;
        let seen = match known.last_seen(state) {
            Ok(seen) => seen.map(|(head, _)| head),
            Err(failure) => {
                self.findings.push(failure.message());
                None
            }
        };
        self.seen += seen.as_ref().map_or(0, |head| head.size);
        let register = match Register::open(&known.directory) {
            Ok(register) => register,
            Err(error) => {
                let failure = Failure::from_error(Kind::Denied, &error);
                self.findings.push(failure.message());
                return Ok(());
            }
        };
        self.entries += register.size();
        if let Some(seen) = &seen {
            let (there, size) = (register.size(), seen.size);
            if size > there {
                self.findings.push(format!(
                    "{name} was cut off after entry {there}; the client saw {size}"
                ));
            } else if root(&register, size)? != Some(seen.root) {
                self.findings.push(format!(
                    "{name} was rewritten at or before entry {size}, which the client saw and signed"
                ));
            }
        }
        if register.size() == 0 {
            return Ok(());
        }
        match known.site.open(register.note()) {
            Some((head, _)) if root(&register, head.size)? == Some(head.root) => {}
            Some(_) => self.findings.push(format!(
                "{name}'s entries are not those that the site signed"
            )),
            None => self
                .findings
                .push(format!("{name}'s checkpoint is not signed by its site")),
        }
        gather(&register, job, self);
        Ok(())
    }
}

/// The root that the entries have, or nothing if one is not there.
fn root(register: &Register, size: u64) -> Result<Option<[u8; 32]>, Failure> {
    match register.root_of_entries(size) {
        Ok(root) => Ok(root),
        Err(safelight_audit::Error::Register { .. } | safelight_audit::Error::Open { .. }) => {
            Ok(None)
        }
        Err(error) => Err(Failure::from_error(Kind::Environment, &error)),
    }
}

fn gather(register: &Register, job: JobId, checked: &mut Checked) {
    const AT_ONCE: u64 = 4096;
    for from in (0..register.size()).step_by(AT_ONCE as usize) {
        let Ok(entries) = register.entries(from, from + AT_ONCE) else {
            checked.findings.push(format!(
                "the register's entries from {from} on cannot be read"
            ));
            return;
        };
        for (number, entry) in (from..).zip(entries) {
            match Statement::read(&entry) {
                Some(statement) if statement.job == job => {
                    checked
                        .statements
                        .entry(statement.log)
                        .or_default()
                        .push(statement);
                }
                Some(_) => {}
                None => checked
                    .findings
                    .push(format!("entry {number} of the register is no statement")),
            }
        }
    }
}

/// What is wrong with a log by what the register says of it. The log's own chain was followed before: it ends where that breaks.
pub(crate) fn disagreements(
    statements: &[Statement],
    log: impl Read,
) -> Result<Vec<String>, Failure> {
    let mut wanted: Vec<_> = statements.iter().collect();
    wanted.sort_by_key(|statement| statement.records);
    let (mut frontier, mut findings, mut rest) = (
        Frontier::default(),
        Vec::new(),
        wanted.into_iter().peekable(),
    );
    let mut judge =
        |frontier: &Frontier, rest: &mut std::iter::Peekable<std::vec::IntoIter<&Statement>>| {
            while let Some(said) = rest.next_if(|said| said.records == frontier.size()) {
                if said.root != frontier.root() {
                    findings.push(format!(
                        "the log was rewritten at or before record {}, after it was registered",
                        said.records
                    ));
                }
            }
        };
    judge(&frontier, &mut rest);
    let reader = Reader::open(log).or_fail(Kind::Denied)?;
    // Where the chain breaks, the chain's own findings say more.
    let _ = reader.leaves(|_, leaf| {
        frontier.push(leaf);
        judge(&frontier, &mut rest);
    });
    if let Some(last) = rest.last() {
        let (after, said) = (frontier.size(), last.records);
        findings.push(format!(
            "the log was cut off after record {after}; {said} were registered"
        ));
    }
    findings.truncate(1);
    Ok(findings)
}
