//! Where one instance of the suite lives.
//!
//! Every built-in path goes through [`Site::path`], so a whole suite runs under any root beside others on the same
//! host. A path that a user configured (a storage's `path`, say) is taken as it is. What cannot be rooted – names in the
//! kernel: tap devices, control groups, scopes, files in `/dev/shm` – carries the [`Instance`] mark instead.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::ids::NodeName;

/// A user and its main group, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
}

/// The mark that sets the kernel names of a lab apart: 1 to 3 characters of `[a-z0-9]`, because an interface name has
/// 15 in all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instance(String);

impl Instance {
    /// The mark as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no instance mark.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no instance name: use 1 to 3 of the characters a-z and 0-9")]
pub struct InvalidInstance(String);

impl TryFrom<String> for Instance {
    type Error = InvalidInstance;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let valid = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if valid {
            Ok(Self(text))
        } else {
            Err(InvalidInstance(text))
        }
    }
}

impl From<Instance> for String {
    fn from(instance: Instance) -> Self {
        instance.0
    }
}

/// Where one instance of the suite lives and under which names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// What all built-in paths are below: `/`, or a lab's directory.
    pub root: PathBuf,
    /// Set in a lab: marks names in the kernel.
    pub instance: Option<Instance>,
    /// The address for what listens on loopback only (port 85, consoles): `127.0.0.1`, or a lab's own.
    pub address: IpAddr,
    /// This node's name.
    pub node: NodeName,
    /// The privileged side: owner of everything below `/etc/pve`.
    pub root_user: Ids,
    /// The web side: `www-data`, who may read what is not below a `priv` directory.
    pub web_user: Ids,
}

/// Room for what is most often put behind a built-in path: every request makes some of these.
const SPARE: usize = 32;

impl Site {
    /// A built-in absolute path, below this site's root.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let path = absolute.as_ref();
        let length = self.root.as_os_str().len() + path.as_os_str().len() + SPARE;
        let mut full = PathBuf::with_capacity(length);
        full.push(&self.root);
        full.push(path.strip_prefix("/").unwrap_or(path));
        full
    }

    /// `/etc/pve`: only `pve-cfs` opens what is below it.
    pub fn etc_pve(&self) -> PathBuf {
        self.path("/etc/pve")
    }

    /// Whether this is the machine's own instance rather than a lab.
    pub fn is_system(&self) -> bool {
        self.root == Path::new("/")
    }
}

/// What nearly every operation needs: the site and the clock.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where this instance lives.
    pub site: Arc<Site>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Context {
    /// A context on the machine's clock.
    pub fn new(site: Site) -> Self {
        Self {
            site: Arc::new(site),
            clock: Arc::new(SystemClock),
        }
    }

    /// The same site on another clock.
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self {
            site: Arc::clone(&self.site),
            clock,
        }
    }

    /// Seconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }
}
