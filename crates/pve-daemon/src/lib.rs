//! The host crate: what every daemon of the suite does with the machine it runs on, whatever it serves.
//!
//! No async runtime lives here: the master of a daemon is a small synchronous process with one thread, which forks
//! workers that build runtimes of their own. No HTTP, no TLS, no `/etc/pve`.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line of a daemon: `start`, `stop`, `restart`, `status`, `help`, and the [`pve_schema::Site`] |
//! | [`service`] | what a daemon says about itself, and what it gets in return |
//! | `master` | pid file, workers, signals, reload |
//! | [`lab`] | what a lab's directory says about itself |
//! | [`defaults`], [`settings`] | `/etc/default/…` as variables, and what they mean |
//! | [`check`] | what is wrong with the settings, all at once |
//! | [`counters`] | what a daemon counts, for metrics |
//! | [`command`] | external commands as values, run with a deadline |
//! | [`acl`] | which addresses may connect |
//! | `privileges` | giving up root |
//! | [`process`] | titles, sessions, start times |
//! | [`loopback`] | the address for what only this machine may reach |
//! | [`volatile`] | small files that count until the node restarts |
//! | [`logging`], `notify` | syslog or people; systemd |

pub mod acl;
pub mod check;
pub mod cli;
pub mod command;
pub mod counters;
pub mod defaults;
pub mod lab;
pub mod logging;
pub mod loopback;
mod master;
mod notify;
mod privileges;
pub mod process;
pub mod service;
pub mod settings;
pub mod volatile;

pub use master::running;

pub use service::{BoxError, Listener, Needs, Program, RunAs, Service, Socket, Start, WorkerContext};
