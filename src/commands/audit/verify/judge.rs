//! What is wrong with a job's logs.
//!
//! Each log is judged by itself: by its chain, by what the ledger and the register say of it, by whether its sealed records open. Then what
//! must have a log and has none.

use std::{collections::BTreeSet, fmt::Display, time::Duration};

use safelight_audit::{Finding, Header, Report};
use safelight_policies::id::SessionId;
use safelight_scheduler::{AttemptEntry, AttemptState, JobState};

use crate::{
    failure::Failure,
    jobs::{self, Left},
    opened::OpenedJob,
    records::{Log, Logs, Name, OpenedRecord, Run, Unfit, What},
    registers::{self, Checked},
    run::Books,
    state::{LogOf, State},
};

/// A record that is being written when it is read looks torn; after this time it is whole.
const WRITING: Duration = Duration::from_millis(250);

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) logs: u64,
    /// The job's own log is among them.
    pub(super) own: bool,
    pub(super) records: u64,
    pub(super) sealed: u64,
    pub(super) anchored: Option<u64>,
    /// Statements of the register about these logs.
    pub(super) registered: u64,
    /// Entries of the register that the client saw and signed.
    pub(super) seen: u64,
    /// Sessions that go on, and of whose logs the register tells already.
    pub(super) under_way: u64,
    pub(super) findings: Vec<String>,
}

/// Everything that is wrong with a job's logs.
pub(super) fn whole_verdict(state: &State, opened: &OpenedJob) -> Result<Verdict, Failure> {
    let job = opened.job();
    let register = registers::check(state, opened)?;
    let books = Books::open(state)?;
    let entry = books.wait(books.ledger().job(&job.to_string()))?;
    let over = matches!(
        entry.state,
        JobState::Succeeded | JobState::Delivered | JobState::Failed | JobState::Canceled
    );
    let (mut verdict, sessions) = judge(&Logs::of(state, opened)?, &register, over)?;
    let attempts = books.attempts(job)?;
    let lefts = jobs::all_left(state, job)?;
    verdict.findings.extend(lost(&lefts, &attempts, &sessions));
    Ok(verdict)
}

/// Judges each log by itself. Answers also of which sessions there is a log. Of a job that is not `over`, logs are still to come.
fn judge(
    logs: &Logs<'_>,
    register: &Checked,
    over: bool,
) -> Result<(Verdict, BTreeSet<SessionId>), Failure> {
    let mut verdict = Verdict {
        own: logs.iter().any(|log| log.name == Name::Job),
        anchored: logs.anchor.map(|anchor| anchor.records),
        registered: register
            .statements
            .values()
            .map(|all| all.len() as u64)
            .sum(),
        seen: register.seen,
        findings: register.findings.clone(),
        ..Verdict::default()
    };
    let mut met = Met::default();
    for log in logs.iter() {
        verdict.logs += 1;
        let statements = |id: &[u8; 16]| register.statements.get(id).map_or(&[][..], Vec::as_slice);
        match logs.sound(log, statements) {
            Some((name, sound)) => {
                verdict.records += sound.records;
                verdict.sealed += sound.sealed;
                met.log(name, &sound.header);
            }
            None => verdict.name_what_is_wrong(logs, log, register, &mut met)?,
        }
    }
    let Met {
        logs: met,
        sessions,
    } = met;
    let unseen = register.statements.keys().filter(|id| !met.contains(*id));
    for log in unseen {
        let session = LogOf::session_of(log);
        if session.is_some() && !over {
            verdict.under_way += 1;
            continue;
        }
        let records = register.statements[log].iter().map(|it| it.records).max();
        let records = records.unwrap_or(0);
        let which = match session {
            Some(session) => format!("the log of {session}"),
            None => format!("the log {}", data_encoding::HEXLOWER.encode(log)),
        };
        verdict.findings.push(format!(
            "{which} is gone; {records} records of it were registered"
        ));
    }
    Ok((verdict, sessions))
}

/// The logs that were met, by their ids, and the sessions whose logs they are.
#[derive(Default)]
struct Met {
    logs: BTreeSet<[u8; 16]>,
    sessions: BTreeSet<SessionId>,
}

impl Met {
    fn log(&mut self, name: Name, header: &Header) {
        self.logs.insert(header.log);
        if let Name::Session(run) = name {
            self.sessions.insert(run.session);
        }
    }
}

