//! What `safelight run` is asked for.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;
use safelight_policies::{id::JobId, path::CentralPath};

use crate::{cli::StateArgs, reader::Reader};

/// Run one untrusted command in a slot of this host.
///
/// Every --central directory is sealed before anything starts; the command sees it, and nothing else of yours, at its central path.
/// What it writes is sealed as it is written and comes home when it succeeds: into the directory it came from, next to what
/// stands there already, never over it.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The policy: a shipped profile's name, or a TOML file
    #[arg(long, value_name = "POLICY", default_value = "generic")]
    pub(crate) policy: String,
    /// A directory of yours and where the command sees it; `:ro` refuses every write
    #[arg(long, value_name = "HOST_DIR:PATH[:ro]")]
    pub(crate) central: Vec<Central>,
    /// Also write the job's audit records to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Option<PathBuf>,
    /// End the command after this time (90, 90s, 15m, 2h, 1d); at most the policy's limit
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// A file that the command must write for success to count; absolute, below a central path
    #[arg(long, value_name = "PATH")]
    pub(crate) expect: Vec<OsString>,
    /// The directory in which the command starts [default: the first central path, or /]
    #[arg(long, value_name = "PATH")]
    pub(crate) workdir: Option<OsString>,
    /// The receiving key of somebody who may read the job later, from a bundle of it: `safelight key show` prints theirs
    #[arg(long, value_name = "KEY")]
    pub(crate) reader: Vec<Reader>,
    /// Replace files at home that the command changed, instead of storing the new ones beside them
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Print what would be done, step by step, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Say at the end, as one line of JSON on standard error, what happened
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but what went wrong
    #[arg(long, short)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// One `--central`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Central {
    pub(crate) host: PathBuf,
    pub(crate) path: CentralPath,
    pub(crate) write: bool,
}

impl std::str::FromStr for Central {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, write) = match text.strip_suffix(":ro") {
            Some(rest) => (rest, false),
            None => (text, true),
        };
        // The central path is the last part, so that a host directory may hold a colon.
        let (host, path) = text
            .rsplit_once(':')
            .ok_or("expected HOST_DIR:PATH or HOST_DIR:PATH:ro")?;
        if host.is_empty() {
            return Err("the host directory is empty".to_owned());
        }
        Ok(Self {
            host: host.into(),
            path: path.parse().map_err(|error| format!("{error}"))?,
            write,
        })
    }
}

/// Seconds, or a number with `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.as_bytes()[text.len() - 1]),
        None => (text, b's'),
    };
    let seconds = match unit {
        b'm' => 60,
        b'h' => 3600,
        b'd' => 86_400,
        _ => 1,
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(seconds))
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a time such as 90, 90s, 15m, 2h or 1d".to_owned())
}

/// What the agent is started with: nothing of the client's.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[arg(long)]
    pub(crate) job: JobId,
    #[command(flatten)]
    pub(crate) state: StateArgs,
    #[arg(long)]
    pub(crate) json: bool,
    #[arg(long)]
    pub(crate) quiet: bool,
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// What the way home is started with.
#[derive(Debug, Args)]
pub(crate) struct HomeArgs {
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// The attempt whose results go home.
    #[arg(long)]
    pub(crate) attempt: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_central_reads_from_the_right() {
        let parse = |text: &str| text.parse::<Central>();
        let path = |text: &str| text.parse::<CentralPath>().unwrap();
        assert_eq!(
            parse("/a:/mnt/c"),
            Ok(Central {
                host: "/a".into(),
                path: path("/mnt/c"),
                write: true
            })
        );
        assert_eq!(
            parse("a:b:/mnt/c:ro"),
            Ok(Central {
                host: "a:b".into(),
                path: path("/mnt/c"),
                write: false
            })
        );
        assert_eq!(
            parse("/a"),
            Err("expected HOST_DIR:PATH or HOST_DIR:PATH:ro".to_owned())
        );
        assert_eq!(
            parse("/a:/usr"),
            Err("\"/usr\" cannot be a central path: it lies on a system directory".to_owned())
        );
        assert_eq!(
            parse("/a:mnt"),
            Err("\"mnt\" cannot be a central path: it is not absolute".to_owned())
        );
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for text in [
            "",
            "0",
            "-1",
            "1w",
            "h",
            "99999999999999999999",
            "18446744073709551615h",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
