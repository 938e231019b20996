//! Queues, nodes and leases of two sites, through the public calls of the ledger.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mail;
mod nodes;
mod queues;
mod retries;
mod sessions;
mod simulation;
mod site;
mod upgrade;
mod watch;
mod wrangle;