fn check(logs: &Logs<'_>, log: &Log) -> Result<(Name, Report), Unfit> {
    let (name, report) = logs.check(log)?;
    // What was left is never written again.
    let written = !matches!(log.name, Name::Left(_));
    if written && matches!(report.findings.as_slice(), [Finding::Torn { .. }]) {
        std::thread::sleep(WRITING);
        return logs.check(log);
    }
    Ok((name, report))
}

/// What the ledger accepted must be here, and what a node sealed comes with the log of its session.
fn lost(lefts: &[Left], attempts: &[AttemptEntry], logs: &BTreeSet<SessionId>) -> Vec<String> {
    let here: BTreeSet<SessionId> = lefts.iter().map(|left| left.session).collect();
    let run = |task, attempt, session| Run {
        of: Some((task, attempt)),
        session,
    };
    let gone = attempts
        .iter()
        .filter(|it| it.state == AttemptState::Committed && !here.contains(&it.session))
        .map(|it| run(it.task, it.attempt, it.session))
        .map(|run| format!("what {run} left is gone"));
    // What a session of this host left does not travel: its records are in the job's own log.
    let unlogged = lefts
        .iter()
        .filter(|it| it.list.is_some() && it.manifest.is_some() && !logs.contains(&it.session))
        .map(|it| run(it.task, it.attempt, it.session))
        .map(|run| format!("{} is not here", Name::Session(run)));
    gone.chain(unlogged).collect()
}

impl Verdict {
    /// Notes what is wrong, and with which log, if there are several.
    fn find(&mut self, logs: &Logs<'_>, name: Name, how: impl Display) {
        self.findings.push(match logs.len() {
            1 => how.to_string(),
            _ => format!("{name}: {how}"),
        });
    }

    /// Goes over a log with which something is wrong, and says what.
    fn name_what_is_wrong(
        &mut self,
        logs: &Logs<'_>,
        log: &Log,
        register: &Checked,
        met: &mut Met,
    ) -> Result<(), Failure> {
        let (name, report) = match check(logs, log) {
            Ok(checked) => checked,
            Err(Unfit::Changed(how)) => {
                self.find(logs, log.name, how);
                // It is not lost, it is worse.
                met.sessions.extend(log.name.run().map(|run| run.session));
                return Ok(());
            }
            Err(Unfit::Failed(failure)) => return Err(failure),
        };
        self.records += report.records;
        for finding in &report.findings {
            self.find(logs, name, finding);
        }
        if let Name::Session(run) = name {
            met.sessions.insert(run.session);
        }
        if let Some(header) = &report.header
            && let Some(statements) = register.statements.get(&header.log)
        {
            met.logs.insert(header.log);
            for how in registers::disagreements(statements, logs.bytes(log)?)? {
                self.find(logs, name, how);
            }
        }
        // Bodies of a log that is not whole are not worth opening: the chain's findings say it all.
        if report.is_whole() {
            for record in logs.records(log)? {
                let found = self.take(&record?);
                found.into_iter().for_each(|how| self.find(logs, name, how));
            }
        }
        Ok(())
    }

