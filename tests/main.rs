//! End to end: every test here starts the real binary, as a user would, and looks at what comes out of it.
//!
//! Tests run side by side. Each has its own temporary directory and its own `--state`, and touches no process that it did not start.
#![allow(
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::unusual_byte_groupings,
    reason = "a skipped test says so on standard output; a search reads top to bottom; seeds are words"
)]

#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/person.rs"]
mod person;

#[path = "e2e/architecture.rs"]
mod architecture;
#[path = "e2e/attacks.rs"]
mod attacks;
#[path = "e2e/audit.rs"]
mod audit;
#[path = "e2e/bad_input.rs"]
mod bad_input;
#[path = "e2e/bench.rs"]
mod bench;
#[path = "e2e/buckets.rs"]
mod buckets;
#[path = "e2e/bundles.rs"]
mod bundles;
#[path = "e2e/carriage.rs"]
mod carriage;
#[path = "e2e/carrier.rs"]
mod carrier;
#[path = "e2e/client.rs"]
mod client;
#[path = "e2e/commands.rs"]
mod commands;
#[path = "e2e/complete.rs"]
mod complete;
#[path = "e2e/darkness.rs"]
mod darkness;
#[path = "e2e/farm_darkness.rs"]
mod farm_darkness;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/film.rs"]
mod film;
#[path = "e2e/frames.rs"]
mod frames;
#[path = "e2e/golden/mod.rs"]
mod golden;
#[path = "e2e/grants.rs"]
mod grants;
#[path = "e2e/healing.rs"]
mod healing;
#[path = "e2e/hotfolders.rs"]
mod hotfolders;
#[path = "e2e/isolation.rs"]
mod isolation;
#[path = "e2e/kept.rs"]
mod kept;
#[path = "e2e/keys.rs"]
mod keys;
#[path = "e2e/kills.rs"]
mod kills;
#[path = "e2e/lacking.rs"]
mod lacking;
#[path = "e2e/midway.rs"]
mod midway;
#[path = "e2e/node.rs"]
mod node;
#[path = "e2e/policies.rs"]
mod policies;
#[path = "e2e/posix.rs"]
mod posix;
#[path = "e2e/programs.rs"]
mod programs;
#[path = "e2e/readme.rs"]
mod readme;
#[path = "e2e/recorded.rs"]
mod recorded;
#[path = "e2e/refused.rs"]
mod refused;
#[path = "e2e/resubmit.rs"]
mod resubmit;
#[path = "e2e/road.rs"]
mod road;
#[path = "e2e/rootless.rs"]
mod rootless;
#[path = "e2e/sessions.rs"]
mod sessions;
#[path = "e2e/sites.rs"]
mod sites;
#[path = "e2e/submit.rs"]
mod submit;
#[path = "e2e/terminal.rs"]
mod terminal;
#[path = "e2e/travels.rs"]
mod travels;
#[path = "e2e/wrangling.rs"]
mod wrangling;
