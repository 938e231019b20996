//! `safelight hotfolder`: how the folders between the sites are, what was refused, and what is to be tried again.

use clap::{Args, Subcommand};
use safelight_policies::id::SiteName;

use crate::{
    cli::StateArgs,
    failure::{Failure, Kind},
    records::{Line, utc},
    site::{Folder, Folders, Refused},
    state::State,
    terminal::{bytes, print, print_json, say, shown, table},
};

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum HotfolderCommand {
    /// Show each hot folder: whether it works, what lies there, is on its way, waits and for what, is set aside
    Status(StatusArgs),
    /// List what was refused, here or at the other site, each with the reason
    ///
    /// What this site refused lies in its folder's `aside/`, as it came. What another site refused, or never answered, is kept back here
    /// if no other letter tells what it tells; a job's keys are kept as long.
    Quarantine(QuarantineArgs),
    /// Let what was refused be tried again
    ///
    /// What this site refused is put back and read once more. What the other site refused is sent once more, under a new number.
    Retry(RetryArgs),
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The other site; all, if none is named
    site: Option<SiteName>,
    /// One JSON object a line, one for each folder
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `quarantine`.
#[derive(Debug, Args)]
pub(crate) struct QuarantineArgs {
    /// The other site; all, if none is named
    site: Option<SiteName>,
    /// Give these up: what was set aside is deleted, what was kept back is not waited for any more
    #[arg(long, value_name = "ENTRY", num_args = 1..)]
    discard: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Arguments of `retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The other site
    site: SiteName,
    /// What is to be tried again, as `hotfolder quarantine` names it
    #[arg(value_name = "ENTRY", required_unless_present = "all")]
    entries: Vec<String>,
    /// Everything
    #[arg(long, conflicts_with = "entries")]
    all: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Answers.
pub(crate) fn run(command: HotfolderCommand) -> Result<(), Failure> {
    match command {
        HotfolderCommand::Status(arguments) => status(&arguments),
        HotfolderCommand::Quarantine(arguments) => quarantine(&arguments),
        HotfolderCommand::Retry(arguments) => retry(&arguments),
    }
}

fn open(state: &StateArgs, site: Option<&SiteName>) -> Result<Folders, Failure> {
    Folders::open(&State::open(state.state.as_deref())?, site)
}

fn status(arguments: &StatusArgs) -> Result<(), Failure> {
    let folders = open(&arguments.state, arguments.site.as_ref())?.status()?;
    if arguments.json {
        return folders
            .iter()
            .try_for_each(|folder| print_json(&line_of(folder)));
    }
    if folders.is_empty() {
        say("no site is enrolled");
        return Ok(());
    }
    let row = |folder: &Folder| {
        vec![
            folder.site.to_string(),
            folder.way.as_str().to_owned(),
            folder.fault.as_ref().map_or("ok", |(word, _)| word).into(),
            folder.lying.to_string(),
            folder.going.to_string(),
            folder.waiting.len().to_string(),
            folder.aside.to_string(),
            folder.room.map(bytes).unwrap_or_default(),
            heard(folder).unwrap_or_default(),
            shown(folder.place.as_bytes()),
        ]
    };
    let rows: Vec<_> = folders.iter().map(row).collect();
    let head = [
        "SITE", "WAY", "STATE", "LYING", "GOING", "WAITING", "ASIDE", "ROOM", "HEARD", "FOLDER",
    ];
    table(&head, &rows)?;
    for folder in &folders {
        let of = format!("{} {}", folder.site, folder.way.as_str());
        for text in folder.alarms.iter().chain(&folder.waiting) {
            print(format!("{of}: {}", shown(text.as_bytes())))?;
        }
        if let Some((_, failure)) = &folder.fault {
            let text = failure.to_string();
            print(format!("{of}: {}", text.trim_start_matches("error: ")))?;
        }
    }
    Ok(())
}

fn heard(folder: &Folder) -> Option<String> {
    (folder.heard > 0).then(|| utc(folder.heard))
}

fn line_of(folder: &Folder) -> Line {
    let fault = folder.fault.as_ref();
    Line::default()
        .with("site", folder.site.to_string())
        .with("way", folder.way.as_str())
        .with("folder", folder.place.clone())
        .with("state", fault.map_or("ok", |(word, _)| word))
        .with("fault", fault.map(|(_, failure)| failure.message()))
        .with("lying", folder.lying)
        .with("going", folder.going)
        .with("waiting", folder.waiting.clone())
        .with("aside", folder.aside)
        .with("room", folder.room)
        .with("heard", heard(folder))
        .with("alarms", folder.alarms.clone())
}

fn quarantine(arguments: &QuarantineArgs) -> Result<(), Failure> {
    let folders = open(&arguments.state, arguments.site.as_ref())?;
    let refused = folders.refused()?;
    if !arguments.discard.is_empty() {
        for entry in &arguments.discard {
            let found = named(&refused, entry)?;
            if folders.discard(found)? {
                say(format!("{entry} is discarded"));
            } else {
                say(format!("{entry} is gone already"));
            }
        }
        return Ok(());
    }
    if arguments.json {
        return refused.iter().try_for_each(|it| print_json(&line_for(it)));
    }
    if refused.is_empty() {
        say("nothing was refused");
        return Ok(());
    }
    let row = |it: &Refused| {
        vec![
            it.entry.clone(),
            it.site.as_ref().map_or("-".into(), ToString::to_string),
            it.way.as_str().to_owned(),
            it.kind.map_or("-", |kind| kind.as_str()).to_owned(),
            it.at.map(utc).unwrap_or_default(),
            word(it).unwrap_or_default(),
            shown(it.reason.as_bytes()),
        ]
    };
    let rows: Vec<_> = refused.iter().map(row).collect();
    let head = ["ENTRY", "SITE", "WAY", "KIND", "SINCE", "CODE", "REASON"];
    table(&head, &rows)
}

fn word(refused: &Refused) -> Option<String> {
    let word = serde_json::to_value(refused.code?).ok()?;
    word.as_str().map(str::to_owned)
}

fn line_for(refused: &Refused) -> Line {
    Line::default()
        .with("entry", refused.entry.clone())
        .with("site", refused.site.as_ref().map(ToString::to_string))
        .with("way", refused.way.as_str())
        .with("kind", refused.kind.map(|kind| kind.as_str()))
        .with("number", refused.number)
        .with("job", refused.job.map(|job| job.to_string()))
        .with("since", refused.at.map(utc))
        .with("code", word(refused))
        .with("reason", refused.reason.clone())
}

/// The one entry of this name.
fn named<'a>(refused: &'a [Refused], entry: &str) -> Result<&'a Refused, Failure> {
    let mut found = refused.iter().filter(|it| it.entry == entry);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::new(
            Kind::User,
            format!("nothing of the name {entry} was refused"),
        )
        .hint("safelight hotfolder quarantine")),
        (Some(_), Some(_)) => Err(Failure::new(
            Kind::User,
            format!("{entry} is in several folders"),
        )
        .hint("name the site, too")),
    }
}

fn retry(arguments: &RetryArgs) -> Result<(), Failure> {
    let folders = open(&arguments.state, Some(&arguments.site))?;
    let refused = folders.refused()?;
    let chosen = if arguments.all {
        refused.iter().collect()
    } else {
        let entries = arguments.entries.iter();
        entries
            .map(|entry| named(&refused, entry))
            .collect::<Result<Vec<_>, _>>()?
    };
    let mut left = 0;
    for it in &chosen {
        if folders.retry(it)? {
            say(format!("{} is tried again", it.entry));
        } else {
            left += 1;
            say(format!(
                "{} stays: it has no letter's name, or is there already",
                it.entry
            ));
        }
    }
    if chosen.is_empty() {
        say("nothing was refused");
    }
    if left > 0 && left == chosen.len() {
        let message = "nothing of it can be tried again";
        return Err(Failure::new(Kind::User, message)
            .hint("safelight hotfolder quarantine --discard ENTRY"));
    }
    Ok(())
}
