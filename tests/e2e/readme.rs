//! What the README shows is what happens.
