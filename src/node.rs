//! A render server: it asks its site for work, runs each task in a session of its own, and sends home what was sealed.

pub(crate) mod protocol;
