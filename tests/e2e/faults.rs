//! Processes die and disks lie; nothing is left and nothing wrong is shown.
