//! pve-daemon

pub mod command;
