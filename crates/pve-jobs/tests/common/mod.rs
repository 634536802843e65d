//! A site in a temporary directory.

#![allow(clippy::unwrap_used)]

use pve_schema::Context;
use std::fs;
use tempfile::TempDir;

/// A site, which goes with its directory.
pub(crate) fn site() -> (TempDir, Context) {
    let dir = tempfile::tempdir().unwrap();
    let site = pve_testing::site(dir.path(), "lab1");
    fs::create_dir_all(site.etc_pve()).unwrap();
    (dir, Context::new(site))
}
