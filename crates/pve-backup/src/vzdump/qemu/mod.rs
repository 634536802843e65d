//! What is particular about backing a VM up (reference 05 §8).
//!
//! | module | holds |
//! |---|---|
//! | [`disks`] | which volumes go along |
//! | `config` | the config file in the archive |
//! | `watch` | the guest while its disks are copied: freeze, thaw, resume |

pub(crate) mod config;
pub mod disks;
mod watch;

use std::time::{Duration, Instant};

use pve_cfs::{Cfs, GuestKind};
use pve_guest::GuestConfig;
use pve_qemu::config::{Bus, VmConfig};
use pve_qemu::hold::{self, Hold, Owed};
use pve_qemu::power::{self, stop};
use pve_qemu::{files, process, qmp, start};
use pve_schema::Context;
use pve_schema::ids::{VmId, VolumeId};
use pve_storage::Storages;
use serde_json::Value;

use super::VzdumpError;
use super::log::RunLog;
use super::options::Mode;
use crate::copy::{Disk, Source, Volume as Image};
use crate::vma;
use disks::Volume;
pub(super) use watch::Guard;

/// A VM that is backed up.
#[derive(Debug)]
pub(super) struct Vm {
    context: Context,
    vmid: VmId,
    config: GuestConfig,
    volumes: Vec<Volume>,
    /// It ran when its backup began.
    pub(super) was_running: bool,
    /// It ran then, and its CPUs stood.
    was_paused: bool,
    /// It was started only to read its disks.
    was_started: bool,
    /// When it was stopped or paused.
    pub(super) halted: Option<Instant>,
}

impl Vm {
    /// Looks at a VM of this node.
    ///
    /// # Errors
    /// Its config cannot be read.
    pub(super) fn look(context: &Context, vmid: VmId) -> Result<Self, VzdumpError> {
        let config = files::load(context, vmid)?;
        let was_running = process::is_running(&context.site, vmid);
        let vm = VmConfig::new(&config.main);
        Ok(Self {
            context: context.clone(),
            vmid,
            volumes: disks::of_vm(vm),
            was_running,
            was_paused: was_running && power::is_paused(context, vmid),
            was_started: false,
            halted: None,
            config,
        })
    }

    /// The name, or what stands for it.
    pub(super) fn name(&self) -> String {
        let name = VmConfig::new(&self.config.main).name();
        name.map_or_else(|| format!("VM {}", self.vmid), str::to_owned)
    }

    fn included(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.iter().filter(|volume| volume.included)
    }

    /// Says what goes along, and makes it usable.
    ///
    /// # Errors
    /// A volume is not there, or nobody can tell its size.
    pub(super) fn prepare(&self, log: &mut RunLog<'_>) -> Result<(), VzdumpError> {
        log.info(&format!("VM Name: {}", self.name()));
        let storages = Storages::open(&self.context)?;
        let mut volumes: Vec<VolumeId> = Vec::new();
        for Volume {
            key,
            file,
            included,
            reason,
            size,
        } in &self.volumes
        {
            if !included {
                log.info(&format!("exclude disk '{key}' '{file}' ({reason})"));
                continue;
            }
            let volume: Option<VolumeId> = file.parse().ok();
            let size = match (size, &volume) {
                (Some(size), _) => size.clone(),
                (None, Some(volume)) => {
                    let info = storages.size_info(volume);
                    let info = info.map_err(|error| VzdumpError::VolumeSize {
                        volume: volume.to_string(),
                        reason: error.to_string(),
                    })?;
                    pve_schema::size::print(info.size)
                }
                (None, None) => String::new(),
            };
            log.info(format!("include disk '{key}' '{file}' {size}").trim_end());
            volumes.extend(volume);
        }
        Ok(storages.activate_volumes(&volumes)?)
    }

    /// Stops the guest, in its own way; it is owed its run from then on.
    ///
    /// # Errors
    /// It does not follow in time.
    pub(super) fn stop(&mut self, hold: &mut Hold, minutes: u64, log: &mut RunLog<'_>) -> Result<(), VzdumpError> {
        self.halt(hold)?;
        let order = stop::Order {
            way: stop::Way::Shutdown,
            timeout: Some(Duration::from_secs(minutes.saturating_mul(60))),
            force: false,
            skip_lock: true,
            keep_active: true,
        };
        Ok(stop::stop(&self.context, self.vmid, order, log)?)
    }

    /// Stops the guest's CPUs; it is owed its run from then on.
    ///
    /// # Errors
    /// What the monitor says.
    pub(super) fn suspend(&mut self, hold: &mut Hold) -> Result<(), VzdumpError> {
        self.halt(hold)?;
        Ok(power::pause(&self.context, self.vmid, true)?)
    }

    fn halt(&mut self, hold: &mut Hold) -> Result<(), VzdumpError> {
        self.halted = Some(Instant::now());
        if !self.was_paused {
            hold.owe(|debt| debt.guest = Owed::Running)?;
        }
        Ok(())
    }

