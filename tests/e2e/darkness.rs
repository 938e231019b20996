//! Nothing of the client's is readable outside the view server and the session.
