//! pve-storage

pub mod archive;
pub mod config;
pub mod kind;
pub mod path;
pub mod prune;
pub mod volume;
