//! `safelight job running|failures|left`: what a wrangler asks of the whole farm, one command each.

use clap::Args;
use safelight_policies::id::TaskId;
use safelight_scheduler::{Failures, Forecast, LeftOf, Running};

use crate::{
    cli::StateArgs,
    failure::Failure,
    process,
    records::{Line, utc},
    results::task_name,
    run::Books,
    state::State,
    terminal::{print_json, say, table},
};

/// Arguments of `running`.
#[derive(Debug, Args)]
pub(crate) struct RunningArgs {
    /// Only what takes too long
    #[arg(long)]
    stuck: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `failures`.
#[derive(Debug, Args)]
pub(crate) struct FailuresArgs {
    /// Only of this job: its id, the beginning of it, or `last`
    job: Option<String>,
    /// Only of so many hours
    #[arg(long, value_name = "HOURS")]
    hours: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `left`.
#[derive(Debug, Args)]
pub(crate) struct LeftArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

fn books(state: &StateArgs) -> Result<Books, Failure> {
    Books::of_site(&State::open(state.state.as_deref())?)
}

/// What runs where.
pub(super) fn running(arguments: &RunningArgs) -> Result<(), Failure> {
    let books = books(&arguments.state)?;
    let mut all = books.wait(books.ledger().sessions(process::now_seconds()))?;
    all.retain(|it| it.stuck || !arguments.stuck);
    if arguments.json {
        return all.iter().try_for_each(|it| print_json(&running_line(it)));
    }
    if all.is_empty() {
        say(if arguments.stuck {
            "nothing takes too long"
        } else {
            "nothing runs"
        });
        return Ok(());
    }
    let rows: Vec<_> = all.iter().map(running_cells).collect();
    table(
        &[
            "NODE", "SLOT", "JOB", "CLIENT", "TASK", "ATTEMPT", "FOR", "USUAL", "",
        ],
        &rows,
    )
}

fn running_line(it: &Running) -> Line {
    Line::default()
        .with("node", it.place.node.to_string())
        .with("slot", u64::from(it.place.slot.0))
        .with("job", it.job.to_string())
        .with("client", it.client.to_string())
        .with("task", task_name(it.task))
        .with("tasks", u64::from(it.tasks))
        .with("attempt", u64::from(it.attempt))
        .with("session", it.session.to_string())
        .with("seconds", it.elapsed)
        .with("usual", it.usual)
        .with("stuck", it.stuck)
}

fn running_cells(it: &Running) -> Vec<String> {
    let more = match it.tasks {
        1 => String::new(),
        tasks => format!(" +{}", tasks - 1),
    };
    vec![
        it.place.node.to_string(),
        it.place.slot.0.to_string(),
        it.job.to_string(),
        it.client.to_string(),
        format!("{}{more}", task_name(it.task)),
        it.attempt.to_string(),
        time(it.elapsed),
        it.usual.map_or_else(|| "-".to_owned(), time),
        if it.stuck { "takes too long" } else { "" }.to_owned(),
    ]
}

/// What failed and why.
pub(super) fn failures(arguments: &FailuresArgs) -> Result<(), Failure> {
    let books = books(&arguments.state)?;
    let job = arguments.job.as_deref();
    let job = job.map(|job| books.find(job)).transpose()?;
    let hours = arguments.hours.map(|hours| hours.saturating_mul(3600));
    let since = hours.map_or(0, |seconds| process::now_seconds().saturating_sub(seconds));
    let all = books.wait(books.ledger().failures(job, since))?;
    if arguments.json {
        return all.iter().try_for_each(|it| print_json(&failure_line(it)));
    }
    if all.is_empty() {
        say("nothing failed");
        return Ok(());
    }
    let cells = |it: &Failures| {
        vec![
            it.job.to_string(),
            it.step.to_string(),
            why(it),
            it.node.to_string(),
            it.attempts.to_string(),
            task_name(example(it)),
            utc(it.last),
        ]
    };
    let rows: Vec<_> = all.iter().map(cells).collect();
    let head = ["JOB", "STEP", "WHY", "NODE", "ATTEMPTS", "TASK", "LAST"];
    table(&head, &rows)
}

fn why(it: &Failures) -> String {
    let cause = it.cause.as_ref().map(ToString::to_string);
    cause.unwrap_or_else(|| "another session took the task".to_owned())
}

fn example(it: &Failures) -> TaskId {
    TaskId {
        step: it.step,
        task: it.task,
    }
}

fn failure_line(it: &Failures) -> Line {
    Line::default()
        .with("job", it.job.to_string())
        .with("step", u64::from(it.step))
        .with("why", why(it))
        .with("node", it.node.to_string())
        .with("attempts", it.attempts)
        .with("task", task_name(example(it)))
        .with("last", utc(it.last))
}

/// What is left and until when.
pub(super) fn left(arguments: &LeftArgs) -> Result<(), Failure> {
    let books = books(&arguments.state)?;
    let now = process::now_seconds();
    let all = books.wait(books.ledger().left(now))?;
    if arguments.json {
        return all
            .iter()
            .try_for_each(|it| print_json(&left_line(it, now)));
    }
    if all.is_empty() {
        say("nothing is left to render here");
        return Ok(());
    }
    let rows: Vec<_> = all.iter().map(|it| left_cells(it, now)).collect();
    let head = [
        "JOB", "CLIENT", "STATE", "DONE", "RUNNING", "GIVEN UP", "UNTIL",
    ];
    table(&head, &rows)
}

fn left_line(it: &LeftOf, now: u64) -> Line {
    let until = match it.forecast {
        Forecast::In { seconds } => Some(utc(now.saturating_add(seconds))),
        _ => None,
    };
    let why = until.is_none().then(|| it.forecast.to_string());
    Line::default()
        .with("job", it.job.to_string())
        .with("client", it.client.to_string())
        .with("state", it.state.to_string())
        .with("paused", it.paused)
        .with("tasks", it.tasks)
        .with("done", it.done)
        .with("running", it.running)
        .with("given_up", it.dead)
        .with("until", until)
        .with("why_no_time", why)
}

fn left_cells(it: &LeftOf, now: u64) -> Vec<String> {
    let until = match it.forecast {
        Forecast::In { seconds } => {
            let at = utc(now.saturating_add(seconds));
            format!("{at} (in {})", time(seconds))
        }
        other => other.to_string(),
    };
    let paused = if it.paused { ", paused" } else { "" };
    vec![
        it.job.to_string(),
        it.client.to_string(),
        format!("{}{paused}", it.state),
        format!("{}/{}", it.done, it.tasks),
        it.running.to_string(),
        it.dead.to_string(),
        until,
    ]
}

/// A time as people read it: two units at most.
fn time(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, _) => format!("{hours} h {} min", seconds / 60 % 60),
        (days, _, _) => format!("{days} d {} h", seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use safelight_policies::{
        cause::Cause,
        id::{JobId, SessionId, SlotIndex},
    };
    use safelight_scheduler::{JobState, Place};

    use super::*;

    #[test]
    fn a_session_that_takes_too_long_says_so() {
        let mut it = Running {
            place: Place {
                node: "n1".parse().unwrap(),
                slot: SlotIndex(3),
            },
            job: JobId::from_random([1; 10]),
            client: "river".parse().unwrap(),
            task: TaskId { step: 0, task: 12 },
            tasks: 4,
            attempt: 2,
            session: SessionId::from_random([2; 10]),
            elapsed: 4_000,
            usual: Some(59),
            stuck: true,
        };
        let row = running_cells(&it).join("|");
        assert!(
            row.ends_with("|river|0/12 +3|2|1 h 6 min|59 s|takes too long"),
            "{row}"
        );
        (it.tasks, it.usual, it.stuck, it.elapsed) = (1, None, false, 100_000);
        assert!(running_cells(&it).join("|").ends_with("|0/12|2|1 d 3 h|-|"));
        let json = serde_json::to_value(running_line(&it)).unwrap();
        assert_eq!(
            (&json["stuck"], &json["usual"]),
            (&false.into(), &serde_json::Value::Null)
        );
    }

    #[test]
    fn where_nothing_is_known_no_time_is_said() {
        let mut it = LeftOf {
            job: JobId::from_random([1; 10]),
            client: "river".parse().unwrap(),
            state: JobState::Running,
            paused: false,
            tasks: 9,
            done: 2,
            running: 1,
            dead: 0,
            forecast: Forecast::In { seconds: 90 },
        };
        let row = left_cells(&it, 0).join("|");
        assert!(
            row.ends_with("|running|2/9|1|0|1970-01-01T00:01:30Z (in 1 min 30 s)"),
            "{row}"
        );
        let json = serde_json::to_value(left_line(&it, 0)).unwrap();
        assert_eq!(json["until"], "1970-01-01T00:01:30Z");
        (it.paused, it.forecast) = (true, Forecast::Never { dead: 2 });
        let row = left_cells(&it, 0).join("|");
        assert!(
            row.contains("|running, paused|") && row.ends_with("|never: 2 tasks were given up"),
            "{row}"
        );
        let json = serde_json::to_value(left_line(&it, 0)).unwrap();
        assert_eq!(
            (&json["until"], &json["why_no_time"]),
            (
                &serde_json::Value::Null,
                &"never: 2 tasks were given up".into()
            )
        );
    }

    #[test]
    fn what_failed_names_a_task_to_look_at() {
        let it = Failures {
            job: JobId::from_random([1; 10]),
            step: 1,
            cause: Some(Cause::OutOfMemory),
            node: "n1".parse().unwrap(),
            attempts: 3,
            task: 7,
            last: 60,
        };
        let json = serde_json::to_value(failure_line(&it)).unwrap();
        assert_eq!(
            (&json["why"], &json["task"]),
            (&"out of memory".into(), &"1/7".into())
        );
        let none = Failures { cause: None, ..it };
        assert_eq!(why(&none), "another session took the task");
    }
}
