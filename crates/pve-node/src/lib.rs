//! The host: what belongs to a node rather than to its guests.
//!
//! | module | holds |
//! |---|---|
//! | [`certificates`] | keys and certificates that must be there before the web side can serve: [`updatecerts`] |
//!
//! Not here yet: the node's status, network, time, services and disks.

pub mod certificates;

pub use certificates::{NodeError, Report, fingerprint, updatecerts};
