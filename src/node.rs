//! A render server: it asks its site for work, runs each task in a session of its own, and sends home what was sealed.
//!
//! It holds no key of a job's and reads nothing of a client's. Its site is asked, not believed: see [`protocol`].

mod beat;
mod card;
mod carry;
mod http;
mod lease;
mod leftovers;
pub(crate) mod protocol;
mod seats;
mod serve;
mod session;
mod spec;
mod standing;
mod stop;

pub(crate) use self::{
    card::{SLOTS_MAX, join},
    serve::serve,
};