    /// Counts a record; answers what is wrong with it.
    fn take(&mut self, record: &OpenedRecord) -> Option<String> {
        let seq = record.seq;
        match &record.what {
            What::Control(_) => None,
            What::Access { .. } => {
                self.sealed += 1;
                None
            }
            What::Unreadable { session, index } => Some(format!(
                "record {seq}: number {index} of {session} does not open"
            )),
            What::OutOfTurn {
                session,
                index,
                expected,
            } => Some(format!(
                "record {seq}: number {index} of {session} stands where number {expected} belongs"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use safelight_policies::id::JobId;

    use super::*;
    use crate::{
        records::samples::{
            farm::{self, Farm},
            *,
        },
        results::tests::told,
    };

    const JOB: JobId = JobId::from_random([0; 10]);

    #[test]
    fn what_is_wrong_with_sealed_records_is_named() {
        let mut verdict = Verdict::default();
        for record in [read("/c/a"), unreadable(), out_of_turn()] {
            let found = verdict.take(&record);
            verdict.findings.extend(found);
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

    /// While its job goes on, a log is still to come of which the register tells; afterwards it is gone. A look's is gone in either case.
    #[test]
    fn a_log_that_is_to_come_is_told_from_one_that_is_gone() {
        let farm = Farm::new();
        let came = farm.put(&farm.session_log(8, &[(1, "/c/a")]));
        let release = farm.put(&farm.release_log(8, 1));
        farm.left(8, 0, &[came, release]);
        let logs = Logs::of(&farm.state, &farm.opened).unwrap();
        let told = |which: LogOf| {
            let statement = safelight_audit::Statement {
                job: farm::JOB,
                log: which.id(farm::JOB),
                records: 12,
                root: [1; 32],
                chain: [2; 32],
            };
            Checked {
                statements: [(statement.log, vec![statement])].into(),
                ..Checked::default()
            }
        };
        let judged = |which, over| judge(&logs, &told(which), over).unwrap().0;
        let session = farm::session(7);
        let running = judged(LogOf::Session(session), false);
        assert_eq!((running.under_way, running.findings.len()), (1, 0));
        assert!(running.praise().ends_with("one session goes on"));
        let over = judged(LogOf::Session(session), true);
        let gone = format!("the log of {session} is gone; 12 records of it were registered");
        assert_eq!((over.under_way, over.findings), (0, vec![gone]));
        assert_eq!(judged(LogOf::Look(session), false).findings.len(), 1);
    }

    /// What is found of a farm's job.
    fn found(farm: &Farm) -> (Verdict, Vec<String>) {
        let logs = Logs::of(&farm.state, &farm.opened).unwrap();
        let (verdict, sessions) = judge(&logs, &Checked::default(), true).unwrap();
        let lefts = jobs::all_left(&farm.state, farm::JOB).unwrap();
        let lost = lost(&lefts, &[], &sessions);
        let all = [verdict.findings.clone(), lost].concat();
        (verdict, all)
    }

    #[test]
    fn every_log_is_verified_and_a_finding_names_its_own() {
        let farm = Farm::new();
        let logs = |number, task| {
            let session = farm.put(&farm.session_log(number, &[(1, "/c/a"), (2, "/c/b")]));
            let release = farm.put(&farm.release_log(number, 1));
            farm.left(number, task, &[session, release]);
            session
        };
        logs(7, 0);
        let second = logs(8, 1);
        let (verdict, all) = found(&farm);
        assert_eq!((verdict.logs, verdict.records, verdict.sealed), (4, 6, 4));
        assert_eq!(all, [""; 0]);
        assert_eq!(
            verdict.praise(),
            "6 records in 4 logs, all whole, the job's own not begun; 4 of them sealed, all open; not in the register yet"
        );
        farm.remove(second);
        let (verdict, all) = found(&farm);
        assert_eq!((verdict.logs, verdict.records), (4, 4));
        let [only] = all.as_slice() else {
            panic!("{all:?}")
        };
        let name = format!("a log of task 0/1, attempt 1 ({}): ", farm::session(8));
        assert!(only.starts_with(&name), "{only}");
    }

    #[test]
    fn a_changed_session_log_is_named_with_its_record() {
        let farm = Farm::new();
        let mut bytes = farm.session_log(7, &[(1, "/c/a"), (2, "/c/b")]);
        let near_end = bytes.len() - 40;
        bytes[near_end] ^= 1;
        farm.left(7, 3, &[farm.put(&bytes)]);
        farm.write(LogOf::Release(farm::session(9)), &farm.release_log(9, 1));
        let (verdict, all) = found(&farm);
        assert_eq!(verdict.logs, 2);
        let [only] = all.as_slice() else {
            panic!("{all:?}")
        };
        let name = format!(
            "the session log of task 0/3, attempt 1 ({}): record 2",
            farm::session(7)
        );
        assert!(only.starts_with(&name), "{only}");
    }

    #[test]
    fn what_was_accepted_and_is_gone_and_what_has_no_log_is_found() {
        let farm = Farm::new();
        let bare = farm.left(7, 0, &[farm.put(&farm.release_log(7, 1))]);
        let (_, all) = found(&farm);
        let session = farm::session(7);
        assert_eq!(
            all,
            [format!(
                "the session log of task 0/0, attempt 1 ({session}) is not here"
            )]
        );
        let accepted = told(&bare, AttemptState::Committed);
        let all = lost(&[], &[accepted], &BTreeSet::new());
        assert_eq!(
            all,
            [format!("what task 0/0, attempt 1 ({session}) left is gone")]
        );
        // A session of this host's own has its records in the job's own log.
        let mut here = bare;
        here.list = None;
        assert!(lost(&[here], &[], &BTreeSet::new()).is_empty());
    }
}
