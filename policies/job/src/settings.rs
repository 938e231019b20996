//! `safelight-job.toml`: what OpenJD leaves out.
//!
//! Where the job may run and how urgently, which of the client's directories it sees and how other systems spell them, what must be there
//! afterwards, whom to tell. A bundle without the file sees its own directory, writable, at [`DEFAULT_CENTRAL`].

use std::collections::BTreeMap;

use safelight_policies::{
    id::{PolicyName, SiteName},
    path::CentralPath,
};
use serde::Deserialize;

use crate::{
    error::Error,
    place::{Places, normal},
    source::{SETTINGS, Scheduling, check_length},
};

/// Where a bundle's own directory is if nobody says otherwise.
pub const DEFAULT_CENTRAL: &str = "/job";

/// The priority of a job that says none: in the middle.
pub const DEFAULT_PRIORITY: u8 = 50;

/// The most central paths: each travels with a descriptor of its own.
pub const CENTRALS_MAX: usize = 16;

/// The most retries of a task.
pub const RETRIES_MAX: u32 = 100;

/// The longest name of a capability, as OpenJD 2023-09 has it.
const CAPABILITY_MAX: usize = 100;

/// The most expected outputs of a task, words of a notification, spellings of a central path.
const LIST_MAX: usize = 256;

/// Settings that hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it may run.
    pub place: Where,
    /// 0 (last) to 100 (first).
    pub priority: u8,
    /// The policy that is asked for.
    pub policy: Option<PolicyName>,
    /// What the job sees.
    pub central: Vec<Central>,
    /// What must be there after a task, by step.
    pub expect: Expect,
    /// Whom to tell when the job has ended, on the client's own site.
    pub notify: Notify,
    /// How often a failed task is tried again; `None` as the site has it.
    pub retries: Option<u32>,
    /// The limit in seconds of tasks whose step says none.
    pub timeout: Option<u64>,
    /// How many tasks may be given up before nothing more of it begins; `None` as the site has it.
    pub failures: Option<u64>,
    /// When it may begin, in seconds since 1970.
    pub not_before: Option<u64>,
    /// It begins paused.
    pub held: bool,
    /// The first, the middle and the last task of each step come first.
    pub trial: bool,
    /// Capabilities of a studio's or a farm's own, by their names in the template: the name that others see.
    pub capabilities: BTreeMap<String, String>,
}

/// Where a job may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// The client's site decides.
    Auto,
    /// At the client's site only.
    Local,
    /// At this site only.
    Site(SiteName),
}

/// One of the client's directories and where the job believes that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Central {
    /// The directory on the client's host: absolute and normal.
    pub host: String,
    /// Where the job sees it.
    pub path: CentralPath,
    /// True if the job may write below it.
    pub write: bool,
    /// How other systems spell it, for example `Z:\show` or `/Volumes/show`.
    pub also: Vec<String>,
}

/// Expected outputs: patterns as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Expect {
    /// Of the job's only step.
    Only(Vec<String>),
    /// By the step's name.
    Steps(BTreeMap<String, Vec<String>>),
}

/// Whom to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// A program and its arguments, run on the client's host.
    #[serde(default)]
    pub command: Vec<String>,
    /// Where to post to: `https://` or `http://`.
    pub url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "where")]
    place: Option<String>,
    priority: Option<u8>,
    policy: Option<String>,
    #[serde(default)]
    central: Vec<WrittenCentral>,
    expect: Option<Expect>,
    notify: Option<Notify>,
    retries: Option<u32>,
    timeout: Option<u64>,
    failures: Option<u64>,
    not_before: Option<toml::value::Datetime>,
    paused: Option<bool>,
    #[serde(default)]
    trial: bool,
    #[serde(default)]
    capabilities: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCentral {
    host: String,
    path: String,
    #[serde(default)]
    write: bool,
    #[serde(default)]
    also: Vec<String>,
}

