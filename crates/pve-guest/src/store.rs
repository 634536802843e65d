//! Where configs lie, how they are locked, read and written.
//!
//! Read and change under [`GuestStore::lock`]; read for an answer without it: a file is replaced as a whole.

use std::time::Duration;

use pve_cfs::{Cfs, CfsError, FileLock, GuestKind};
use pve_schema::Context;
use pve_schema::ids::{NodeName, VmId};

use crate::config::GuestConfig;
use crate::error::GuestError;
use crate::rules::KeyRules;

/// How long a change waits for another one (reference 06a §1).
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The configs of one guest type.
#[derive(Clone, Copy)]
pub struct GuestStore<'a> {
    context: &'a Context,
    rules: &'a dyn KeyRules,
}

impl<'a> GuestStore<'a> {
    /// The configs of a guest type.
    pub fn new(context: &'a Context, rules: &'a dyn KeyRules) -> Self {
        Self { context, rules }
    }

    fn kind(&self) -> GuestKind {
        self.rules.kind()
    }

    fn cfs(&self) -> Cfs {
        Cfs::new(self.context)
    }

    /// Waits for the lock that serialises changes of a guest's config and state on this node.
    ///
    /// # Errors
    /// `can't lock file '…' - got timeout`
    pub fn lock(&self, vmid: VmId, timeout: Duration) -> Result<FileLock, GuestError> {
        let path = self.context.site.path(lock_path(self.kind(), vmid));
        Ok(FileLock::exclusive(&path, timeout)?)
    }

    /// Reads the config of a guest of this node. What cannot be used of it goes to the log.
    ///
    /// # Errors
    /// [`GuestError::NotFound`]
    pub fn load(&self, vmid: VmId) -> Result<GuestConfig, GuestError> {
        self.load_from(&self.context.site.node, vmid)
    }

    /// Reads the config of a guest of any node.
    ///
    /// # Errors
    /// [`GuestError::NotFound`]
    pub fn load_from(&self, node: &NodeName, vmid: VmId) -> Result<GuestConfig, GuestError> {
        let path = Cfs::guest_config_path(self.kind(), node, vmid);
        let Some(raw) = self.cfs().read(&path)? else {
            return Err(GuestError::NotFound(path));
        };
        let parsed = GuestConfig::parse(self.rules, vmid, &raw);
        for warning in &parsed.warnings {
            log::warn!("{warning}");
        }
        Ok(parsed.config)
    }

    /// Writes the config of a guest of this node.
    ///
    /// # Errors
    /// What the guest type's last check or the file system says.
    pub fn save(&self, vmid: VmId, config: &mut GuestConfig) -> Result<(), GuestError> {
        let raw = self.text(config)?;
        self.cfs().write(&self.path(vmid), raw.as_bytes())?;
        config.set_digest_of(raw.as_bytes());
        Ok(())
    }

    /// Writes the config of a guest that is new in the cluster.
    ///
    /// # Errors
    /// `VM 105 already exists on node 'n1'`, of whichever kind the other guest is.
    pub fn create(&self, vmid: VmId, config: &mut GuestConfig) -> Result<(), GuestError> {
        let raw = self.text(config)?;
        let cfs = self.cfs();
        cfs.check_vmid_free(vmid)?;
        cfs.make_dir(&format!("nodes/{}/{}", self.context.site.node, self.kind().folder()))?;
        match cfs.create(&self.path(vmid), raw.as_bytes()) {
            Ok(()) => {}
            // Somebody was faster: say it in the words for that.
            Err(CfsError::Exists { .. }) => cfs.check_vmid_free(vmid)?,
            Err(error) => return Err(error.into()),
        }
        config.set_digest_of(raw.as_bytes());
        Ok(())
    }

    /// Removes the config of a guest of this node: whether there was one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, vmid: VmId) -> Result<bool, GuestError> {
        Ok(self.cfs().remove(&self.path(vmid))?)
    }

    fn path(&self, vmid: VmId) -> String {
        Cfs::guest_config_path(self.kind(), &self.context.site.node, vmid)
    }

    fn text(&self, config: &mut GuestConfig) -> Result<String, GuestError> {
        self.rules.before_write(config).map_err(GuestError::Unwritable)?;
        config.check_lines()?;
        Ok(config.print())
    }
}

/// The built-in path of the file whose `flock` serialises changes of a config (reference 06a §1, 07 §1).
fn lock_path(kind: GuestKind, vmid: VmId) -> String {
    match kind {
        GuestKind::Qemu => format!("/var/lock/qemu-server/lock-{vmid}.conf"),
        GuestKind::Lxc => format!("/run/lock/lxc/pve-config-{vmid}.lock"),
    }
}
