//! `safelight site usage`: who used how much of the slots.

use clap::Args;
use safelight_scheduler::Usage;

use crate::{
    cli::StateArgs,
    failure::Failure,
    process,
    records::Line,
    run::Books,
    state::State,
    terminal::{print_json, say, table},
};

/// Arguments of `usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// Only today and so many days before it, in UTC
    #[arg(long, value_name = "DAYS")]
    days: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Tells.
pub(super) fn run(arguments: &UsageArgs) -> Result<(), Failure> {
    let books = Books::open(&State::open(arguments.state.state.as_deref())?)?;
    let ago = |days: u64| process::now_seconds().saturating_sub(days.saturating_mul(86_400));
    let since = arguments.days.map_or(0, ago);
    let all = books.wait(books.ledger().usage(since))?;
    if arguments.json {
        return all.iter().try_for_each(|it| print_json(&line(it)));
    }
    if all.is_empty() {
        say("nobody used a slot");
        return Ok(());
    }
    let rows: Vec<_> = all.iter().map(cells).collect();
    let head = [
        "CLIENT",
        "TASKS",
        "SESSIONS",
        "SLOT-HOURS",
        "CORE-HOURS",
        "GPU-HOURS",
        "LOST",
    ];
    table(&head, &rows)
}

fn line(it: &Usage) -> Line {
    Line::default()
        .with("client", it.client.to_string())
        .with("tasks", it.tasks)
        .with("sessions", it.sessions)
        .with("seconds", it.seconds)
        .with("core_seconds", it.core_seconds)
        .with("gpu_seconds", it.gpu_seconds)
        .with("lost_seconds", it.lost_seconds)
}

fn cells(it: &Usage) -> Vec<String> {
    // What is paid for is in --json, to the second; this is for people.
    let hours = |seconds: u64| format!("{:.2}", seconds as f64 / 3600.0);
    let lost = it.lost_seconds.saturating_mul(100) / it.seconds.max(1);
    vec![
        it.client.to_string(),
        it.tasks.to_string(),
        it.sessions.to_string(),
        hours(it.seconds),
        hours(it.core_seconds),
        hours(it.gpu_seconds),
        format!("{lost} %"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_for_people_and_seconds_for_programs() {
        let it = Usage {
            client: "river".parse().unwrap(),
            sessions: 3,
            tasks: 2,
            seconds: 5_400,
            core_seconds: 43_200,
            gpu_seconds: 0,
            lost_seconds: 1_350,
        };
        assert_eq!(cells(&it).join(" "), "river 2 3 1.50 12.00 0.00 25 %");
        let json = serde_json::to_value(line(&it)).unwrap();
        assert_eq!(json["core_seconds"], 43_200);
    }
}
