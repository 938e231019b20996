//! `safelight audit report`: what happened to a job, as one page for its client.
//!
//! The page stands alone: no script, no font, no picture from elsewhere, and a policy in it that forbids them. Whatever a job could have
//! chosen, the names of its files and programs, is text on it and nothing else.

mod page;

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use safelight_audit::Source;
use safelight_policies::{event::Control, id::SessionId};

use self::page::Page;
use super::{
    asked::{Asked, Narrow},
    filter::Filter,
    rows::{self, Denial},
    verify,
};
use crate::{
    failure::{Failure, Kind},
    opened::OpenedJob,
    process,
    records::{self, ExportFile, OpenedRecord, Paths, Summary, Wanted, What, utc, utc_of_ns},
    registers,
    results::task_name,
    state::State,
    terminal::{bytes, say, shown},
};

/// Rows of a table on the page; a page is to be read.
const ROWS_MAX: usize = 2000;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    about: Narrow,
    /// The file; it is made readable for you only, and replaced if it is there
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
}

/// What is gathered of a job.
#[derive(Default)]
struct Gathered {
    paths: Paths,
    sessions: BTreeMap<SessionId, Ran>,
    denials: Vec<Vec<String>>,
    releases: Vec<Vec<String>>,
    looks: Vec<Vec<String>>,
    acts: Vec<Vec<String>>,
    records: u64,
    times: Option<(u64, u64)>,
}

/// A session as its log tells it.
#[derive(Debug, Default, Clone)]
struct Ran {
    task: String,
    attempt: String,
    place: String,
    began: String,
    ended: String,
    cause: String,
    wrote: String,
}

pub(super) fn run(arguments: &ReportArgs) -> Result<(), Failure> {
    let asked = Asked::open(&arguments.about)?;
    let [opened] = asked.jobs() else {
        return Err(Failure::new(Kind::User, "a report is about one job"));
    };
    let (verdict, registered) = verify::verdict(&asked.state, opened)?;
    let mut gathered = Gathered::default();
    let walked = records::in_order(
        &asked.logs(opened)?,
        Wanted {
            span: asked.filter.span(),
            keep: &|record| asked.filter.keeps_kind(record),
            ..Wanted::ALL
        },
        |record| {
            gathered.add(&record);
            Ok(())
        },
    )?;
    let page = gathered.page(&asked.state, opened, (&verdict, registered))?;
    let mut file = ExportFile::begin(&arguments.html)?;
    file.bytes(page.as_bytes())?;
    file.finish()?;
    say(format!(
        "{}: {} records in {}",
        opened.job(),
        gathered.records,
        arguments.html.display()
    ));
    walked.right()?;
    match verdict.is_empty() {
        true => Ok(()),
        false => Err(records::changed(opened.job(), &verdict[0])),
    }
}

impl Gathered {
    fn add(&mut self, record: &OpenedRecord) {
        self.records += 1;
        let (first, last) = self.times.unwrap_or((record.at_ns, record.at_ns));
        self.times = Some((first.min(record.at_ns), last.max(record.at_ns)));
        self.paths.add(record);
        if let Some(denial) = Denial::of(record) {
            self.denials.push(denial.cells(true));
        }
        if let What::Control(control) = &record.what {
            self.control(control, record);
        }
    }

    fn control(&mut self, control: &Control, record: &OpenedRecord) {
        let at = utc_of_ns(record.at_ns);
        match control {
            // The release's own log tells of the lease too; one row for both.
            Control::Leased {
                session,
                task,
                attempt,
                node,
                slot,
                ..
            } => {
                let ran = self.sessions.entry(*session).or_default();
                ran.task = task_name(*task);
                ran.attempt = attempt.to_string();
                let site = record.place.as_ref().and_then(|place| place.site.as_ref());
                let site = site.map_or(String::new(), |site| format!("{site}: "));
                ran.place = format!("{site}{node}, slot {}", slot.0);
            }
            Control::Started { session, .. } => {
                self.sessions.entry(*session).or_default().began = at;
            }
            // A look ends too, and is no session of the job's.
            Control::Ended { session, cause } if record.source != Source::Debug => {
                let ran = self.sessions.entry(*session).or_default();
                (ran.ended, ran.cause) = (at, cause.to_string());
            }
            Control::Committed {
                session,
                files,
                bytes: count,
                ..
            } => {
                let wrote = format!("{files} files, {}", bytes(*count));
                self.sessions.entry(*session).or_default().wrote = wrote;
            }
            Control::KeyReleased { session, to } => {
                let key = data_encoding::HEXLOWER.encode(&to[..8]);
                self.key([
                    at,
                    session.to_string(),
                    format!("{key}…"),
                    "released".to_owned(),
                ]);
            }
            Control::KeyRefused { session, reason } => {
                let refused = format!("refused: {reason}");
                self.key([at, session.to_string(), "-".to_owned(), refused]);
            }
            Control::DebugAccess { uid, how } => {
                self.looks.push(vec![at, uid.to_string(), how.clone()]);
            }
            _ => self.acts.push(act(at, record)),
        }
    }

