//! A session reaches its own view and nothing else.
