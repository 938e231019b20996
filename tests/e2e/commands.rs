//! What the commands say after a real job.
