//! The host: what belongs to a node rather than to its guests.
//!
//! | module | holds |
//! |---|---|
//! | [`certificates`] | keys and certificates that must be there before the web side can serve: [`updatecerts`] |
//! | [`console`] | what every console of the node needs: ports, one client, a relay |
//! | [`terminal`] | terminals: as text for xterm.js, and as VNC and SPICE displays; a shell of the node behind them |
//! | [`journal`] | the log of the host, a window of it |
//! | [`status`] | what the host is doing: CPU, memory, file system, network, kernel |
//! | [`subscription`] | whether there is a subscription |
//!
//! Not here yet: network configuration, time, services and disks.

pub mod certificates;
pub mod console;
pub mod journal;
pub mod status;
pub mod subscription;
pub mod terminal;

pub use certificates::{NodeError, Report, fingerprint, full_name, subject, updatecerts, web_certificate};
