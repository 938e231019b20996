//! `safelight bench`: the project's own benchmarks, side by side with what people use instead.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    bench::{audit, bundle, dispatch, launch, vfs},
    failure::{Failure, Kind},
};

/// Measure Safelight against others on this machine
///
/// Contenders take turns in one run; what counts is the ratio of medians. A contender that is not installed is named as absent. A
/// missed goal is a result, not an error.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// The view of a session against the plain disk, gocryptfs and securefs
    ///
    /// Works in a new directory below DIR, which is gone afterwards. Cold reads empty the page cache of the whole machine, which only
    /// root can do.
    Vfs(VfsArgs),
    /// The audit log: events through the writer, verification, questions, proofs, and what it costs a job
    Audit(AuditArgs),
    /// A session with its view against bwrap, and what it costs a program that runs
    ///
    /// Every sample of ours is a whole `safelight run`; the row `launch` is the part of it from the agent's decision to launch until
    /// nothing of the session is left.
    Launch(LaunchArgs),
    /// The queue: leases booked durably, and how their cost grows with slots and jobs
    ///
    /// The ledger is a real one in a new directory below DIR, every lease on the disk before it is answered; only the slots are made up.
    Dispatch(DispatchArgs),
    /// A job's files sealed and shipped to the other site, against restic, rclone's crypt and rsync
    ///
    /// Two sites are served below DIR, which is gone afterwards. What is measured: the first time; again, unchanged; with a hundredth
    /// changed; and what is left after a kill at half of the way. Everybody's time ends when what was written is on the disk.
    Bundle(BundleArgs),
}

/// Arguments of `bench bundle`.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// Where to work: everything is read from and written to the disk below it
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Bytes of the four large files together (K, M and G are powers of 1024)
    #[arg(long, value_name = "SIZE", default_value = "1000M", value_parser = size)]
    size: u64,
    /// Files of 10,000 bytes besides
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    files: usize,
    /// Rounds; in each, every contender has its turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `bench dispatch`.
#[derive(Debug, Args)]
pub(crate) struct DispatchArgs {
    /// Where to work: the disk below it is what every lease waits for
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only these rows
    #[arg(long, value_name = "ROW", value_parser = clap::builder::PossibleValuesParser::new(dispatch::names()))]
    only: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `bench launch`.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// Rounds of launches; in each, every contender has its turn
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Rounds of what takes long: a busy program, real frames
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    long_rounds: u16,
    /// Only these rows
    #[arg(long, value_name = "ROW", value_parser = clap::builder::PossibleValuesParser::new(launch::NAMES))]
    only: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `bench audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Where to work
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Events of the log (K and M are powers of 1000)
    #[arg(long, value_name = "N", default_value = "1M", value_parser = count)]
    events: u64,
    /// Rounds; in each, every contender has its turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `bench vfs`.
#[derive(Debug, Args)]
pub(crate) struct VfsArgs {
    /// Where to work: the block device below it is what is measured
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Bytes of the large file (K, M and G are powers of 1024)
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size)]
    size: u64,
    /// Files of the tree of small files
    #[arg(long, value_name = "N", default_value_t = 5000)]
    files: usize,
    /// Rounds; in each, every contender has its turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only these rows
    #[arg(long, value_name = "ROW", value_parser = clap::builder::PossibleValuesParser::new(vfs::names()))]
    only: Vec<String>,
    /// Bytes that stream through while the view server's memory is watched
    #[arg(long, value_name = "SIZE", default_value = "20G", value_parser = size)]
    stream: u64,
    /// Files of the manifest that is listed while the view server's memory is watched
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    entries: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures, then prints.
pub(crate) fn run(command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Launch(arguments) => {
            let asked = launch::Asked {
                rounds: arguments.rounds.into(),
                long_rounds: arguments.long_rounds.into(),
                only: arguments.only,
            };
            launch::run(&asked)?.print(arguments.json)
        }
        BenchCommand::Audit(arguments) => {
            let asked = audit::Asked {
                directory: arguments.dir,
                events: arguments.events,
                rounds: arguments.rounds.into(),
            };
            audit::run(&asked)?.print(arguments.json)
        }
        BenchCommand::Bundle(arguments) => {
            let asked = bundle::Asked {
                directory: arguments.dir,
                size: arguments.size,
                files: arguments.files,
                rounds: arguments.rounds.into(),
            };
            bundle::run(&asked)?.print(arguments.json)
        }
        BenchCommand::Dispatch(arguments) => {
            let asked = dispatch::Asked {
                directory: arguments.dir,
                rounds: arguments.rounds.into(),
                only: arguments.only,
            };
            dispatch::run(&asked)?.print(arguments.json)
        }
        BenchCommand::Vfs(arguments) => {
            if arguments.size < 1 << 20 {
                return Err(Failure::new(Kind::User, "--size is at least 1M"));
            }
            let json = arguments.json;
            let asked = vfs::Asked {
                directory: arguments.dir,
                size: arguments.size,
                files: arguments.files,
                rounds: arguments.rounds.into(),
                only: arguments.only,
                stream: arguments.stream,
                entries: arguments.entries,
            };
            vfs::run(&asked)?.print(json)
        }
    }
}

/// A count of bytes, with or without `K`, `M` or `G`.
/// A count such as 10M.
fn count(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.chars().last() {
        Some('K') => (&text[..text.len() - 1], 1_000),
        Some('M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number = number.parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .filter(|count| (2..=1_000_000_000).contains(count))
        .ok_or_else(|| "expected a count from 2 to 1000M, such as 1M or 50000".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.chars().last() {
        Some('K') => (&text[..text.len() - 1], 10),
        Some('M') => (&text[..text.len() - 1], 20),
        Some('G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number = number.parse::<u64>().ok().filter(|number| *number > 0);
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "expected a size such as 1G, 64M or 1048576".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_units() {
        assert_eq!(count("10M"), Ok(10_000_000));
        assert_eq!(count("5K"), Ok(5_000));
        assert_eq!(count("2"), Ok(2));
        for text in ["", "1", "-1M", "M", "1G", "9999999M"] {
            assert!(count(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("1G"), Ok(1 << 30));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("5"), Ok(5));
        for text in ["", "G", "0", "-1M", "1T", "99999999999G"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }
}
