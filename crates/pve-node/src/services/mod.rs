//! The services of the node that an administrator sees and handles (reference 09 §6): their states, and starting,
//! stopping, restarting and reloading them.
//!
//! | module | holds |
//! |---|---|
//! | [`state`] | what is told of a service |
//! | [`command`] | what can be done to one, as tasks |
//!
//! Which services these are is said by the API contract. systemd is asked by D-Bus (`pve-systemd`), as `systemctl` does.

pub mod command;
pub mod state;

pub use command::{Command, register_tasks};
pub use state::{State, states, states_of_this_second};

/// The unit of a service: what is no unit's name yet is a service's.
fn unit_name(service: &str) -> String {
    format!("{service}.service")
}
