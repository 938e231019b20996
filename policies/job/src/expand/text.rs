//! The texts of a recipe: names in braces and numbers of frames become what they stand for.
//!
//! Only names reach the library's parser, never an expression, and all that comes out is paid from one budget.

use openjd_expr::{FormatString, FormatStringOptions, PathFormat, SymbolTable};

use super::Error;
use crate::job_recipe::TASK_MAX;

/// The widest number of a frame.
const WIDTH_MAX: usize = 16;

/// What is left of a task's bytes.
pub(super) struct Budget(pub(super) usize);

impl Budget {
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Error> {
        // A word costs more than its bytes, and a thousand empty ones are not nothing.
        self.0 = self.0.checked_sub(bytes + 8).ok_or(Error::LongTask)?;
        Ok(())
    }
}

/// Replaces names in braces by their values.
pub(super) fn resolve(
    text: &str,
    symbols: &SymbolTable,
    budget: &mut Budget,
) -> Result<String, Error> {
    // What is longer than a task can be needs no parsing, and bounds the references in it.
    if text.len() > TASK_MAX {
        return Err(Error::LongTask);
    }
    if !has_names_only(text) {
        return Err(Error::Reference);
    }
    let options = FormatStringOptions::new().with_path_format(PathFormat::Posix);
    let resolved = FormatString::new(text)
        .and_then(|text| text.resolve_string_with(symbols, &options))
        .map_err(|_| Error::Reference)?;
    budget.spend(resolved.len())?;
    Ok(resolved)
}

/// True if every pair of braces holds a dotted name.
fn has_names_only(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, inner)) = rest.split_once("{{") {
        let Some((name, after)) = inner.split_once("}}") else {
            return false;
        };
        let name = name.trim();
        let word =
            |it: &str| it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !it.is_empty();
        if name.len() > 1024 || !name.split('.').all(word) {
            return false;
        }
        rest = after;
    }
    true
}

/// Replaces each run of `#` by the frame's number, with zeros before it to the run's width.
pub(super) fn numbered(pattern: &str, frame: Option<i64>) -> Result<String, Error> {
    let mut text = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('#') {
        let run = rest[at..].bytes().take_while(|it| *it == b'#').count();
        let frame = frame.ok_or(Error::NoFrame)?;
        let width = run.min(WIDTH_MAX);
        text.push_str(&rest[..at]);
        text.push_str(&format!("{frame:0width$}"));
        rest = &rest[at + run..];
    }
    text.push_str(rest);
    Ok(text)
}
