//! Changing a VM's config: `PUT` and `POST …/config` (reference 06a §4, §5).
//!
//! ```text
//! parameters ─▶ Change::from_params ─▶ prepare ─▶ rights, storages ─▶ check_state      (before any task: direct errors)
//!   lock, load ─▶ check_state ─▶ make_pending ─▶ save ─▶ running?  live::plan ─▶ steps by the monitor ─▶ commit::one
//!                                                        stopped?  commit::all
//! ```
//!
//! Everything but the monitor's part is here, as functions of the config. [`update`] strings them together.
//!
//! Not here: `import-from` ([`UpdateError::NotYet`]), replicated VMs' rules, and carrying out live steps.

mod apply;
mod change;
mod cloudinit;
pub mod commit;
mod error;
pub mod live;
mod prepare;
pub(crate) mod rights;
pub mod volumes;

use pve_guest::{GuestConfig, GuestStore};
use pve_schema::ids::VmId;
use pve_schema::{Context, ParamErrors};
use pve_storage::Storages;

pub use apply::{Surroundings, check_state, make_pending};
pub use change::{Change, keys_of};
pub use error::UpdateError;
pub(crate) use prepare::uuid;
pub use prepare::{Defaults, prepare};
pub use rights::{Caller, Requirement, required_privileges};
pub use volumes::{Allocator, Wish};

use crate::config::{ParameterError, VmRules};
use crate::journal::Journal;

/// Carries out live changes: gets the config with the plan, commits what worked, and tells what did not by key.
pub type Live<'a> = &'a mut dyn FnMut(&mut GuestConfig, live::Plan, &mut dyn Journal) -> ParamErrors;

/// Makes a change and puts it into force as far as possible. `live` is given for a VM that runs.
///
/// # Errors
/// What is refused; and status 400 by key for what could not be put into force, which then is pending.
pub fn update(
    context: &Context,
    around: &Surroundings<'_>,
    change: &Change,
    live: Option<Live<'_>>,
    journal: &mut dyn Journal,
) -> Result<(), UpdateError> {
    let store = GuestStore::new(context, &VmRules);
    let _lock = store.lock(around.vmid, pve_guest::store::LOCK_TIMEOUT)?;
    let mut config = store.load(around.vmid)?;
    check_state(&config, change)?;
    make_pending(around, &mut config, change, journal)?;
    store.save(around.vmid, &mut config)?;
    if !config.has_pending() {
        return Ok(());
    }
    let errors = match live {
        None => commit::all(around.storages, around.vmid, &mut config, journal),
        Some(live) => {
            let plan = live::plan(&config, change.touched());
            let mut errors: ParamErrors = plan
                .refused
                .iter()
                .map(|refusal| (refusal.key.clone(), refusal.text.clone()))
                .collect();
            errors.extend(live(&mut config, plan, journal));
            errors
                .into_iter()
                .map(|(key, text)| (key, format!("hotplug problem - {text}")))
                .collect()
        }
    };
    config.clean_pending();
    store.save(around.vmid, &mut config)?;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ParameterError::from(errors).into())
    }
}

/// Puts everything that is pending into force and writes the config: before a cold start, and after a stop. What cannot
/// be put into force stays pending and is told. The caller holds the lock.
///
/// # Errors
/// The storages cannot be read, or the config not be written.
pub fn apply_pending(
    context: &Context,
    vmid: VmId,
    config: &mut GuestConfig,
    journal: &mut dyn Journal,
) -> Result<(), UpdateError> {
    let storages = Storages::open(context)?;
    for text in commit::all(&storages, vmid, config, journal).values() {
        journal.warn(text);
    }
    Ok(GuestStore::new(context, &VmRules).save(vmid, config)?)
}
