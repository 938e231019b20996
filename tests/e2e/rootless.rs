//! The tier for one person: everything without root.
