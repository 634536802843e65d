//! Creating a VM (reference 06b §7).
//!
//! The config file exists from the first moment, with the lock `create`, so that nobody else takes the number; the task
//! fills it, or removes it again together with the disks it made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pve_access::{AccessError, UserConfig};
use pve_cfs::{Cfs, Datacenter};
use pve_guest::{GuestConfig, GuestKind};
use pve_schema::ids::{AuthId, StorageId, VmId, VolumeId};
use pve_schema::{Context, Failure, ParamErrors, Params};
use pve_storage::Storages;
use serde::{Deserialize, Serialize};

use crate::command::pin_for_windows;
use crate::config::boot::default_order;
use crate::config::{Drive, DriveKey, Source, VmConfig};
use crate::error::VmError;
use crate::files;
use crate::journal::Journal;
use crate::reconfigure::{fill_in, installed_version, random};
use crate::tags;
use crate::update::rights::{Requirement, check_tags};
use crate::update::{self, Caller, Change, Defaults, Surroundings, UpdateError, required_privileges, volumes};
use crate::volumes::owned;

/// The lock of a config whose VM is being made.
const LOCK: &str = "create";

/// A VM was not created.
#[derive(Debug, thiserror::Error)]
#[error("unable to create VM {vmid} - {source}")]
pub struct CreateError {
    /// The VM.
    pub vmid: VmId,
    /// Why.
    pub source: Box<VmError>,
}

impl Failure for CreateError {
    fn status(&self) -> u16 {
        self.source.status()
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        self.source.param_errors()
    }
}

/// What is to be created: checked, and filled in where a value was missing.
#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    /// The keys of the config; a password may be among them.
    pub set: BTreeMap<String, String>,
    /// The pool that the VM joins.
    pub pool: Option<String>,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.set.keys().collect();
        f.debug_struct("Order")
            .field("keys", &keys)
            .field("pool", &self.pool)
            .finish()
    }
}

/// Reads what is to be created from the parameters of a call, and checks that the caller may.
///
/// # Errors
/// What is wrong with the parameters, or a privilege that is missing.
pub fn check(
    context: &Context,
    vmid: VmId,
    params: &Params,
    rights: &UserConfig,
    who: &AuthId,
) -> Result<Order, VmError> {
    let caller = Caller { id: who, rights };
    let storage = params.parse::<StorageId>("storage").ok().flatten();
    let pool = params.text("pool");
    let mut change = match Change::from_params(params, &caller, true) {
        Err(UpdateError::Nothing) => Change::default(),
        read => read?,
    };
    for (key, text) in &mut change.set {
        on_default_storage(key, text, storage.as_ref());
    }
    let storages = Storages::open(context)?;
    let datacenter = Datacenter::read(&Cfs::new(context))?;
    fill_in(&storages, &mut change, &datacenter)?;
    for (key, value) in &change.set {
        permit_key(&caller, vmid, pool, key, value)?;
        if let Ok(key) = key.parse::<DriveKey>() {
            volumes::check_access(&storages, &caller, vmid, &Drive::parse(key, value)?, storage.as_ref())?;
        }
    }
    if let Some(tags) = change.set.get("tags") {
        check_tags(&caller, "", tags, &tags::access(&datacenter, context, rights, who))?;
    }
    update::check_state(&GuestConfig::new(GuestKind::Qemu), &change)?;
    Ok(Order {
        set: change.set,
        pool: pool.map(str::to_owned),
    })
}

/// A drive that names no storage lies on the one of the `storage` parameter.
fn on_default_storage(key: &str, text: &mut String, storage: Option<&StorageId>) {
    let parsed = key.parse().ok().and_then(|key: DriveKey| Drive::parse(key, text).ok());
    let (Some(mut drive), Some(storage)) = (parsed, storage) else {
        return;
    };
    if let Source::Other(wish) = drive.source() {
        drive.file = format!("{storage}:{wish}");
        *text = drive.to_string();
    }
}

