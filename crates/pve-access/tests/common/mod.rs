//! A site of its own in a temporary directory, with a clock that stands still.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::sync::Arc;

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_schema::clock::ManualClock;
use pve_schema::{Clock as _, Context, SystemClock};

pub struct Lab {
    pub context: Context,
    pub clock: Arc<ManualClock>,
    pub cfs: Cfs,
    _root: tempfile::TempDir,
}

impl Lab {
    /// A lab with a key pair, made at the time that its clock shows.
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let site = pve_testing::site(root.path(), "node1");
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let context = Context::new(site).with_clock(clock.clone());
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("pve-www.key", b"a secret of this lab\n").unwrap();
        pve_access::ticket::generate_auth_key(&context).unwrap();
        // Making the key takes its time on a busy machine, and a key's age is that of its file.
        clock.set(cfs.stamp("authkey.pub").unwrap().unwrap().mtime());
        Self {
            context,
            clock,
            cfs,
            _root: root,
        }
    }

    pub fn with_users(text: &str) -> Self {
        let lab = Self::new();
        lab.cfs.write("user.cfg", text.as_bytes()).unwrap();
        lab
    }

    pub fn access(&self) -> AccessControl {
        AccessControl::load(&self.context).unwrap()
    }

    pub fn read(&self, rel: &str) -> String {
        self.cfs.read_text(rel).unwrap().unwrap_or_default()
    }

    /// Moves the clock.
    pub fn pass(&self, seconds: i64) {
        self.clock.set(self.clock.now() + seconds);
    }
}
