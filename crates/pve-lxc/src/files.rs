//! The config files of this node's containers (reference 07 §1).

use pve_cfs::{Cfs, CfsError};
use pve_guest::{GuestConfig, GuestError, GuestKind, GuestStore};
use pve_schema::Context;
use pve_schema::ids::VmId;

use crate::config::ContainerRules;

/// Reads a config.
///
/// # Errors
/// [`GuestError::NotFound`].
pub fn load(context: &Context, vmid: VmId) -> Result<GuestConfig, GuestError> {
    GuestStore::new(context, &ContainerRules).load(vmid)
}

/// Reads a config without a word on what in it cannot be used: for those who read it every few seconds. `None` when
/// there is none.
///
/// # Errors
/// What the file system says.
pub fn load_silently(context: &Context, vmid: VmId) -> Result<Option<GuestConfig>, CfsError> {
    let path = Cfs::guest_config_path(GuestKind::Lxc, &context.site.node, vmid);
    let raw = Cfs::new(context).read(&path)?;
    Ok(raw.map(|raw| GuestConfig::parse(&ContainerRules, vmid, &raw).config))
}

/// The containers of this node, by number.
///
/// # Errors
/// What the file system says.
pub fn list(context: &Context) -> Result<Vec<VmId>, CfsError> {
    let directory = format!("nodes/{}/{}", context.site.node, GuestKind::Lxc.folder());
    let names = Cfs::new(context).list(&directory)?;
    let mut vmids: Vec<VmId> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".conf")?.parse().ok())
        .collect();
    vmids.sort_unstable();
    Ok(vmids)
}
