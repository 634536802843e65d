//! A site in a temporary directory.

#![allow(clippy::unwrap_used)]

use std::fs;

use pve_schema::site::Ids;
use pve_schema::{Context, Site};
use tempfile::TempDir;

/// A site, which goes with its directory.
pub(crate) fn site() -> (TempDir, Context) {
    let dir = tempfile::tempdir().unwrap();
    let owner = Ids {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
    };
    let site = Site {
        root: dir.path().to_owned(),
        instance: None,
        address: "127.0.0.1".parse().unwrap(),
        node: "lab1".parse().unwrap(),
        root_user: owner,
        web_user: owner,
    };
    fs::create_dir_all(site.etc_pve()).unwrap();
    (dir, Context::new(site))
}
