//! A job, split into what the render site may know and what it may not.
//!
//! A bundle of texts ([`Source`]) is read into a [`JobPlan`], which splits into the clear outline of the policies crate and the secret
//! [`JobRecipe`]; where the recipe is opened, it makes the [`TaskCommand`] of one task. A single command has a [`Recipe`] of its own.
//! This crate is pure: no I/O, no keys. `docs/job.md` says what of OpenJD it understands.
#![forbid(unsafe_code)]

pub mod expand;
pub mod job_recipe;
pub mod recipe;
pub mod settings;
pub mod source;
pub mod space;

mod asset;
mod error;
mod needs;
mod outer;
mod place;
mod plan;
mod step;
mod support;

pub use asset::Asset;
pub use error::Error;
pub use expand::{Action, EmbeddedFile, Environment, TaskCommand};
pub use job_recipe::JobRecipe;
pub use outer::ENVIRONMENTS_MAX;
pub use plan::{JobPlan, Step, Submission};
pub use recipe::Recipe;
pub use settings::Settings;
pub use source::Source;
