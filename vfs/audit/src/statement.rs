//! What a client's register says of one log at one time: so many records, with this root. Pure.
//!
//! It is text, so that anybody can read it:
//! ```text
//! safelight-log/v1\n<job>\n<log id, hexadecimal>\n<records>\n<base64 of the root>\n<base64 of the last link>\n
//! ```

use data_encoding::{BASE64, HEXLOWER};
use safelight_policies::id::JobId;

use crate::{format::Chain, tree::Hash};

const FIRST: &str = "safelight-log/v1";

/// The longest entry that is read.
pub const STATEMENT_MAX: usize = 512;

/// The state of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The job.
    pub job: JobId,
    /// Which of its logs.
    pub log: [u8; 16],
    /// So many records.
    pub records: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// The link of the last of them.
    pub chain: Chain,
}

impl Statement {
    /// The entry.
    pub fn text(&self) -> String {
        format!(
            "{FIRST}\n{}\n{}\n{}\n{}\n{}\n",
            self.job,
            HEXLOWER.encode(&self.log),
            self.records,
            BASE64.encode(&self.root),
            BASE64.encode(&self.chain)
        )
    }

    /// Reads an entry; only what [`Statement::text`] writes is one.
    pub fn read(entry: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(entry)
            .ok()
            .filter(|text| text.len() <= STATEMENT_MAX)?;
        let mut lines = text.split('\n');
        lines.next().filter(|first| *first == FIRST)?;
        let job = lines.next()?.parse().ok()?;
        let log = HEXLOWER
            .decode(lines.next()?.as_bytes())
            .ok()?
            .try_into()
            .ok()?;
        let records = lines.next()?.parse().ok()?;
        let hash = |line: &str| BASE64.decode(line.as_bytes()).ok()?.try_into().ok();
        let (root, chain) = (hash(lines.next()?)?, hash(lines.next()?)?);
        let read = Self {
            job,
            log,
            records,
            root,
            chain,
        };
        (read.text().as_bytes() == entry).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_reads_as_it_is_written_and_nothing_else_does() {
        let statement = Statement {
            job: JobId::from_random([1; 10]),
            log: [2; 16],
            records: 77,
            root: [3; 32],
            chain: [4; 32],
        };
        let text = statement.text();
        assert_eq!(Statement::read(text.as_bytes()), Some(statement));
        for changed in [
            text.replace("77", "077"),
            text.replace("77", "-1"),
            text.replace("/v1", "/v2"),
            format!("{text}\n"),
            text[..text.len() - 1].to_owned(),
            "x".repeat(STATEMENT_MAX + 1),
        ] {
            assert_eq!(Statement::read(changed.as_bytes()), None, "{changed:?}");
        }
    }
}
