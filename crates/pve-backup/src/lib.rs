//! Backups of guests (reference 05 §6 to §16).
//!
//! | module | holds |
//! |---|---|
//! | [`compress`] | the programs that make archives smaller, and large again |
//! | [`copy`] | the content of a VM's disks at one instant, into an archive |
//! | [`nbd`] | the network block device protocol, through which QEMU hands over disks |
//! | [`restore`] | a VM from a backup |
//! | [`selection`] | which guests a set of options selects |
//! | [`text`] | how logs write sizes, rates and times |
//! | [`vma`] | the archive format of VM backups: reading, writing, checking, extracting |
//! | [`vzdump`] | the run of a backup, and everything that decides about it |
//!
//! Retention and the names of archives are `pve-storage`'s.

pub mod compress;
pub mod copy;
pub mod nbd;
pub mod restore;
pub mod selection;
pub mod text;
pub mod vma;
pub mod vzdump;

/// Adds this crate's kinds of tasks.
pub fn register_tasks(kinds: &mut pve_task::Kinds) {
    kinds.register::<vzdump::task::Vzdump>().register::<restore::Restore>();
}
