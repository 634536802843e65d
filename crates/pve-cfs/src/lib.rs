//! `/etc/pve`: the one crate that opens a path below it, and the files below `/run` that the daemons of a node share.
//!
//! `/etc/pve` is a directory of files, the same on one node (a plain directory, the embedded default) and in a cluster
//! (a mounted cluster file system). Which of the two it is, is looked up where it matters: locks, modes, members.
//!
//! | module | holds |
//! |---|---|
//! | [`files`] | read, atomic durable write, stamps: [`Cfs`] |
//! | `cached` | values made from files, made again only when the file changed |
//! | [`path`] | what a path below `/etc/pve` may look like, and which mode it gets |
//! | [`lock`] | locks of this node and of the cluster |
//! | [`tree`] | the directories and links that must be there |
//! | [`ready`] | whether all of that is there, and whose guests are left over |
//! | [`members`] | the nodes, quorum, a node's address |
//! | [`ssh`] | the way to another node as root |
//! | [`guests`] | which guest lives where, and which number is free |
//! | [`run_dir`] | the directories below `/run` that they share |
//! | [`status`] | the status store: values that the daemons tell each other |
//! | [`corosync`] | `corosync.conf` |
//! | [`cluster_log`] | the cluster log |
//! | [`datacenter`] | `datacenter.cfg`: the options that hold for all nodes |
//! | [`error`] | what can go wrong |
//!
//! Not here: what the other files mean. That is the affair of the crate that owns the file.

mod cached;
pub mod cluster_log;
pub mod corosync;
pub mod datacenter;
pub mod error;
pub mod files;
pub mod guests;
pub mod lock;
pub mod members;
pub mod path;
pub mod ready;
pub mod run_dir;
pub mod ssh;
pub mod status;
pub mod tree;

pub use cluster_log::{ClusterLog, Priority, service_name, set_service_name};
pub use corosync::CorosyncConf;
pub use datacenter::Datacenter;
pub use error::CfsError;
pub use files::{Cfs, MAX_FILE, Stamp, rename_new};
pub use guests::{GuestEntry, GuestKind};
pub use lock::{FileLock, LockId};
pub use members::{Cluster, Member, Members};
pub use ready::{Missing, Stranger};
pub use run_dir::make_run_dir;
pub use ssh::Peer;
pub use status::StatusStore;
