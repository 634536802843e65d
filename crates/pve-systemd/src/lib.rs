//! systemd's manager, by D-Bus (docs/decisions/0026-systemd-by-d-bus.md).
//!
//! | module | holds |
//! |---|---|
//! | [`manager`] | one connection to it, and the plain questions and orders |
//! | [`job`] | orders that are jobs, and waiting for their ends |
//! | [`unit`] | what is known of a unit |
//! | [`transient`] | services and scopes that exist only as long as they run |
//! | [`error`] | what can go wrong, and what `systemctl` would end with |
//!
//! Everything here is synchronous and has a deadline. A [`Manager`] is made where it is needed and dropped then: an idle
//! daemon holds no connection and no memory for one. It must not be used on a thread that drives asynchronous code.
//!
//! Not here: what the units mean, and telling systemd how a daemon is (`pve-daemon`, `notify`).

pub mod error;
pub mod job;
pub mod manager;
pub mod transient;
pub mod unit;

pub use error::SystemdError;
pub use job::Verb;
pub use manager::{Manager, is_here};
pub use transient::{Property, Scope, Service};
pub use unit::Unit;
