//! What a user does wrong is an error that names the thing and the next step.
