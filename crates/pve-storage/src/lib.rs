//! Storages and volumes (reference 08).
//!
//! | module | holds |
//! |---|---|
//! | [`storages`] | all configured storages and what can be done with their volumes: start here |
//! | [`config`] | `storage.cfg`: sections, options, retention |
//! | [`kind`] | storage types, content types, image formats |
//! | [`volume`], [`path`] | volume names and where volumes are, without touching a disk |
//! | [`archive`], [`prune`] | backups: their file names, and which of them a retention keeps |
//! | [`backups`] | pruning a storage |
//! | [`import`] | taking a user's file into a storage |
//! | [`tasks`] | long work, as tasks of their own |
//! | [`access`] | who may use a volume |
//! | [`bandwidth`] | how fast it may be copied |
//! | [`upload`] | names of files that users bring |
//! | [`dir`] | operations of type `dir` |
//! | [`qemu_img`], [`size`] | `qemu-img` command lines, and what its answers mean |
//! | [`error`] | what can go wrong |
//!
//! Not here: which guest uses which volume, backups themselves, replication.

pub mod access;
pub mod archive;
pub mod backups;
pub mod bandwidth;
pub mod config;
pub mod dir;
pub mod error;
pub mod import;
pub mod kind;
pub mod path;
pub mod prune;
pub mod qemu_img;
pub mod size;
pub mod storages;
pub mod tasks;
pub mod upload;
pub mod volume;
mod within;

pub use config::{StorageConfig, StorageFile};
pub use dir::Status;
pub use dir::listing::VolumeEntry;
pub use error::StorageError;
pub use kind::{Content, ContentSet, ImageFormat, StorageKind};
pub use size::SizeInfo;
pub use storages::{AllocRequest, Storages};
pub use tasks::register_tasks;
