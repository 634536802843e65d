//! One guest type: QEMU.
//!
//! | module | holds |
//! |---|---|
//! | [`accel`] | KVM or TCG |
//! | [`cpu_flags`] | which CPU flags VMs can have here |
//! | [`command`] | QEMU's command line |
//! | [`config`] | the keys of a VM's config and their types |
//! | [`update`], [`reconfigure`], `hotplug` | changing a config: the rules, with the node around them, by the monitor |
//! | [`journal`] | where the words about an operation go |
//! | [`files`] | the config files: lock, read, write |
//! | [`runtime`] | names of the runtime files of a VM |
//! | [`process`], `small` | whether a VM runs; reading the kernel's small files |
//! | `network` | taps and bridges |
//! | [`qmp`] | the monitor and the guest agent |
//! | [`console`] | VNC for one client |
//! | [`start`] | bringing a VM up |
//! | `scope` | the control group that systemd makes for it |
//! | [`power`] | stop, reset, reboot, pause, resume |
//! | [`cleanup`] | what is done once a VM has gone |
//! | [`create`], [`destroy`], [`resize`] | making and removing a VM, growing a disk |
//! | [`restored`] | the config of a VM that comes back from a backup |
//! | `volumes` | the volumes that a VM uses and owns |
//! | [`hold`] | a VM that a backup holds, and what is due when the backup dies |
//! | `hook`, [`error`] | the user's script, failures |
//! | `tags` | which tags may be given |
//! | [`tasks`] | all of that as tasks |
//! | [`status`] | what lists and status pages show |
//! | [`balloon`] | setting the balloons of many VMs |
//! | [`events`] | what follows when a VM ends by itself |

pub mod accel;
pub mod balloon;
pub mod cleanup;
pub mod command;
pub mod config;
pub mod console;
pub mod cpu_flags;
pub mod create;
pub mod destroy;
pub mod error;
pub mod events;
pub mod files;
pub mod hold;
mod hook;
mod hotplug;
pub mod journal;
mod network;
pub mod power;
pub mod process;
pub mod qmp;
pub mod reconfigure;
pub mod resize;
pub mod restored;
pub mod runtime;
mod scope;
mod small;
pub mod start;
pub mod status;
mod tags;
pub mod tasks;
pub mod update;
mod volumes;

/// A site below a directory, for tests.
#[cfg(test)]
pub(crate) fn test_site(root: &std::path::Path) -> pve_schema::Site {
    pve_testing::site(root, "n1")
}
