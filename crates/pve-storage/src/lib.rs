//! pve-storage

pub mod kind;
pub mod volume;
