//! What a person sees: data on standard output, talk on standard error, progress only where a terminal is there.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use indicatif::{ProgressBar, ProgressStyle};
use safelight_vfs::console::misleads;
use serde::Serialize;

use crate::failure::{Failure, Kind};

/// Logs for operators go to standard error; `SAFELIGHT_LOG` sets the filter.
pub(crate) fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SAFELIGHT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .without_time()
        .try_init();
}

/// Says what went wrong.
pub(crate) fn complain(failure: &Failure) {
    say(failure);
}

/// Says something to a person. Nobody listening is no failure.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a line of data. A reader that went away (`| head`) ends the program quietly.
pub(crate) fn print(line: impl Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").or_else(closed)
}

/// Prints a value as JSON on one line.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new(Kind::Internal, error))?;
    print(text)
}

fn closed(error: io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Err(Failure::new(
        Kind::Environment,
        format!("cannot write to standard output: {error}"),
    ))
}

/// A table with aligned columns. Cells that could hold a job's text must be made harmless by the caller.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let count = head.len();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([head[column].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    print(line(head.to_vec()))?;
    rows.iter()
        .try_for_each(|row| print(line(row.iter().map(String::as_str).collect())))
}

/// Bytes of a job's, made fit to be shown: what would move the cursor or turn the direction of reading is escaped, so that a name shows
/// as what it is.
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .flat_map(|c| {
            if misleads(c) {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// A count of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < units.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A count of files for people.
pub(crate) fn files(count: u64) -> String {
    match count {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    }
}

/// A spinner with a text, only on a terminal.
pub(crate) fn spinner(text: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(text);
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        assert_eq!(shown(b"a\x1b[2J\n"), "a\\u{1b}[2J\\n");
    }

    #[test]
    fn a_name_reads_in_its_own_order() {
        let turns = "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}";
        for turn in turns.chars() {
            let name = format!("a{turn}gpj.exe");
            let expected = format!("a\\u{{{:x}}}gpj.exe", u32::from(turn));
            assert_eq!(shown(name.as_bytes()), expected);
        }
        // Letters that are read from right to left are letters.
        let hebrew = "\u{5d0}\u{5d1}.png";
        assert_eq!(shown(hebrew.as_bytes()), hebrew);
    }
}
