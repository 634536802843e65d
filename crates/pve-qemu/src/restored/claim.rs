//! Taking a VM's number for a restore, and giving it back.

use pve_cfs::Cfs;
use pve_guest::{GuestConfig, GuestKind};
use pve_schema::ids::VmId;
use pve_schema::{Context, Failure, ParamErrors};

use super::LOCK;
use crate::error::VmError;
use crate::files;
use crate::process;

/// Why a VM is not restored.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is protected. Both dashes are upstream's.
    #[error("unable to restore VM {0} - - protection mode enabled")]
    Protected(VmId),
    /// It runs.
    #[error("unable to restore VM {0} - vm is running")]
    Running(VmId),
    /// It is there already, locked, or cannot be made.
    #[error("unable to restore VM {vmid} - {source}")]
    Taken {
        /// The VM.
        vmid: VmId,
        /// Why.
        source: Box<VmError>,
    },
}

impl Failure for Refused {
    fn status(&self) -> u16 {
        match self {
            Self::Taken { source, .. } => source.status(),
            Self::Protected(_) | Self::Running(_) => 500,
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        match self {
            Self::Taken { source, .. } => source.param_errors(),
            Self::Protected(_) | Self::Running(_) => None,
        }
    }
}

/// Takes a number: locks the VM that is to be overwritten, or makes a locked config. Tells whether there was a VM.
///
/// # Errors
/// The VM is there and `force` is not given, it is locked, protected or running, or another node has it.
pub fn claim(context: &Context, vmid: VmId, force: bool) -> Result<bool, Refused> {
    let taken = |error: VmError| Refused::Taken {
        vmid,
        source: Box::new(error),
    };
    let _lock = files::lock(context, vmid).map_err(|error| taken(error.into()))?;
    let here = files::exists(context, vmid).map_err(|error| taken(error.into()))?;
    if !here || !force {
        // Without `force` this finds the VM and says where it is.
        return make(context, vmid).map(|()| false).map_err(taken);
    }
    let mut config = files::load(context, vmid).map_err(|error| taken(error.into()))?;
    config.check_lock().map_err(|error| taken(error.into()))?;
    if config.is_protected() {
        return Err(Refused::Protected(vmid));
    }
    if process::is_running(&context.site, vmid) {
        return Err(Refused::Running(vmid));
    }
    config.set_lock(LOCK).map_err(|error| taken(error.into()))?;
    files::save(context, vmid, &mut config).map_err(|error| taken(error.into()))?;
    Ok(true)
}

fn make(context: &Context, vmid: VmId) -> Result<(), VmError> {
    Cfs::new(context).check_vmid_free(vmid)?;
    let mut config = GuestConfig::new(GuestKind::Qemu);
    config.set_lock(LOCK)?;
    Ok(files::create(context, vmid, &mut config)?)
}

/// Gives a number back when no task came of the claim: a config that was made for it goes.
pub fn abandon(context: &Context, vmid: VmId, existed: bool) {
    if existed {
        release(context, vmid).unwrap_or_else(|error| log::warn!("{error}"));
    } else {
        crate::create::release(context, vmid);
    }
}

/// Takes the restore's lock away, and leaves the rest as it is.
///
/// # Errors
/// The VM is not the restore's, or its config cannot be written.
pub fn release(context: &Context, vmid: VmId) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    let mut config = files::load(context, vmid)?;
    config.remove_lock(LOCK)?;
    Ok(files::save(context, vmid, &mut config)?)
}
