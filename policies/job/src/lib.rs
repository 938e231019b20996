//! A job, split into what the render site may know and what it may not.
//!
//! The clear half is the outline, in the policies crate; the secret half is the [`Recipe`]. This crate is pure: no I/O, no keys.
#![forbid(unsafe_code)]

pub mod recipe;

pub use recipe::Recipe;
