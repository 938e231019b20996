//! One page of HTML that stands alone. Everything that goes into it is escaped here, and only here.

/// Nothing is loaded and nothing runs, whatever a name may have slipped in.
const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
"#;

const STYLE: &str = "
:root { color-scheme: light; --ink: #1b1b1f; --soft: #6a6a75; --line: #e2e2e8; --good: #14632b; --bad: #a01818; --safe: #a3341f; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; border-top: .4rem solid var(--safe); padding-top: 1rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.verdict { border-left: .35rem solid; padding: .6rem 1rem; margin: 1.5rem 0; background: #f7f7f9; }
.good { border-color: var(--good); } .good strong { color: var(--good); }
.bad { border-color: var(--bad); } .bad strong { color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(4, 1fr); gap: .8rem; }
.figures div { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .8rem; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; } .figures span { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th { text-align: left; color: var(--soft); font-weight: 600; white-space: nowrap; }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; min-width: 2.5rem; }
td:last-child { font-family: ui-monospace, monospace; min-width: 14rem; }
pre { background: #f7f7f9; border: 1px solid var(--line); padding: .8rem; overflow-x: auto; font-size: .8rem; }
p.none, footer { color: var(--soft); } footer { margin: 3rem 0 1rem; font-size: .85rem; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
";

/// A page on its way.
pub(super) struct Page(String);

/// Text as HTML has it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
    out
}

impl Page {
    /// Begins a page with this title.
    pub(super) fn begin(title: &str) -> Self {
        let title = escaped(title);
        Self(format!(
            "{HEAD}<title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        ))
    }

    /// Ends it.
    pub(super) fn end(mut self) -> String {
        self.0.push_str("<footer>Written by Safelight from the audit logs of this job. Reads are counted as opened and as bytes that the view served; ");
        self.0.push_str("the page cache serves repeats. System directories are covered by the digest of the policy.</footer>\n</body></html>\n");
        self.0
    }

    /// A heading.
    pub(super) fn heading(&mut self, text: &str) {
        self.0.push_str(&format!("<h2>{}</h2>\n", escaped(text)));
    }

    /// A paragraph.
    pub(super) fn text(&mut self, text: &str) {
        self.0.push_str(&format!("<p>{}</p>\n", escaped(text)));
    }

    /// Text as it stands.
    pub(super) fn plain(&mut self, text: &str) {
        self.0.push_str(&format!("<pre>{}</pre>\n", escaped(text)));
    }

    /// Names and values.
    pub(super) fn facts(&mut self, facts: &[(&str, String)]) {
        let facts = facts
            .iter()
            .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value)));
        self.0
            .push_str(&format!("<dl>{}</dl>\n", facts.collect::<String>()));
    }

    /// Figures side by side.
    pub(super) fn figures(&mut self, figures: &[(&str, String)]) {
        let figures = figures.iter().map(|(name, value)| {
            format!(
                "<div><b>{}</b><span>{}</span></div>",
                escaped(value),
                escaped(name)
            )
        });
        self.0.push_str(&format!(
            "<div class=\"figures\">{}</div>\n",
            figures.collect::<String>()
        ));
    }

    /// Whether the logs are as they were written.
    pub(super) fn verdict(&mut self, findings: &[String], records: u64, registered: bool) {
        let registered = match registered {
            true => "and are those that the register has and the client saw",
            false => "and no register tells of them yet",
        };
        let body = match findings {
            [] => format!(
                "<strong>The logs are whole.</strong> {records} records follow from one another, {registered}. No event was lost."
            ),
            _ => {
                let all = findings
                    .iter()
                    .map(|finding| format!("<li>{}</li>", escaped(finding)));
                format!(
                    "<strong>The logs were changed.</strong><ul>{}</ul>",
                    all.collect::<String>()
                )
            }
        };
        let class = if findings.is_empty() { "good" } else { "bad" };
        self.0
            .push_str(&format!("<div class=\"verdict {class}\">{body}</div>\n"));
    }

    /// A table under a heading; so many rows at most, and how many are not shown.
    pub(super) fn table(
        &mut self,
        heading: &str,
        head: &[&str],
        rows: Vec<Vec<String>>,
        max: usize,
    ) {
        self.heading(&format!("{heading} ({})", rows.len()));
        if rows.is_empty() {
            self.0.push_str("<p class=\"none\">None.</p>\n");
            return;
        }
        let head = head.iter().map(|name| {
            let name = name.to_lowercase();
            let mut letters = name.chars();
            let first = letters
                .next()
                .map_or(String::new(), |letter| letter.to_uppercase().collect());
            format!(
                "<th>{}</th>",
                escaped(&format!("{first}{}", letters.as_str()))
            )
        });
        self.0.push_str(&format!(
            "<div class=\"wide\"><table><thead><tr>{}</tr></thead><tbody>\n",
            head.collect::<String>()
        ));
        for row in rows.iter().take(max) {
            let cells = row.iter().map(|cell| format!("<td>{}</td>", escaped(cell)));
            self.0
                .push_str(&format!("<tr>{}</tr>\n", cells.collect::<String>()));
        }
        self.0.push_str("</tbody></table></div>\n");
        if rows.len() > max {
            self.text(&format!("{} more rows are not shown.", rows.len() - max));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_chose_is_text() {
        let evil = "</td><script>alert(1)</script>\"'&<img src=x onerror=y>".to_owned();
        let mut page = Page::begin(&evil);
        page.facts(&[("name", evil.clone())]);
        page.figures(&[("name", evil.clone())]);
        page.verdict(std::slice::from_ref(&evil), 1, true);
        page.table(&evil, &["path"], vec![vec![evil.clone()]; 3], 2);
        page.plain(&evil);
        page.text(&evil);
        let text = page.end();
        for tag in ["<script", "<img", "onerror=y>"] {
            assert!(!text.contains(tag), "{tag}");
        }
        assert_eq!(text.matches("<td>").count(), 2);
        assert!(text.contains("1 more rows are not shown."));
        // Nothing is fetched from anywhere.
        for from in ["http://", "https://", "src=\"", "url("] {
            assert!(!text.contains(from), "{from}");
        }
    }
}
