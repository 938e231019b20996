//! Escapes: what a hostile job tries, act by act, and which wall refuses it with which error number.
//!
//! `docs/threats.md` has the table; `attempts.py` has the acts. Each act is done in the open, where it must succeed, in a session, where it must
//! not, and behind each wall alone. A row without an act, an act without a row, or another answer than the row's fails.
#![allow(
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "a skipped test says so on standard output; a search reads top to bottom"
)]

#[path = "../e2e/harness.rs"]
mod harness;
#[path = "../e2e/person.rs"]
mod person;

mod explain;
mod ground;
mod kernel;
mod life;
mod network;
mod refusals;
mod results;
mod table;
mod walls;
