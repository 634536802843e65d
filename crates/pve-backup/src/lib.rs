//! Backups of guests (reference 05 §6 to §16).
//!
//! | module | holds |
//! |---|---|
//! | [`vma`] | the archive format of VM backups: reading, writing, checking, extracting |
//!
//! Not here yet: the run of a backup and of a restore. Retention and the names of archives are `pve-storage`'s.

pub mod vma;
