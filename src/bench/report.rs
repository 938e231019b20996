//! A whole bench: where it was measured, against which versions, and its rows; for people and for scripts.

use serde::Serialize;

use super::{HostFacts, OURS, Row};
use crate::{
    failure::Failure,
    terminal::{print, print_json, say, table},
};

/// A bench that was run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Its name on the command line.
    pub(crate) bench: &'static str,
    /// Where.
    pub(crate) host: HostFacts,
    /// Contenders, and what they say of their version, or that they are not installed.
    pub(crate) versions: std::collections::BTreeMap<&'static str, String>,
    /// What was measured.
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// Prints it. A missed goal is a result and no failure.
    pub(crate) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            return print_json(self);
        }
        say(&self.host);
        for (who, version) in &self.versions {
            say(format!("{who}: {version}"));
        }
        let mut columns = vec![OURS];
        for who in self.rows.iter().flat_map(Row::contenders) {
            if !columns.contains(&who) {
                columns.push(who);
            }
        }
        let names: Vec<String> = columns.iter().map(|who| who.to_uppercase()).collect();
        let mut head = vec!["ROW", "UNIT"];
        head.extend(names.iter().map(String::as_str));
        head.push("GOALS");
        let lines: Vec<Vec<String>> = self.rows.iter().map(|row| line(row, &columns)).collect();
        table(&head, &lines)?;
        for row in &self.rows {
            for who in row.contenders() {
                if let Some(why) = row.why_absent(who) {
                    print(format!("{}: {who}: {why}", row.name()))?;
                }
            }
        }
        Ok(())
    }
}

fn line(row: &Row, columns: &[&str]) -> Vec<String> {
    let mut cells = vec![row.name().to_owned(), row.unit().to_owned()];
    cells.extend(columns.iter().map(|who| match row.median(who) {
        Some(median) => figure(median),
        None => "-".to_owned(),
    }));
    let goals = row.judged().into_iter().map(|judged| {
        let outcome = match judged.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        match judged.measured {
            Some(measured) => {
                let measured = match judged.between {
                    Some((low, high)) => {
                        format!("{measured:.4} ({low:.4} to {high:.4} with 95 %)")
                    }
                    None => figure(measured),
                };
                format!("{}: {measured} {outcome}", judged.goal)
            }
            None => format!("{}: {outcome}", judged.goal),
        }
    });
    cells.push(goals.collect::<Vec<_>>().join("; "));
    cells
}

/// Three figures that mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Better, Goal};

    #[test]
    fn a_line_names_what_was_missed_and_what_is_missing() {
        let mut row = Row::new("write", "MB/s", Better::More)
            .goal(Goal::Times(2.0, &["gocryptfs"]))
            .goal(Goal::Times(0.9, &["disk"]));
        row.sample(OURS, 500.0);
        row.sample("disk", 1000.0);
        row.absent("gocryptfs", "not installed");
        let cells = line(&row, &[OURS, "disk", "gocryptfs"]);
        let goals =
            ">= 2 times gocryptfs: not measured; >= 0.9 times disk: 0.500 MISSED".to_owned();
        assert_eq!(cells[..5], ["write", "MB/s", "500", "1000", "-"]);
        assert_eq!(cells[5], goals);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [1234.5, 12.34, 1.234, 0.1234].map(figure),
            ["1234", "12.3", "1.23", "0.123"]
        );
    }
}
