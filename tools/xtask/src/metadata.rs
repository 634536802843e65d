//! What `cargo metadata` tells of the workspace.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What to ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The workspace's own crates.
    Workspace,
    /// These and all they depend on, in the versions of `Cargo.lock`.
    Everything,
}

/// The answer, as far as the checks need it.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// The crates.
    pub(crate) packages: Vec<Package>,
    /// The workspace's folder.
    pub(crate) workspace_root: PathBuf,
    /// `[workspace.metadata]`
    #[serde(default)]
    pub(crate) metadata: serde_json::Value,
}

/// A crate.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its licence as an SPDX expression.
    pub(crate) license: Option<String>,
    /// Where it comes from; none for the workspace's own.
    pub(crate) source: Option<String>,
    /// Its `Cargo.toml`.
    pub(crate) manifest_path: PathBuf,
    /// What it asks for.
    pub(crate) dependencies: Vec<Dependency>,
}

/// What a crate asks for.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The name of the crate.
    pub(crate) name: String,
    /// `dev`, `build` or none for a normal one.
    pub(crate) kind: Option<String>,
}

/// Asks cargo.
pub(crate) fn load(scope: Scope) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1"]).current_dir(root());
    command.arg(if scope == Scope::Workspace {
        "--no-deps"
    } else {
        "--locked"
    });
    let output = command.output().context("cargo metadata could not be started")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata gave something unexpected")
}

/// The workspace's folder: this tool's own grandparent.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