/// A key may be set by who holds its privilege on the VM to be, or on the pool that it joins.
fn permit_key(caller: &Caller<'_>, vmid: VmId, pool: Option<&str>, key: &str, value: &str) -> Result<(), VmError> {
    let on_guest = format!("/vms/{vmid}");
    for requirement in required_privileges(vmid, key, None, Some(value)) {
        let refused = match requirement {
            _ if caller.id.is_root() => continue,
            Requirement::AnyOf { path, privileges } => {
                let by_pool = pool
                    .filter(|_| path == on_guest)
                    .is_some_and(|pool| caller.rights.has_any(caller.id, &format!("/pool/{pool}"), &privileges));
                if by_pool {
                    continue;
                }
                caller.check_any(&path, &privileges).err()
            }
            Requirement::Root => Some(UpdateError::RootOnly(key.to_owned())),
            Requirement::RootForDevice => Some(UpdateError::RootOnlyDevice(key.to_owned())),
        };
        if let Some(error) = refused {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Takes the number: makes the config file, locked.
///
/// # Errors
/// `unable to create VM 105 - VM 105 already exists on node 'n1'`
pub fn reserve(context: &Context, vmid: VmId) -> Result<(), CreateError> {
    let reserve = || -> Result<(), VmError> {
        let _lock = files::lock(context, vmid)?;
        let mut config = GuestConfig::new(GuestKind::Qemu);
        config.set_lock(LOCK)?;
        Ok(files::create(context, vmid, &mut config)?)
    };
    reserve().map_err(|error| failed(vmid, error))
}

/// Gives a number back that nothing was made for.
pub fn release(context: &Context, vmid: VmId) {
    let mine = files::load(context, vmid).is_ok_and(|config| config.lock() == Some(LOCK));
    if mine && let Err(error) = files::remove(context, vmid) {
        log::warn!("{error}");
    }
}

/// Creates a VM whose number was taken.
///
/// # Errors
/// [`CreateError`]; nothing is left then.
pub fn create(context: &Context, vmid: VmId, order: &Order, journal: &mut dyn Journal) -> Result<(), CreateError> {
    let made = files::lock(context, vmid).map_err(VmError::from).and_then(|_lock| {
        let made = fill(context, vmid, order, journal);
        if made.is_err() {
            release(context, vmid);
        }
        made
    });
    made.map_err(|error| failed(vmid, error))?;
    if let Some(pool) = &order.pool {
        join_pool(context, vmid, pool).unwrap_or_else(|error| journal.warn(&error.to_string()));
    }
    Ok(())
}

fn failed(vmid: VmId, error: VmError) -> CreateError {
    CreateError {
        vmid,
        source: Box::new(error),
    }
}

fn join_pool(context: &Context, vmid: VmId, pool: &str) -> Result<(), AccessError> {
    pve_access::edit::add_guest_to_pool(context, vmid, pool)
}

fn fill(context: &Context, vmid: VmId, order: &Order, journal: &mut dyn Journal) -> Result<(), VmError> {
    let reserved = files::load(context, vmid)?;
    if reserved.lock() != Some(LOCK) {
        reserved.check_lock()?;
    }
    let storages = Storages::open(context)?;
    let around = Surroundings {
        vmid,
        storages: &storages,
        tag_style: tags::style(&*Datacenter::read(&Cfs::new(context))?),
        qemu: installed_version(context)?,
    };
    let change = Change {
        set: order.set.clone(),
        ..Change::default()
    };
    let mut config = GuestConfig::new(GuestKind::Qemu);
    journal.log("allocating disks...");
    update::make_pending(&around, &mut config, &change, journal)?;
    let finished = finish(context, &around, &mut config, journal);
    if finished.is_err() {
        free_new(&storages, vmid, &config, order, journal);
    }
    finished
}

/// Everything after the disks: what a new VM gets without being asked.
fn finish(
    context: &Context,
    around: &Surroundings<'_>,
    config: &mut GuestConfig,
    journal: &mut dyn Journal,
) -> Result<(), VmError> {
    let errors = update::commit::all(around.storages, around.vmid, config, journal);
    if let Some((key, text)) = errors.into_iter().next() {
        return Err(UpdateError::at(key, text).into());
    }
    config
        .main
        .set("meta", format!("creation-qemu={},ctime={}", around.qemu, context.now()));
    if !config.main.has("boot")
        && let Some(order) = default_order(VmConfig::new(&config.main))
    {
        config.main.set("boot", order.to_string());
    }
    let smbios = config.main.get("smbios1").unwrap_or_default().to_owned();
    if !smbios.split(',').any(|part| part.starts_with("uuid=")) {
        let id = format!("uuid={}", random_uuid()?);
        let all = if smbios.is_empty() {
            id
        } else {
            format!("{smbios},{id}")
        };
        config.main.set("smbios1", all);
    }
    if !config.main.has("vmgenid") {
        config.main.set("vmgenid", random_uuid()?);
    }
    pin_windows(config, around, journal)?;
    Ok(files::save(context, around.vmid, config)?)
}

/// Windows guests do not like other hardware after an upgrade: they keep the newest of today.
fn pin_windows(config: &mut GuestConfig, around: &Surroundings<'_>, journal: &mut dyn Journal) -> Result<(), VmError> {
    let vm = VmConfig::new(&config.main);
    if !vm.ostype().is_windows() {
        return Ok(());
    }
    let Some(pinned) = pin_for_windows(vm.machine()?.kind, around.qemu) else {
        return Ok(());
    };
    let mut options = vm.props("machine")?.unwrap_or_default();
    options.take("type");
    journal.log(&format!("pinning machine type to '{pinned}' for Windows guest OS"));
    config.main.set("machine", format!("{pinned}{}", options.print_rest()));
    Ok(())
}

/// Frees the disks that were made, but none that the order named.
fn free_new(storages: &Storages, vmid: VmId, config: &GuestConfig, order: &Order, journal: &mut dyn Journal) {
    let named: BTreeSet<VolumeId> = order
        .set
        .iter()
        .filter_map(|(key, text)| Drive::parse(key.parse().ok()?, text).ok()?.volume())
        .collect();
    for volume in owned(storages, vmid, config).difference(&named) {
        if let Err(error) = storages.free(volume) {
            journal.warn(&format!("unable to free '{volume}' - {error}"));
        }
    }
}

fn random_uuid() -> Result<String, UpdateError> {
    let mut random = random;
    update::uuid(&mut Defaults {
        mac_prefix: None,
        random: &mut random,
    })
}
