//! The files of user management: their names, and changes under their locks.

use std::cell::Cell;

use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_cfs::{Cfs, CfsError, LockId};

use crate::error::AccessError;

/// `user.cfg`.
pub const USER_CFG: &str = "user.cfg";
/// `domains.cfg`.
pub const DOMAINS_CFG: &str = "domains.cfg";
/// Password hashes of the realm `pve`.
pub const SHADOW_CFG: &str = "priv/shadow.cfg";
/// Secrets of API tokens.
pub const TOKEN_CFG: &str = "priv/token.cfg";
/// Second factors.
pub const TFA_CFG: &str = "priv/tfa.cfg";

/// Runs a change of a file under its cluster lock; every failure is wrapped in what was to be done.
pub(crate) fn locked<T>(
    cfs: &Cfs,
    file: &str,
    prefix: &str,
    change: impl FnOnce() -> Result<T, AccessError>,
) -> Result<T, AccessError> {
    let marked = || {
        let _held = (file == USER_CFG).then(UserLock::mark);
        change()
    };
    cfs.with_lock(&LockId::file(file), DEFAULT_TIMEOUT, marked)
        .map_err(|error: AccessError| error.during(prefix))
}

thread_local! {
    /// Whether this thread holds the lock of `user.cfg`.
    static USER_LOCK: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread holds the lock of `user.cfg`, as long as it lives.
struct UserLock;

impl UserLock {
    fn mark() -> Self {
        USER_LOCK.set(true);
        Self
    }
}

impl Drop for UserLock {
    fn drop(&mut self) {
        USER_LOCK.set(false);
    }
}

/// Whether this thread holds the lock of `user.cfg`. That of `tfa.cfg` comes before it: two threads that take both must
/// take them in one order.
pub(crate) fn holds_user_lock() -> bool {
    USER_LOCK.get()
}

impl From<CfsError> for AccessError {
    fn from(error: CfsError) -> Self {
        Self::Store(error.to_string())
    }
}
