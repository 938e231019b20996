//! `safelight audit verify`: are the logs as they were written?
//!
//! Four questions, each answered exactly: does every record follow from the one before; is the job's own log the one that the ledger
//! noted, and is every other what it was left as; does every sealed record open, each session's in order and without a gap; is
//! there a log of every session that sealed something.

mod judge;

use safelight_policies::id::JobId;

use self::judge::{Verdict, whole_verdict};
use crate::{
    commands::chosen::ChosenJob,
    failure::Failure,
    opened::OpenedJob,
    records::{Line, changed},
    state::State,
    terminal::{print, print_json, say},
};

/// Verifies a job's logs and prints what is wrong with them.
pub(super) fn verify(chosen: &ChosenJob, json: bool) -> Result<(), Failure> {
    let (state, opened) = chosen.open()?;
    let job = opened.job();
    let verdict = whole_verdict(&state, &opened)?;
    if json {
        print_json(&verdict.line(job))?;
    } else {
        verdict.print(job)?;
    }
    if verdict.anchored.is_none() && verdict.own {
        say(format!(
            "{job}: the ledger noted nothing of this log yet, so a missing end cannot be told"
        ));
    }
    verdict.conclude(job)
}

/// What is wrong with a job's logs, in words, and whether a register tells of them.
pub(super) fn verdict(state: &State, opened: &OpenedJob) -> Result<(Vec<String>, bool), Failure> {
    whole_verdict(state, opened).map(|verdict| (verdict.findings, verdict.registered > 0))
}

impl Verdict {
    fn print(&self, job: JobId) -> Result<(), Failure> {
        for finding in &self.findings {
            print(format!("{job}: {finding}"))?;
        }
        if self.findings.is_empty() {
            print(format!("{job}: {}", self.praise()))?;
        }
        Ok(())
    }

    fn praise(&self) -> String {
        let (records, sealed, logs) = (self.records, self.sealed, self.logs);
        let anchored = match self.anchored {
            Some(count) => format!("as the ledger noted it at record {count}"),
            None if self.own => "noted nowhere yet".to_owned(),
            None => "not begun".to_owned(),
        };
        let whole = match logs {
            1 => format!("{records} records, whole, {anchored}"),
            _ => format!("{records} records in {logs} logs, all whole, the job's own {anchored}"),
        };
        let registered = match self.registered {
            0 => "not in the register yet".to_owned(),
            _ => format!(
                "as the register has them, whose first {} entries the client saw",
                self.seen
            ),
        };
        let under_way = match self.under_way {
            0 => String::new(),
            1 => "; one session goes on".to_owned(),
            more => format!("; {more} sessions go on"),
        };
        format!("{whole}; {sealed} of them sealed, all open; {registered}{under_way}")
    }

    fn line(&self, job: JobId) -> Line {
        Line::default()
            .with("job", job.to_string())
            .with("whole", self.findings.is_empty())
            .with("records", self.records)
            .with("sealed", self.sealed)
            .with("anchored", self.anchored)
            .with("findings", self.findings.clone())
            .with("logs", self.logs)
            .with("registered", self.registered)
            .with("register_seen", self.seen)
            .with("under_way", self.under_way)
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

    const JOB: JobId = JobId::from_random([0; 10]);

    #[test]
    fn a_whole_log_is_a_success() {
        let verdict = Verdict {
            logs: 1,
            own: true,
            records: 3,
            sealed: 1,
            anchored: Some(2),
            ..Verdict::default()
        };
        assert!(verdict.conclude(JOB).is_ok());
        assert_eq!(
            serde_json::to_string(&verdict.line(JOB)).unwrap(),
            r#"{"job":"job-0000000000000000","whole":true,"records":3,"sealed":1,"anchored":2,"findings":[],"logs":1,"registered":0,"register_seen":0,"under_way":0}"#
        );
    }
}