    fn key(&mut self, cells: [String; 4]) {
        self.releases.push(cells.to_vec());
    }

    fn page(
        &self,
        state: &State,
        opened: &OpenedJob,
        (findings, registered): (&[String], bool),
    ) -> Result<String, Failure> {
        let outline = &opened.envelope.outline;
        let mut page = Page::begin(&format!("Job report: {}", opened.job()));
        let (first, last) = self.times.unwrap_or_default();
        page.facts(&[
            ("Job", opened.job().to_string()),
            ("Client", outline.client.to_string()),
            (
                "Policy",
                format!("{} ({})", outline.policy, outline.policy_digest),
            ),
            ("First record", utc_of_ns(first)),
            ("Last record", utc_of_ns(last)),
            ("Written", utc(process::now_seconds())),
        ]);
        page.verdict(findings, self.records, registered);
        let sum = Summary::of(&self.paths);
        page.figures(&[
            ("paths read", sum.read.to_string()),
            ("paths written", sum.written.to_string()),
            ("paths refused", sum.denied.to_string()),
            ("paths missing", sum.missing.to_string()),
            ("served", bytes(sum.bytes_read)),
            ("taken", bytes(sum.bytes_written)),
            ("sessions", self.sessions.len().to_string()),
            ("looks from outside", self.looks.len().to_string()),
        ]);
        self.tables(&mut page);
        register(state, opened, &mut page)?;
        Ok(page.end())
    }

    fn tables(&self, page: &mut Page) {
        let sessions = self.sessions.iter().map(|(session, ran)| {
            let ran = ran.clone();
            vec![
                session.to_string(),
                ran.task,
                ran.attempt,
                ran.place,
                ran.began,
                ran.ended,
                ran.cause,
                ran.wrote,
            ]
        });
        page.table(
            "Where it ran",
            &[
                "Session", "Task", "Attempt", "Where", "Began", "Ended", "How", "Wrote",
            ],
            sessions.collect(),
            ROWS_MAX,
        );
        page.table(
            "Keys",
            &["Time", "Session", "To the key", "Outcome"],
            self.releases.clone(),
            ROWS_MAX,
        );
        page.table(
            "Looks from outside",
            &["Time", "User", "How"],
            self.looks.clone(),
            ROWS_MAX,
        );
        page.table(
            "Refused",
            &rows::Denial::head(true),
            self.denials.clone(),
            ROWS_MAX,
        );
        let all = Filter::default();
        let missing = rows::missing(&self.paths, &all);
        let cells = missing.iter().map(|row| row.cells(true)).collect();
        page.table("Missing", &rows::Missing::head(true), cells, ROWS_MAX);
        let files = rows::files(&self.paths, &all);
        let cells = files.iter().map(|row| row.cells(true)).collect();
        page.table("Files", &rows::File::head(true), cells, ROWS_MAX);
        page.table(
            "Acts of ours",
            &["Time", "Act", "Details"],
            self.acts.clone(),
            ROWS_MAX,
        );
    }
}

/// The register's head, so that the page can be held against the register later.
fn register(state: &State, opened: &OpenedJob, page: &mut Page) -> Result<(), Failure> {
    let client = &opened.envelope.outline.client;
    for known in registers::known(state, client)? {
        let Some((head, note)) = known.last_seen(state)? else {
            continue;
        };
        page.heading(&format!("{} up to entry {}", known.name(), head.size));
        page.text("The client's side saw it and signed. Both signatures stand below, as signed notes (C2SP), and then the keys.");
        page.plain(&shown_lines(&note));
        let client = registers::witness_signer(state)?.verifier();
        page.plain(&format!("{}\n{}", known.key(), client.text()));
    }
    Ok(())
}

/// An act of ours that has no table of its own.
fn act(at: String, record: &OpenedRecord) -> Vec<String> {
    let line = records::Line::said(record);
    let said = line
        .fields(4)
        .map(|(name, value)| format!("{name} {value}"));
    let said = said.collect::<Vec<_>>().join(", ");
    vec![at, records::action(&record.what).to_owned(), said]
}

fn shown_lines(text: &str) -> String {
    text.lines()
        .map(|line| shown(line.as_bytes()))
        .collect::<Vec<_>>()
        .join("\n")
}
