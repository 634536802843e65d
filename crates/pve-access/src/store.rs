//! The files of user management, read again only when they changed.
//!
//! A value made from a file is kept per process, keyed by path and stamp. A file that was changed within the last second
//! is not kept: a second change in the same tick of the file system's clock could look the same.

use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_cfs::{Cfs, CfsError, LockId, Stamp};

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

/// Most values that are kept; beyond, all are dropped and read anew.
const MAX_KEPT: usize = 64;

type Kept = HashMap<(PathBuf, &'static str), (Option<Stamp>, Arc<dyn Any + Send + Sync>)>;

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// What `make` makes of a file's content (`None` for no file), from memory if the file is as it was.
///
/// `kind` tells apart what different callers make of one file.
pub(crate) fn cached<T, F>(cfs: &Cfs, rel: &str, kind: &'static str, make: F) -> Result<Arc<T>, CfsError>
where
    T: Any + Send + Sync,
    F: FnOnce(Option<&[u8]>, Option<Stamp>) -> T,
{
    let stamp = cfs.stamp(rel)?;
    let key = (cfs.full_path(rel)?, kind);
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    if let Some((kept_stamp, value)) = kept
        && kept_stamp == stamp
        && let Ok(value) = value.downcast::<T>()
    {
        return Ok(value);
    }
    let bytes = cfs.read(rel)?;
    let value = Arc::new(make(bytes.as_deref(), stamp));
    // Only what surely belongs to this stamp is kept.
    if cfs.stamp(rel)? == stamp && stamp.is_none_or(is_settled) {
        let mut map = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= MAX_KEPT {
            map.clear();
        }
        let value: Arc<dyn Any + Send + Sync> = value.clone();
        map.insert(key, (stamp, value));
    }
    Ok(value)
}

/// Whether a file's last change lies at least a second back, by the machine's clock that also stamped the file.
fn is_settled(stamp: Stamp) -> bool {
    let changed = Duration::from_secs(u64::try_from(stamp.mtime()).unwrap_or(0).saturating_add(2));
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .is_ok_and(|now| now >= changed)
}

/// Runs a change of a file under its cluster lock; every failure is wrapped in what was to be done.
pub(crate) fn locked<T>(
    cfs: &Cfs,
    file: &str,
    prefix: &str,
    change: impl FnOnce() -> Result<T, AccessError>,
) -> Result<T, AccessError> {
    cfs.with_lock(&LockId::file(file), DEFAULT_TIMEOUT, change)
        .map_err(|error: AccessError| error.during(prefix))
}

impl From<CfsError> for AccessError {
    fn from(error: CfsError) -> Self {
        Self::Store(error.to_string())
    }
}