impl Settings {
    /// Reads the file. `directory` is the bundle's, where relative host paths begin.
    pub(crate) fn read(
        text: Option<&str>,
        directory: &str,
        scheduling: Scheduling,
    ) -> Result<Self, Error> {
        let text = text.unwrap_or_default();
        check_length(SETTINGS, text)?;
        let written: Written = toml::from_str(text).map_err(|source| Error::Settings {
            file: SETTINGS,
            source: Box::new(source),
        })?;
        let settings = Self {
            place: place(written.place.as_deref())?,
            priority: written
                .priority
                .or(scheduling.priority)
                .unwrap_or(DEFAULT_PRIORITY),
            policy: written
                .policy
                .map(|name| {
                    PolicyName::new(name)
                        .map_err(|_| Error::invalid(SETTINGS, "policy", "it is no policy's name"))
                })
                .transpose()?,
            central: centrals(written.central, directory)?,
            expect: written.expect.unwrap_or(Expect::Steps(BTreeMap::new())),
            notify: written.notify.unwrap_or_default(),
            retries: written.retries.or(scheduling.retries),
            timeout: written.timeout,
            failures: written.failures.or(scheduling.failures),
            not_before: written.not_before.map(seconds).transpose()?,
            held: written.paused.unwrap_or(scheduling.held),
            trial: written.trial,
            capabilities: written.capabilities,
        };
        settings.check(directory)?;
        Ok(settings)
    }

    fn check(&self, directory: &str) -> Result<(), Error> {
        let refuse = |at: &str, reason| Err(Error::invalid(SETTINGS, at, reason));
        if self.priority > 100 {
            return refuse("priority", "it is more than 100");
        }
        if self.retries.is_some_and(|it| it > RETRIES_MAX) {
            return refuse("retries", "they are more than 100");
        }
        if self.timeout == Some(0) {
            return refuse("timeout", "no task takes 0 seconds");
        }
        let url = self.notify.url.as_deref().unwrap_or("https://");
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return refuse("notify.url", "it begins with neither https:// nor http://");
        }
        if self.notify.command.len() > LIST_MAX {
            return refuse("notify.command", "it has more than 256 words");
        }
        for (own, shown) in &self.capabilities {
            let kind = own.split_once('.').map(|(kind, _)| kind);
            let same_kind = shown.split_once('.').map(|(kind, _)| kind) == kind;
            let fits =
                shown.len() <= CAPABILITY_MAX && shown.bytes().all(|it| it.is_ascii_graphic());
            if !fits || !same_kind || !matches!(kind, Some("amount" | "attr")) {
                let reason = "both are names of an amount (amount.…) or of an attribute (attr.…)";
                return refuse(&format!("capabilities.{own}"), reason);
            }
        }
        for (index, central) in self.central.iter().enumerate() {
            let at = format!("central[{index}].path");
            if self.central[..index]
                .iter()
                .any(|other| other.path.overlaps(&central.path))
            {
                return refuse(&at, "it overlaps another central path");
            }
        }
        match Places::new(directory, &self.central) {
            Ok(_) => Ok(()),
            Err(index) => refuse(
                &format!("central[{index}]"),
                "another central path is spelled like this one, or a spelling is not an absolute path",
            ),
        }
    }

    /// The name under which others may see a capability of somebody's own.
    pub(crate) fn shown(&self, name: &str) -> Option<&str> {
        let mut all = self.capabilities.iter();
        all.find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, shown)| shown.as_str())
    }

    /// The patterns for each step, in the order of `steps`.
    pub(crate) fn expected(&self, steps: &[&str]) -> Result<Vec<Vec<String>>, Error> {
        let refuse = |at: String, reason| Err(Error::invalid(SETTINGS, at, reason));
        let by_step = match &self.expect {
            Expect::Only(list) if steps.len() == 1 => vec![list.clone()],
            Expect::Only(_) => {
                let reason = "the job has several steps: write expect = { STEP = [...] }";
                return refuse("expect".to_owned(), reason);
            }
            Expect::Steps(table) => {
                if let Some(name) = table.keys().find(|name| !steps.contains(&name.as_str())) {
                    return refuse(format!("expect.{name}"), "the job has no such step");
                }
                let of = |step: &&str| table.get(*step).cloned().unwrap_or_default();
                steps.iter().map(of).collect()
            }
        };
        if by_step.iter().any(|list| list.len() > LIST_MAX) {
            return refuse("expect".to_owned(), "a task has more than 256 outputs");
        }
        Ok(by_step)
    }
}

