//! Backups of guests (reference 05 §6 to §16).
//!
//! | module | holds |
//! |---|---|
//! | [`selection`] | which guests a set of options selects |
//! | [`vzdump`] | the run of a backup, and everything that decides about it |
//! | [`vma`] | the archive format of VM backups: reading, writing, checking, extracting |
//!
//! Retention and the names of archives are `pve-storage`'s.

pub mod selection;
pub mod vma;
pub mod vzdump;

/// Adds this crate's kinds of tasks.
pub fn register_tasks(kinds: &mut pve_task::Kinds) {
    kinds.register::<vzdump::task::Vzdump>();
}
