//! Changes of `user.cfg` under its lock, and the changes that other parts of the suite need (reference 02 §14).

use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::ids::{StorageId, VmId};

use crate::error::AccessError;
use crate::paths::AclPath;
use crate::store::{self, USER_CFG};
use crate::user_config::UserConfig;

/// Changes users and rights: reads the file under its lock, lets `change` at it, and writes it if it is another then.
/// Nothing is saved if `change` fails.
///
/// # Errors
/// [`AccessError::Change`]: whatever went wrong, wrapped in `prefix`.
pub fn edit<T>(
    context: &Context,
    prefix: &str,
    change: impl FnOnce(&mut UserConfig) -> Result<T, AccessError>,
) -> Result<T, AccessError> {
    let cfs = Cfs::new(context);
    store::locked(&cfs, USER_CFG, prefix, || {
        let mut config = read(&cfs)?;
        let result = change(&mut config)?;
        write(&cfs, &config)?;
        Ok(result)
    })
}

/// The same for changes that save several times; `prefix` wraps every failure as well.
///
/// # Errors
/// As [`edit`].
pub(crate) fn locked<T>(
    cfs: &Cfs,
    prefix: &str,
    change: impl FnOnce() -> Result<T, AccessError>,
) -> Result<T, AccessError> {
    store::locked(cfs, USER_CFG, prefix, change)
}

pub(crate) fn read(cfs: &Cfs) -> Result<UserConfig, AccessError> {
    Ok(UserConfig::parse(&cfs.read_text(USER_CFG)?.unwrap_or_default()))
}

pub(crate) fn write(cfs: &Cfs, config: &UserConfig) -> Result<(), AccessError> {
    let text = config.print();
    if cfs.read(USER_CFG)?.as_deref() != Some(text.as_bytes()) {
        cfs.write(USER_CFG, text.as_bytes())?;
    }
    Ok(())
}

/// A guest was created with a pool: it joins the pool, if that still exists.
///
/// # Errors
/// The change cannot be stored.
pub fn add_guest_to_pool(context: &Context, vmid: VmId, pool: &str) -> Result<(), AccessError> {
    edit(context, &format!("can't add VM ID to pool '{pool}'"), |config| {
        if config.pools.contains_key(pool) {
            leave_pools(config, vmid);
        }
        if let Some(pool) = config.pools.get_mut(pool) {
            pool.vms.insert(u64::from(vmid.get()));
        }
        Ok(())
    })
}

/// A guest was destroyed: what was granted on it goes, and its place in a pool.
///
/// # Errors
/// The change cannot be stored.
pub fn remove_guest_access(context: &Context, vmid: VmId) -> Result<(), AccessError> {
    edit(
        context,
        &format!("access permissions cleanup for VM {vmid} failed"),
        |config| {
            remove_acls(config, &format!("/vms/{vmid}"));
            leave_pools(config, vmid);
            Ok(())
        },
    )
}

/// A guest leaves its pool.
///
/// # Errors
/// The change cannot be stored.
pub fn remove_guest_from_pool(context: &Context, vmid: VmId) -> Result<(), AccessError> {
    edit(context, &format!("pool cleanup for VM {vmid} failed"), |config| {
        leave_pools(config, vmid);
        Ok(())
    })
}

/// A storage was removed: what was granted on it goes, and its places in pools.
///
/// # Errors
/// The change cannot be stored.
pub fn remove_storage_access(context: &Context, storage: &StorageId) -> Result<(), AccessError> {
    edit(
        context,
        &format!("access permissions cleanup for storage {storage} failed"),
        |config| {
            remove_acls(config, &format!("/storage/{storage}"));
            for pool in config.pools.values_mut() {
                pool.storages.remove(storage.as_str());
            }
            Ok(())
        },
    )
}

/// What was granted on a path and below it goes; for a pool that is deleted, inside the change that deletes it.
pub fn remove_acls(config: &mut UserConfig, path: &str) {
    if let Some(path) = AclPath::normalise(path) {
        config.remove_acls_within(&path);
    }
}

fn leave_pools(config: &mut UserConfig, vmid: VmId) {
    for pool in config.pools.values_mut() {
        pool.vms.remove(&u64::from(vmid.get()));
    }
}