/// A moment in seconds since 1970. It must say its offset from UTC: the sites may be on different continents.
fn seconds(written: toml::value::Datetime) -> Result<u64, Error> {
    let refuse = || {
        let reason = "it is no moment after 1970 like 2027-01-31T20:00:00Z";
        Error::invalid(SETTINGS, "not_before", reason)
    };
    let (Some(date), Some(time), Some(offset)) = (written.date, written.time, written.offset)
    else {
        return Err(refuse());
    };
    let minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    // Days of the proleptic Gregorian calendar, counted in years that begin with March.
    let (year, month) = (i64::from(date.year), i64::from(date.month));
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100
        + year / 400
        + (153 * month + 2) / 5
        + i64::from(date.day)
        - 1
        - 719_468;
    let clock = i64::from(time.hour) * 3600
        + i64::from(time.minute) * 60
        + i64::from(time.second.unwrap_or(0));
    u64::try_from(days * 86_400 + clock - minutes * 60).map_err(|_| refuse())
}

fn place(written: Option<&str>) -> Result<Where, Error> {
    match written {
        None | Some("auto") => Ok(Where::Auto),
        Some("local") => Ok(Where::Local),
        Some(name) => SiteName::new(name).map(Where::Site).map_err(|_| {
            Error::invalid(SETTINGS, "where", "it is neither auto nor local nor a site")
        }),
    }
}

fn centrals(written: Vec<WrittenCentral>, directory: &str) -> Result<Vec<Central>, Error> {
    let written = if written.is_empty() {
        vec![WrittenCentral {
            host: ".".to_owned(),
            path: DEFAULT_CENTRAL.to_owned(),
            write: true,
            also: Vec::new(),
        }]
    } else {
        written
    };
    if written.len() > CENTRALS_MAX {
        return Err(Error::invalid(
            SETTINGS,
            "central",
            "there are more than 16",
        ));
    }
    let mut centrals = Vec::with_capacity(written.len());
    for (index, it) in written.into_iter().enumerate() {
        let at = format!("central[{index}]");
        let path = CentralPath::new(it.path).map_err(|source| Error::Central {
            file: SETTINGS,
            at: at.clone(),
            source,
        })?;
        if path.as_str().contains("{{") || path.as_str().contains("}}") {
            let reason = "'{{' and '}}' stand for values of parameters";
            return Err(Error::invalid(SETTINGS, at, reason));
        }
        let host = match normal(directory, &it.host) {
            Some((openjd_expr::PathFormat::Posix, host)) if host != "/" => host,
            _ => {
                let reason = "it is no directory of this host below its root";
                return Err(Error::invalid(SETTINGS, format!("{at}.host"), reason));
            }
        };
        if it.also.len() > LIST_MAX || it.also.iter().any(|also| !is_absolute(also)) {
            let reason = "each must be absolute, and there may be 256";
            return Err(Error::invalid(SETTINGS, format!("{at}.also"), reason));
        }
        centrals.push(Central {
            host,
            path,
            write: it.write,
            also: it.also,
        });
    }
    Ok(centrals)
}

/// True if a spelling needs no directory to begin in, and is not a whole root: everything would lie below it.
fn is_absolute(spelling: &str) -> bool {
    match normal("", spelling) {
        Some((openjd_expr::PathFormat::Posix, path)) => path != "/",
        Some(_) => true,
        None => false,
    }
}

#[cfg(test)]
mod tests;
