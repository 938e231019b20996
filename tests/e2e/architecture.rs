//! The arrows between our crates, and what is said about the source.
