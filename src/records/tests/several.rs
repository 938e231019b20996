//! A job of many tasks: many logs, some of which are not as they were left.

use safelight_policies::id::ObjectId;

use super::{super::samples::farm::Farm, *};
use crate::records::samples::farm::session;

fn logs(farm: &Farm) -> Logs<'_> {
    Logs::of(&farm.state, &farm.opened).unwrap()
}

fn task(task: u64) -> TaskId {
    TaskId { step: 0, task }
}

/// A record: its time, its task, and what it tells of.
type Shown = (u64, Option<u64>, &'static str);

/// What is shown, and how it ended.
fn shown(logs: &Logs<'_>) -> (Vec<Shown>, Result<(), String>) {
    let mut all = Vec::new();
    let each = |record: OpenedRecord| {
        let of = record.task.map(|task| task.task);
        all.push((record.at_ns, of, action(&record.what)));
        Ok(())
    };
    let walked = in_order(logs, Wanted::ALL, each).unwrap();
    let end = walked.right().map_err(|failure| failure.to_string());
    (all, end)
}

/// Tasks 0 and 1 ran at the same time; the key's release into task 0 came home with it, task 2's is in a file.
fn farm() -> Farm {
    let farm = Farm::new();
    let (first, released) = (
        farm.session_log(7, &[(20, "/c/a"), (40, "/c/b")]),
        farm.release_log(7, 10),
    );
    farm.left(7, 0, &[farm.put(&first), farm.put(&released)]);
    farm.write(LogOf::Release(session(7)), &released);
    let second = farm.session_log(8, &[(30, "/c/a"), (25, "/c/b")]);
    farm.left(8, 1, &[farm.put(&second)]);
    farm.write(LogOf::Release(session(9)), &farm.release_log(9, 35));
    farm
}

#[test]
fn records_of_many_logs_are_one_story() {
    let farm = farm();
    let logs = logs(&farm);
    assert_eq!(logs.len(), 4);
    let (all, end) = shown(&logs);
    assert_eq!(end, Ok(()));
    assert_eq!(
        all,
        [
            (10, Some(0), "key-released"),
            (20, Some(0), "open-read"),
            (30, Some(1), "open-read"),
            // Its clock went back; its log's order holds.
            (25, Some(1), "open-read"),
            // A session that nothing was left of, and that no ledger knows.
            (35, None, "key-released"),
            (40, Some(0), "open-read"),
        ]
    );
    let read = read(&farm.state, &farm.opened).unwrap();
    let mut paths = Paths::default();
    read.iter().for_each(|record| paths.add(record));
    let (_, touched) = paths.iter().next().unwrap();
    assert_eq!((touched.reads, touched.tasks.len()), (2, 2));
    let line = serde_json::to_value(Line::of(&read[0])).unwrap();
    assert_eq!(
        (&line["log"], &line["task"], &line["task_attempt"]),
        (&"release".into(), &"0/0".into(), &1.into())
    );
}

#[test]
fn the_jobs_own_log_is_one_of_them_as_soon_as_it_has_begun() {
    let farm = Farm::new();
    let none = read(&farm.state, &farm.opened).unwrap_err().to_string();
    assert_eq!(none, format!("error: {JOB} has no audit log yet"));
    let farm = self::farm();
    farm.write(LogOf::Job, b"");
    assert_eq!(logs(&farm).len(), 4);
    let packed = Body::Control(Control::Packed { files: 1, bytes: 2 });
    let session = session(8);
    let cause = safelight_policies::cause::Cause::OutOfMemory;
    let ended = Body::Control(Control::Ended { session, cause });
    let (bytes, checkpoint) = log_of(LogOf::Job, [(5, packed), (50, ended)]);
    farm.write(LogOf::Job, &bytes);
    let (all, end) = shown(&logs(&farm));
    assert_eq!(end, Ok(()));
    assert_eq!(all.first(), Some(&(5, None, "packed")));
    // The job's own log tells of a task by its session.
    assert_eq!(all.last(), Some(&(50, Some(1), "ended")));
    // What the ledger noted of it must be there; of the others it notes nothing.
    let books = Books::open(&farm.state).unwrap();
    books.anchor(JOB, checkpoint).unwrap();
    drop(books);
    assert_eq!(shown(&logs(&farm)).1, Ok(()));
    farm.write(LogOf::Job, b"");
    let (all, end) = shown(&logs(&farm));
    assert_eq!(all.len(), 6);
    let end = end.unwrap_err();
    assert!(end.contains("was changed: its file is empty"), "{end}");
}

#[test]
fn only_the_logs_that_may_tell_of_a_task_are_read() {
    let farm = farm();
    let names: Vec<_> = logs(&farm)
        .only(Some(task(1)))
        .iter()
        .map(|log| log.name.to_string())
        .collect();
    assert_eq!(
        names,
        [
            format!("the key release log of {}", session(9)),
            format!("a log of task 0/1, attempt 1 ({})", session(8)),
        ]
    );
}

#[test]
fn a_log_that_is_gone_or_changed_is_named_and_hides_no_other() {
    let farm = farm();
    let gone = farm.put(&farm.session_log(5, &[(1, "/c/x")]));
    farm.left(5, 3, &[gone]);
    farm.remove(gone);
    let (all, end) = shown(&logs(&farm));
    assert_eq!(all.len(), 6);
    let end = end.unwrap_err();
    let named = format!("the log of {JOB} was changed: a log of task 0/3, attempt 1 (");
    assert!(end.contains(&named), "{end}");
    assert!(end.contains("No such file"), "{end}");
    assert!(read(&farm.state, &farm.opened).is_err());

    // A whole log of another session is another log; so is another job's.
    let farm = self::farm();
    let other = farm.put(&farm.session_log(5, &[(1, "/c/x")]));
    farm.left(6, 3, &[other]);
    let (all, end) = shown(&logs(&farm));
    assert_eq!(all.len(), 6);
    assert!(end.unwrap_err().contains("it is another log"));

    let farm = self::farm();
    let mut changed = farm.session_log(6, &[(1, "/c/x"), (2, "/c/y")]);
    let near_end = changed.len() - 40;
    changed[near_end] ^= 1;
    farm.left(6, 3, &[farm.put(&changed)]);
    farm.left(4, 2, &[ObjectId([9; 32])]);
    let (all, end) = shown(&logs(&farm));
    assert_eq!(all.len(), 7, "up to where it can be trusted");
    let end = end.unwrap_err();
    assert!(end.contains("task 0/2, attempt 1"), "{end}");
    assert!(end.contains("1 more logs are not whole"), "{end}");
}

#[test]
fn a_session_log_tells_of_its_own_session_only() {
    let farm = Farm::new();
    let foreign = sealed(&farm.opened.key, session(8), 0, "/c/x");
    let (bytes, _) = log_of(LogOf::Session(session(7)), [(1, foreign)]);
    farm.left(7, 0, &[farm.put(&bytes)]);
    let (all, end) = shown(&logs(&farm));
    assert_eq!(all, [(1, Some(0), "unreadable")]);
    assert!(end.unwrap_err().contains("1 records of"));
}
