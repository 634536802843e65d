//! A site in a temporary directory.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use pve_schema::Context;
use pve_storage::{StorageError, Storages};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A site whose files go when it does.
pub struct Lab {
    pub dir: TempDir,
    pub context: Context,
}

impl Lab {
    /// A site with this `storage.cfg`; `BASE` in it is a directory beside the site's own.
    pub fn new(storage_cfg: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let site = pve_testing::site(&root, "n1");
        fs::create_dir_all(root.join("etc/pve/nodes/n1/lxc")).unwrap();
        let lab = Self {
            context: Context::new(site),
            dir,
        };
        fs::create_dir_all(lab.base()).unwrap();
        lab.configure(storage_cfg);
        lab
    }

    /// Replaces `storage.cfg`.
    pub fn configure(&self, storage_cfg: &str) {
        let text = storage_cfg.replace("BASE", &self.base().display().to_string());
        fs::write(self.context.site.etc_pve().join("storage.cfg"), text).unwrap();
    }

    /// The directory for storages.
    pub fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    pub fn storages(&self) -> Storages {
        Storages::open(&self.context).unwrap()
    }

    /// Makes a file below the base directory.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.base().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

/// The text of what went wrong.
pub fn text<T>(result: Result<T, StorageError>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}
