//! Making, changing and deleting pools (reference 02 §14).
//!
//! Who may call is the contract's affair; what a caller must hold on the members that it moves is checked here, under
//! the lock.

use pve_schema::Context;
use pve_schema::ids::AuthId;

use crate::edit;
use crate::error::AccessError;
use crate::paths::AclPath;
use crate::user_config::{Pool, UserConfig};

/// A change of a pool.
#[derive(Debug, Clone, Default)]
pub struct PoolChange<'a> {
    /// The pool's full name.
    pub pool: &'a str,
    /// A new comment; an empty one removes it.
    pub comment: Option<&'a str>,
    /// Guests that join or leave.
    pub vms: Vec<u64>,
    /// Storages that join or leave.
    pub storages: Vec<&'a str>,
    /// They leave rather than join.
    pub delete: bool,
    /// A guest may leave the pool that it is in for this one.
    pub allow_move: bool,
}

/// Something that a pool may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member<'a> {
    /// A guest, by its number.
    Guest(u64),
    /// A storage, by its name.
    Storage(&'a str),
}

fn missing(pool: &str) -> AccessError {
    AccessError::plain(format!("pool '{pool}' does not exist"))
}

/// A pool that must exist.
///
/// # Errors
/// There is none of that name.
pub fn require<'a>(config: &'a UserConfig, pool: &str) -> Result<&'a Pool, AccessError> {
    config.pools.get(pool).ok_or_else(|| missing(pool))
}

/// Makes a pool.
///
/// # Errors
/// It exists, the pool above it does not, or its name does not begin with a letter; wrapped in `create pool failed`.
pub fn create(context: &Context, pool: &str, comment: Option<String>) -> Result<(), AccessError> {
    edit::edit(context, "create pool failed", |config| {
        if config.pools.contains_key(pool) {
            return Err(AccessError::plain(format!("pool '{pool}' already exists")));
        }
        let last = match pool.rsplit_once('/') {
            Some((parent, _)) if !config.pools.contains_key(parent) => {
                let text = format!("parent '{parent}' of pool '{pool}' does not exist");
                return Err(AccessError::plain(text));
            }
            Some((_, last)) => last,
            None => pool,
        };
        if !last.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(AccessError::plain("pool name must start with a letter"));
        }
        let made = Pool {
            comment,
            ..Pool::default()
        };
        config.pools.insert(pool.to_owned(), made);
        Ok(())
    })
}

/// Changes a pool's comment and members. Nothing is saved if anything fails.
///
/// # Errors
/// The pool does not exist, a member is there already or is not, or the caller may not move it; wrapped in
/// `update pools failed`.
pub fn update(context: &Context, caller: &AuthId, change: &PoolChange<'_>) -> Result<(), AccessError> {
    edit::edit(context, "update pools failed", |config| {
        require(config, change.pool)?;
        for vmid in &change.vms {
            let path = AclPath::normalise(&format!("/vms/{vmid}"));
            config.require_perm_modify(caller, path.as_ref())?;
            if change.delete {
                remove_guest(config, change.pool, *vmid)?;
            } else {
                add_guest(config, caller, change, *vmid)?;
            }
        }
        for storage in &change.storages {
            let path = AclPath::normalise(&format!("/storage/{storage}"));
            config.require_perm_modify(caller, path.as_ref())?;
            move_storage(config, change, storage)?;
        }
        if let Some(comment) = change.comment {
            let pool = require_mut(config, change.pool)?;
            pool.comment = Some(comment.to_owned()).filter(|comment| !comment.is_empty());
        }
        Ok(())
    })
}

fn require_mut<'a>(config: &'a mut UserConfig, pool: &str) -> Result<&'a mut Pool, AccessError> {
    config.pools.get_mut(pool).ok_or_else(|| missing(pool))
}

fn remove_guest(config: &mut UserConfig, pool: &str, vmid: u64) -> Result<(), AccessError> {
    if require_mut(config, pool)?.vms.remove(&vmid) {
        Ok(())
    } else {
        Err(AccessError::plain(format!("VM {vmid} is not a pool member")))
    }
}

/// A guest joins. It is in one pool at most: leaving another needs the client's word and the right to change that one.
fn add_guest(config: &mut UserConfig, caller: &AuthId, change: &PoolChange<'_>, vmid: u64) -> Result<(), AccessError> {
    match config.pool_of(vmid).map(str::to_owned) {
        Some(pool) if pool == change.pool => {
            return Err(AccessError::plain(format!("VM {vmid} is already a pool member")));
        }
        Some(pool) if !change.allow_move => {
            let text = format!("VM {vmid} belongs already to pool '{pool}' and 'allow-move' is not set");
            return Err(AccessError::plain(text));
        }
        Some(pool) => {
            config.require_all(caller, &format!("/pool/{pool}"), &["Pool.Allocate"])?;
            remove_guest(config, &pool, vmid)?;
        }
        None => {}
    }
    require_mut(config, change.pool)?.vms.insert(vmid);
    Ok(())
}

/// A storage joins or leaves; it may be in many pools.
fn move_storage(config: &mut UserConfig, change: &PoolChange<'_>, storage: &str) -> Result<(), AccessError> {
    let storages = &mut require_mut(config, change.pool)?.storages;
    let (done, problem) = if change.delete {
        (storages.remove(storage), "is not a pool member")
    } else {
        (storages.insert(storage.to_owned()), "is already a pool member")
    };
    if done {
        Ok(())
    } else {
        Err(AccessError::plain(format!("Storage '{storage}' {problem}")))
    }
}

/// Deletes an empty pool with what was granted on it. Members that `exists` does not know do not count.
///
/// # Errors
/// There is none of that name, or it is not empty; wrapped in `delete pool failed`.
pub fn delete(
    context: &Context,
    pool: &str,
    exists: impl Fn(Member<'_>) -> Result<bool, AccessError>,
) -> Result<(), AccessError> {
    edit::edit(context, "delete pool failed", |config| {
        let found = require(config, pool)?;
        let refuse = |what: String| {
            Err(AccessError::plain(format!(
                "pool '{pool}' is not empty (contains {what})"
            )))
        };
        let below = format!("{pool}/");
        if let Some(child) = config.pools.keys().find(|name| name.starts_with(&below)) {
            return refuse(format!("pool '{child}'"));
        }
        for vmid in &found.vms {
            if exists(Member::Guest(*vmid))? {
                return refuse(format!("VM {vmid}"));
            }
        }
        for storage in &found.storages {
            if exists(Member::Storage(storage))? {
                return refuse(format!("storage '{storage}'"));
            }
        }
        config.pools.remove(pool);
        edit::remove_acls(config, &format!("/pool/{pool}"));
        Ok(())
    })
}
