//! What a view owes to programs, tried by suites that others wrote, by a model, by many at once, and where there is no room.
//!
//! Needs root and `/dev/fuse`; the suites are crates of their own that `make setup` installs. What is absent is skipped by name, and fails
//! if `SAFELIGHT_REQUIRE` lists it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's helpers fail by panicking, and a skipped test says so"
)]

#[path = "../mounting/mod.rs"]
mod mounting;

mod chance;
mod full;
mod model;
mod stress;
mod suites;
mod table;
