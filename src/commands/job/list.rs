//! `safelight job list`: every job in a row.

use clap::Args;
use safelight_scheduler::{Overview, Queue};

use super::progress::Progress;
use crate::{
    cli::StateArgs,
    failure::Failure,
    jobs,
    records::{Line, utc},
    run::Books,
    state::State,
    terminal::{print_json, say, table},
};

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Lists them.
pub(super) fn run(arguments: &ListArgs) -> Result<(), Failure> {
    let state = State::open(arguments.state.state.as_deref())?;
    let books = Books::open(&state)?;
    let all = books.wait(books.ledger().overviews())?;
    if all.is_empty() {
        say("no job has run on this host yet");
        return Ok(());
    }
    let mut rows = Vec::new();
    for overview in &all {
        let done = done(&state, overview)?;
        if arguments.json {
            print_json(&summary(overview).with("done", done))?;
        } else {
            rows.push(cells(overview, done));
        }
    }
    if arguments.json {
        return Ok(());
    }
    let head = [
        "JOB",
        "STATE",
        "QUEUE",
        "TASKS",
        "SUBMITTED",
        "POLICY",
        "SITE",
    ];
    table(&head, &rows)
}

/// Tasks that are done. What another site renders is done for this one when it is at home.
fn done(state: &State, overview: &Overview) -> Result<u64, Failure> {
    match overview.site {
        Some(_) => Ok(jobs::all_delivered(state, overview.job.id())?.len() as u64),
        None => Ok(Progress::here(&overview.steps).done()),
    }
}

/// What the books say of a job.
pub(super) fn summary(overview: &Overview) -> Line {
    let job = &overview.job;
    let outline = &job.outline;
    Line::default()
        .with("job", job.id().to_string())
        .with("state", job.state.to_string())
        .with("submitted", utc(job.submitted_at))
        .with("expires", utc(outline.expires))
        .with("policy", outline.policy.to_string())
        .with("policy_digest", outline.policy_digest.to_string())
        .with("client", outline.client.to_string())
        .with("audit_records", job.anchor.map(|anchor| anchor.records))
        .with("queue", overview.queue.map(Queue::as_str))
        .with("paused", overview.paused)
        .with("site", overview.site.as_ref().map(ToString::to_string))
        .with("tasks", crate::results::tasks(outline))
}

fn cells(overview: &Overview, done: u64) -> Vec<String> {
    let job = &overview.job;
    let all = crate::results::tasks(&job.outline);
    vec![
        job.id().to_string(),
        job.state.to_string(),
        overview
            .queue
            .map_or("-".to_owned(), |queue| queue.to_string()),
        format!("{}/{all}", done.min(all)),
        utc(job.submitted_at),
        job.outline.policy.to_string(),
        site(overview),
    ]
}

/// Where a job is rendered.
fn site(overview: &Overview) -> String {
    match (&overview.site, overview.queue) {
        (Some(site), _) => site.to_string(),
        (None, Some(Queue::New)) => "-".to_owned(),
        (None, _) => "here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use safelight_scheduler::{JobState, progress::StepCount};

    use super::{super::progress::tests::overview, *};

    #[test]
    fn a_job_is_a_row_that_says_how_far_it_is_and_where() {
        let row = |overview: &Overview, done| cells(overview, done)[1..].join(" ");
        let mut it = overview(&[3, 1]);
        assert_eq!(
            row(&it, 2),
            "waiting active 2/4 1970-01-01T00:00:09Z generic here"
        );
        it.queue = Some(Queue::New);
        assert!(row(&it, 0).ends_with("new 0/4 1970-01-01T00:00:09Z generic -"));
        it.queue = Some(Queue::Outsourced);
        it.site = Some("north".parse().unwrap());
        it.job.state = JobState::Returning;
        assert_eq!(
            row(&it, 9),
            "returning outsourced 4/4 1970-01-01T00:00:09Z generic north"
        );
        it.queue = None;
        assert!(row(&it, 4).starts_with("returning - 4/4 "));
        let json = serde_json::to_value(summary(&it)).unwrap();
        assert_eq!(json["queue"], serde_json::Value::Null);
        assert_eq!(
            (&json["site"], &json["tasks"]),
            (&"north".into(), &4.into())
        );
        it.steps[0] = StepCount {
            done: 2,
            ..it.steps[0]
        };
        assert_eq!(Progress::here(&it.steps).done(), 2);
    }
}
