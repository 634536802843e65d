//! The host: what belongs to a node rather than to its guests.
//!
//! | module | holds |
//! |---|---|
//! | [`certificates`] | keys and certificates that must be there before the web side can serve: [`updatecerts`] |
//! | [`config`] | the node's own options |
//! | [`console`] | what every console of the node needs: ports, one client, a relay |
//! | [`terminal`] | terminals: as text for xterm.js, and as VNC and SPICE displays; a shell of the node behind them |
//! | [`directories`] | the directories outside of `/etc/pve` that the daemons need |
//! | [`journal`] | the log of the host, a window of it |
//! | [`services`] | its services: their states, and starting and stopping them |
//! | [`status`] | what the host is doing: CPU, memory, file system, network, kernel |
//! | [`subscription`] | whether there is a subscription |
//! | [`power`], [`wake_on_lan`] | turning the machine off, and waking another one |
//!
//! Not here yet: network configuration, time and disks.

pub mod certificates;
pub mod config;
pub mod console;
pub mod directories;
pub mod journal;
pub mod power;
pub mod services;
pub mod status;
pub mod subscription;
pub mod terminal;
pub mod wake_on_lan;

pub use certificates::{
    NodeError, Report, fingerprint, full_name, renew_certificate, subject, updatecerts, web_certificate,
};