    /// What the copy is made of: disks, and the config files of the archive.
    ///
    /// # Errors
    /// A file of the cluster cannot be read, a volume has no path.
    pub(super) fn source(&self, begin: i64, log: &mut RunLog<'_>) -> Result<Source, VzdumpError> {
        let storages = Storages::open(&self.context)?;
        let mut disks = Vec::new();
        let mut map = Vec::new();
        for volume in self.included() {
            let id: Option<VolumeId> = volume.file.parse().ok();
            let found = id.as_ref().map(|id| storages.path_and_format(id)).transpose()?;
            let format = found
                .as_ref()
                .and_then(|(_, format)| Some(format.as_ref()?.to_string()));
            let path = found.map_or_else(|| volume.file.clone().into(), |(path, _)| path);
            let is_tpm = volume.key.bus == Bus::Tpmstate;
            disks.push(Disk {
                key: volume.key,
                device: volume.device(),
                volume: is_tpm.then(|| Image {
                    path,
                    format: format.clone().unwrap_or_else(|| "raw".to_owned()),
                }),
            });
            let storage = id.map(|id| id.storage.to_string()).unwrap_or_default();
            map.push((
                volume.key.to_string(),
                volume.device(),
                storage,
                format.unwrap_or_default(),
            ));
        }
        Ok(Source {
            vmid: self.vmid,
            disks,
            configs: self.configs(&map, log)?,
            ctime: begin,
        })
    }

    /// The config file and the firewall's rules, as they are now.
    fn configs(
        &self,
        map: &[(String, String, String, String)],
        log: &mut RunLog<'_>,
    ) -> Result<Vec<vma::Config>, VzdumpError> {
        let cfs = Cfs::new(&self.context);
        let path = Cfs::guest_config_path(GuestKind::Qemu, &self.context.site.node, self.vmid);
        let raw = cfs.read(&path)?.unwrap_or_default();
        let map = map.iter().map(|(key, device, storage, format)| config::Mapped {
            key,
            device,
            storage,
            format,
        });
        let archived = config::archived(&String::from_utf8_lossy(&raw), map);
        for note in &archived.notes {
            log.info(note);
        }
        let mut configs = vec![vma::Config {
            name: vma::VM_CONFIG.to_owned(),
            data: archived.text.into_bytes(),
        }];
        if let Some(rules) = cfs.read(&format!("firewall/{}.fw", self.vmid))? {
            configs.push(vma::Config {
                name: vma::VM_FIREWALL.to_owned(),
                data: rules,
            });
        }
        Ok(configs)
    }

    /// Sees to it that QEMU has the disks open: a VM that does not run is started, but its CPUs stand.
    ///
    /// # Errors
    /// It does not come up.
    pub(super) fn bring_up(&mut self, hold: &mut Hold, log: &mut RunLog<'_>) -> Result<(), VzdumpError> {
        if process::is_running(&self.context.site, self.vmid) {
            return Ok(());
        }
        log.info("starting kvm to execute backup task");
        if hold.debt().guest == Owed::Nothing {
            hold.owe(|debt| debt.guest = Owed::Off)?;
            self.was_started = true;
        }
        let options = start::Options {
            skip_lock: true,
            paused: true,
            ..start::Options::default()
        };
        Ok(start::start(&self.context, self.vmid, &options, log)?)
    }

    /// Whether the guest is to go on as soon as the copy has begun.
    fn is_to_go_on(&self) -> bool {
        self.was_running && !self.was_paused
    }

    /// Lets the guest go on after its disks' instant.
    ///
    /// # Errors
    /// What the monitor says.
    fn go_on(&self, hold: &mut Hold, log: &mut RunLog<'_>) -> Result<(), VzdumpError> {
        match self.halted {
            Some(halted) => {
                let seconds = halted.elapsed().as_secs();
                log.info(&format!("resuming VM again after {seconds} seconds"));
            }
            None => log.info("resuming VM again"),
        }
        qmp::execute(&self.context.site, self.vmid, "cont", Value::Null)?;
        Ok(hold.owe(|debt| debt.guest = Owed::Nothing)?)
    }

    /// Ends a VM that was started only for its backup, unless somebody let it go meanwhile.
    ///
    /// # Errors
    /// What the monitor says, or the process does not end.
    pub(super) fn put_away(&mut self, hold: &mut Hold, log: &mut RunLog<'_>) -> Result<(), VzdumpError> {
        if !self.was_started || !process::is_running(&self.context.site, self.vmid) {
            return Ok(());
        }
        self.was_started = false;
        let status = hold::status(&self.context.site, self.vmid)?;
        if status == "prelaunch" {
            log.info("stopping kvm after backup task");
            hold::quit(&self.context, self.vmid)?;
        } else {
            log.info(&format!(
                "kvm status changed after backup ('{status}') - keep VM running"
            ));
        }
        Ok(hold.owe(|debt| debt.guest = Owed::Nothing)?)
    }

    /// Brings a guest that its backup stopped or paused back to running, if it does not already.
    ///
    /// # Errors
    /// It does not come up, or what the monitor says.
    pub(super) fn revive(&self, hold: &mut Hold, mode: Mode, log: &mut RunLog<'_>) -> Result<(), VzdumpError> {
        if hold.debt().guest != Owed::Running {
            return Ok(());
        }
        if process::is_running(&self.context.site, self.vmid) {
            let status = hold::status(&self.context.site, self.vmid)?;
            if matches!(status.as_str(), "paused" | "prelaunch") {
                qmp::execute(&self.context.site, self.vmid, "cont", Value::Null)?;
            }
        } else if mode == Mode::Stop {
            let options = start::Options {
                skip_lock: true,
                ..start::Options::default()
            };
            start::start(&self.context, self.vmid, &options, log)?;
        }
        Ok(hold.owe(|debt| debt.guest = Owed::Nothing)?)
    }
}
