//! The config files of this node's VMs: the lock, reading and writing (reference 06a §1).
//!
//! Everything that changes a config does so under [`lock`], from reading to writing. Who only looks does not need it: a
//! write replaces the file as a whole.

use std::time::Duration;

use pve_cfs::{Cfs, CfsError, FileLock};
use pve_guest::{GuestConfig, GuestError, GuestKind, GuestStore};
use pve_schema::ids::{NodeName, VmId};
use pve_schema::{Context, Failure};

use crate::config::VmRules;

/// How long a change waits for another one: configs are held for the time of a rewrite, or of a start.
pub const LOCK: Duration = Duration::from_secs(10);

/// What can go wrong with a config file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The guest is not as the caller needs it.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The file or its lock.
    #[error(transparent)]
    Cfs(#[from] CfsError),
}

impl Failure for FileError {
    fn status(&self) -> u16 {
        match self {
            Self::Guest(error) => error.status(),
            Self::Cfs(error) => error.status(),
        }
    }

    fn param_errors(&self) -> Option<&pve_schema::ParamErrors> {
        match self {
            Self::Guest(error) => error.param_errors(),
            Self::Cfs(error) => error.param_errors(),
        }
    }
}

/// Takes the lock under which a VM's config and state change. The same thread may take it again.
///
/// # Errors
/// [`CfsError::LockTimeout`].
pub fn lock(context: &Context, vmid: VmId) -> Result<FileLock, FileError> {
    lock_within(context, vmid, LOCK)
}

/// Takes the lock, waiting for as long as the caller can.
///
/// # Errors
/// As [`lock`].
pub fn lock_within(context: &Context, vmid: VmId, limit: Duration) -> Result<FileLock, FileError> {
    Ok(store(context).lock(vmid, limit)?)
}

fn store(context: &Context) -> GuestStore<'_> {
    GuestStore::new(context, &VmRules)
}

/// A config's path below `/etc/pve`.
fn path(context: &Context, vmid: VmId) -> String {
    Cfs::guest_config_path(GuestKind::Qemu, &context.site.node, vmid)
}

/// Whether this node has the VM.
///
/// # Errors
/// What the file system says.
pub fn exists(context: &Context, vmid: VmId) -> Result<bool, FileError> {
    Ok(Cfs::new(context).exists(&path(context, vmid))?)
}

/// Reads a config.
///
/// # Errors
/// [`GuestError::NotFound`].
pub fn load(context: &Context, vmid: VmId) -> Result<GuestConfig, FileError> {
    Ok(store(context).load(vmid)?)
}

/// Reads the config of a VM of any node.
///
/// # Errors
/// [`GuestError::NotFound`].
pub fn load_from(context: &Context, node: &NodeName, vmid: VmId) -> Result<GuestConfig, FileError> {
    Ok(store(context).load_from(node, vmid)?)
}

/// Replaces a config's file.
///
/// # Errors
/// What the file system says.
pub fn save(context: &Context, vmid: VmId, config: &mut GuestConfig) -> Result<(), FileError> {
    Ok(store(context).save(vmid, config)?)
}

/// Makes the file of a new VM; the number must be free in the whole cluster.
///
/// # Errors
/// [`CfsError::GuestExists`].
pub fn create(context: &Context, vmid: VmId, config: &mut GuestConfig) -> Result<(), FileError> {
    Ok(store(context).create(vmid, config)?)
}

/// Removes a config's file.
///
/// # Errors
/// What the file system says.
pub fn remove(context: &Context, vmid: VmId) -> Result<(), FileError> {
    store(context).remove(vmid)?;
    Ok(())
}

/// The VMs of this node, by number.
///
/// # Errors
/// What the file system says.
pub fn list(context: &Context) -> Result<Vec<VmId>, FileError> {
    let directory = format!("nodes/{}/{}", context.site.node, GuestKind::Qemu.folder());
    let names = Cfs::new(context).list(&directory)?;
    let mut vmids: Vec<VmId> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".conf")?.parse().ok())
        .collect();
    vmids.sort_unstable();
    Ok(vmids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(root: &std::path::Path) -> Context {
        let context = Context::new(crate::test_site(root));
        Cfs::new(&context).ensure_tree().unwrap();
        context
    }

    #[test]
    fn configs_are_made_once_and_found_until_removed() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(directory.path());
        let vmid: VmId = 105.try_into().unwrap();
        let missing = load(&context, vmid).unwrap_err().to_string();
        assert_eq!(
            missing,
            "Configuration file 'nodes/n1/qemu-server/105.conf' does not exist"
        );

        let mut config = GuestConfig::new(GuestKind::Qemu);
        config.main.set("memory", "64");
        let _lock = lock(&context, vmid).unwrap();
        create(&context, vmid, &mut config).unwrap();
        // Reference 06b, vector 2.
        let taken = create(&context, vmid, &mut config).unwrap_err().to_string();
        assert_eq!(taken, "VM 105 already exists on node 'n1'");

        config.main.set("cores", "2");
        save(&context, vmid, &mut config).unwrap();
        let read = load(&context, vmid).unwrap();
        assert_eq!((read.main.get("cores"), read.digest()), (Some("2"), config.digest()));
        assert_eq!(list(&context).unwrap(), [vmid]);
        remove(&context, vmid).unwrap();
        assert!(!exists(&context, vmid).unwrap());
    }

    #[test]
    fn a_value_cannot_bring_a_key_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(directory.path());
        let vmid: VmId = 105.try_into().unwrap();
        let mut config = GuestConfig::new(GuestKind::Qemu);
        config.main.set("description", "two\nlines");
        create(&context, vmid, &mut config).unwrap();
        for value in ["a\nargs: -S", "a\r\nargs: -S"] {
            let mut changed = config.clone();
            changed.pending.set("ciuser", value);
            let error = save(&context, vmid, &mut changed).unwrap_err().to_string();
            assert_eq!(error, "value of 'ciuser' contains a line break");
        }
        let kept = load(&context, vmid).unwrap();
        assert!(!kept.main.has("args") && !kept.pending.has("args"));
    }
}
