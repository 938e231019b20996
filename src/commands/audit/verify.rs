//! `safelight audit verify`: is the log as it was written?
//!
//! Three questions, each answered exactly: does every record follow from the one before; is this the log that the ledger noted; does
//! every sealed record open, each session's in order and without a gap.

use std::time::Duration;

use safelight_audit::{Checkpoint, Finding, Report};
use safelight_policies::id::JobId;

use crate::{
    commands::chosen::ChosenJob,
    failure::{Failure, Kind, OrFail},
    opened::OpenedJob,
    records::{self, Line, OpenedRecord, What, changed},
    run::Books,
    state::State,
    terminal::{print, print_json, say},
};

/// A record that is being written when it is read looks torn; after this time it is whole.
const WRITING: Duration = Duration::from_millis(250);

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    records: u64,
    sealed: u64,
    anchored: Option<u64>,
    findings: Vec<String>,
}

/// Verifies a job's log and prints what is wrong with it.
pub(super) fn verify(chosen: &ChosenJob, json: bool) -> Result<(), Failure> {
    let (state, opened) = chosen.open()?;
    let job = opened.job();
    let verdict = judge(&state, &opened)?;
    if json {
        print_json(&verdict.line(job))?;
    } else {
        verdict.print(job)?;
    }
    if verdict.anchored.is_none() {
        say(format!(
            "{job}: the ledger noted nothing of this log yet, so a missing end cannot be told"
        ));
    }
    verdict.conclude(job)
}

fn judge(state: &State, opened: &OpenedJob) -> Result<Verdict, Failure> {
    let anchor = Books::open(state)?.checkpoint(opened.job())?;
    let mut report = chain(state, opened, anchor)?;
    if matches!(report.findings.as_slice(), [Finding::Torn { .. }]) {
        std::thread::sleep(WRITING);
        report = chain(state, opened, anchor)?;
    }
    let mut verdict = Verdict {
        records: report.records,
        anchored: anchor.map(|anchor| anchor.records),
        findings: report.findings.iter().map(Finding::to_string).collect(),
        sealed: 0,
    };
    // Bodies of a log that is not whole are not worth opening: the chain's findings say it all.
    if report.is_whole() {
        for record in records::records(state, opened)? {
            verdict.take(&record?);
        }
    }
    Ok(verdict)
}

fn chain(state: &State, opened: &OpenedJob, anchor: Option<Checkpoint>) -> Result<Report, Failure> {
    let file = records::open_file(state, opened, anchor)?;
    safelight_audit::verify(file, anchor).or_fail(Kind::Environment)
}

impl Verdict {
    fn take(&mut self, record: &OpenedRecord) {
        let seq = record.seq;
        match &record.what {
            What::Control(_) => {}
            What::Access { .. } => self.sealed += 1,
            What::Unreadable { session, index } => self.findings.push(format!(
                "record {seq}: number {index} of {session} does not open"
            )),
            What::OutOfTurn {
                session,
                index,
                expected,
            } => self.findings.push(format!(
                "record {seq}: number {index} of {session} stands where number {expected} belongs"
            )),
        }
    }

    fn print(&self, job: JobId) -> Result<(), Failure> {
        for finding in &self.findings {
            print(format!("{job}: {finding}"))?;
        }
        if !self.findings.is_empty() {
            return Ok(());
        }
        let anchored = match self.anchored {
            Some(count) => format!("as the ledger noted it at record {count}"),
            None => "noted nowhere yet".to_owned(),
        };
        let (records, sealed) = (self.records, self.sealed);
        print(format!(
            "{job}: {records} records, whole, {anchored}; {sealed} of them sealed, all open"
        ))
    }

    fn line(&self, job: JobId) -> Line {
        Line::default()
            .with("job", job.to_string())
            .with("whole", self.findings.is_empty())
            .with("records", self.records)
            .with("sealed", self.sealed)
            .with("anchored", self.anchored)
            .with("findings", self.findings.clone())
    }

    fn conclude(&self, job: JobId) -> Result<(), Failure> {
        match self.findings.as_slice() {
            [] => Ok(()),
            [only] => Err(changed(job, only)),
            [first, rest @ ..] => Err(changed(job, format!("{first}, and {} more", rest.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::samples::*;

    const JOB: JobId = JobId::from_random([0; 10]);

    #[test]
    fn what_is_wrong_with_sealed_records_is_named() {
        let mut verdict = Verdict::default();
        for record in [read("/c/a"), unreadable(), out_of_turn()] {
            verdict.take(&record);
        }
        assert_eq!(verdict.sealed, 1);
        assert_eq!(
            verdict.findings,
            [
                "record 1: number 4 of ses-0000000000000000 does not open",
                "record 1: number 4 of ses-0000000000000000 stands where number 2 belongs",
            ]
        );
        let failure = verdict.conclude(JOB).unwrap_err().to_string();
        assert_eq!(
            failure,
            "error: the log of job-0000000000000000 was changed: record 1: number 4 of ses-0000000000000000 does not open, and 1 more"
        );
    }

    #[test]
    fn a_whole_log_is_a_success() {
        let verdict = Verdict {
            records: 3,
            sealed: 1,
            anchored: Some(2),
            findings: Vec::new(),
        };
        assert!(verdict.conclude(JOB).is_ok());
        assert_eq!(
            serde_json::to_string(&verdict.line(JOB)).unwrap(),
            r#"{"job":"job-0000000000000000","whole":true,"records":3,"sealed":1,"anchored":2,"findings":[]}"#
        );
    }
}
