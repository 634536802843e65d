//! What the restore of a backup does to a VM's config (reference 05 §15, 06b §7). The archive and its data are
//! `pve-backup`'s.
//!
//! ```text
//! claim ─▶ Archived::read ─▶ check ─▶ give_way (VM that is overwritten) ─▶ (data) ─▶ Archived::rewrite ─▶ merge
//!   ─▶ finish (lock released) ─▶ rescan ─▶ pool
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `claim` | taking and giving back the VM's number |
//! | `lines` | from the archived config to the new one |
//! | `rights` | what of an archived config its caller may have |
//! | `previous` | what becomes of the volumes of a VM that is overwritten |
//! | `rescan` | sizes as they are, and volumes that nothing refers to |

mod claim;
mod lines;
mod previous;
mod rescan;
mod rights;

use std::collections::BTreeMap;

use pve_cfs::{Cfs, Datacenter};
use pve_guest::{GuestConfig, GuestKind};
use pve_schema::Context;
use pve_schema::ids::VmId;
use pve_storage::Storages;

use crate::error::VmError;
use crate::files;
use crate::journal::Journal;
use crate::reconfigure::{installed_version, random};
use crate::tags;
use crate::update::{self, Change, Surroundings, UpdateError};

pub use claim::{Refused, abandon, claim, release};
pub use lines::{Archived, ArchivedError, Rewrite, rewrite_line};
pub use previous::give_way;
pub use rescan::rescan;
pub use rights::check;

/// The lock of a config whose VM is being restored.
pub(crate) const LOCK: &str = "create";

/// Random numbers, and what they are put behind.
#[derive(Debug, Clone)]
pub struct Identity {
    mac_prefix: Option<String>,
}

impl Identity {
    /// As the datacenter has it.
    ///
    /// # Errors
    /// `datacenter.cfg` cannot be read.
    pub fn read(context: &Context) -> Result<Self, VmError> {
        let mac_prefix = Datacenter::read(&Cfs::new(context))?
            .text("mac_prefix")
            .map(str::to_owned);
        Ok(Self { mac_prefix })
    }

    fn mac(&self) -> Result<String, UpdateError> {
        let mut bytes = [0; 6];
        random(&mut bytes).map_err(UpdateError::Random)?;
        let prefix = self.mac_prefix.as_deref();
        let prefix = prefix.unwrap_or(crate::config::net::DEFAULT_MAC_PREFIX);
        Ok(crate::config::net::mac_from_random(bytes, prefix))
    }

    fn uuid() -> Result<String, UpdateError> {
        let mut random = random;
        update::uuid(&mut update::Defaults {
            mac_prefix: None,
            random: &mut random,
        })
    }
}

/// Puts the caller's own values over the restored ones, by the rules of a change.
///
/// # Errors
/// A value that does not go together with the rest, or cannot be put into force.
pub fn merge(
    context: &Context,
    vmid: VmId,
    config: &mut GuestConfig,
    set: &BTreeMap<String, String>,
    journal: &mut dyn Journal,
) -> Result<(), VmError> {
    if set.is_empty() {
        return Ok(());
    }
    let storages = Storages::open(context)?;
    let around = Surroundings {
        vmid,
        storages: &storages,
        tag_style: tags::style(&*Datacenter::read(&Cfs::new(context))?),
        qemu: installed_version(context)?,
    };
    let change = Change {
        set: set.clone(),
        ..Change::default()
    };
    update::check_state(config, &change)?;
    update::make_pending(&around, config, &change, journal)?;
    let errors = update::commit::all(&storages, vmid, config, journal);
    match errors.into_iter().next() {
        Some((key, text)) => Err(UpdateError::at(key, text).into()),
        None => Ok(()),
    }
}

/// Writes the restored config, which releases the VM. Volumes that the VM has besides stay listed as unused.
///
/// # Errors
/// The VM is not the restore's any more, or the file cannot be written.
pub fn finish(context: &Context, vmid: VmId, mut config: GuestConfig) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    let mut current = files::load(context, vmid)?;
    current.remove_lock(LOCK)?;
    for (key, value) in current.main.iter().filter(|(key, _)| key.starts_with("unused")) {
        // A drive without data in the archive has its volume still: as an unused one it could be removed beneath it.
        if !update::volumes::is_used(&config, value, None) {
            config.main.set(key, value);
        }
    }
    debug_assert_eq!(config.kind, GuestKind::Qemu);
    Ok(files::save(context, vmid, &mut config)?)
}

/// Puts the restored VM into a pool.
///
/// # Errors
/// There is no such pool, or the users cannot be written.
pub fn join_pool(context: &Context, vmid: VmId, pool: &str) -> Result<(), pve_access::AccessError> {
    pve_access::edit::add_guest_to_pool(context, vmid, pool)
}
