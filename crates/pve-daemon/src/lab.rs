//! What a lab's directory says about itself: `pve-lab.conf`, written by `pve-lab`, read by whatever is started with
//! `--root`, so that every program agrees on the lab's address, instance mark and node name.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pve_schema::errno_text;
use pve_schema::ids::NodeName;
use pve_schema::site::Instance;

use crate::defaults::{self, DefaultsError};

/// The file's name, directly below the root.
pub const FILE: &str = "pve-lab.conf";

/// What a lab's directory says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lab {
    /// The mark of its kernel names.
    pub instance: Option<Instance>,
    /// The loopback address of its daemons.
    pub address: Option<IpAddr>,
    /// The node's name.
    pub node: Option<NodeName>,
}

/// The file is wrong.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] DefaultsError),
    /// It cannot be written.
    #[error("unable to write '{}' - {}", .path.display(), errno_text(.error))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A value is none.
    #[error("'{}': invalid {key} '{value}'", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// What is set.
        key: &'static str,
        /// To what.
        value: String,
    },
}

/// Reads the file of a root directory; nothing is known where there is none.
///
/// # Errors
/// When the file is wrong.
pub fn read(root: &Path) -> Result<Lab, LabError> {
    let path = root.join(FILE);
    let mut variables = defaults::read(&path, &["PVE_LAB_INSTANCE", "PVE_LAB_ADDRESS", "PVE_LAB_NODE"])?;
    let invalid = |key, value: &str| LabError::Value {
        path: path.clone(),
        key,
        value: value.to_owned(),
    };
    let mut lab = Lab::default();
    if let Some(value) = variables.remove("PVE_LAB_INSTANCE") {
        lab.instance = Some(Instance::try_from(value.clone()).map_err(|_| invalid("PVE_LAB_INSTANCE", &value))?);
    }
    if let Some(value) = variables.remove("PVE_LAB_ADDRESS") {
        lab.address = Some(value.parse().map_err(|_| invalid("PVE_LAB_ADDRESS", &value))?);
    }
    if let Some(value) = variables.remove("PVE_LAB_NODE") {
        lab.node = Some(value.parse().map_err(|_| invalid("PVE_LAB_NODE", &value))?);
    }
    Ok(lab)
}

/// Writes the file of a root directory.
///
/// # Errors
/// When it cannot be written.
pub fn write(root: &Path, lab: &Lab) -> Result<(), LabError> {
    let path = root.join(FILE);
    let mut text = "# What this lab is; written by pve-lab at its first start.\n".to_owned();
    if let Some(instance) = &lab.instance {
        text.push_str(&format!("PVE_LAB_INSTANCE={}\n", instance.as_str()));
    }
    if let Some(address) = lab.address {
        text.push_str(&format!("PVE_LAB_ADDRESS={address}\n"));
    }
    if let Some(node) = &lab.node {
        text.push_str(&format!("PVE_LAB_NODE={node}\n"));
    }
    let temporary = root.join(format!("{FILE}.new"));
    let write = || {
        std::fs::write(&temporary, text)?;
        std::fs::File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|error| LabError::Write {
        path: path.clone(),
        error,
    })
}

/// The instance mark that a root directory has unless it was given another: three characters of a hash of its path, so
/// that programs which know nothing else agree.
///
/// # Errors
/// None: every hash gives a valid mark.
pub fn derived_instance(root: &Path) -> Option<Instance> {
    use std::os::unix::ffi::OsStrExt as _;
    // FNV-1a: stable across builds and machines, which std's hasher does not promise.
    let hash = root
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
    // A letter first: `tap1100i0` would read as guest 1100 of the system.
    let letter = digits.get(10 + (hash % 26) as usize)?;
    let second = digits.get(((hash / 26) % 36) as usize)?;
    let third = digits.get(((hash / 26 / 36) % 36) as usize)?;
    let mark = [*letter, *second, *third]
        .iter()
        .map(|byte| char::from(*byte))
        .collect::<String>();
    Instance::try_from(mark).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_reads_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Lab::default());
        let lab = Lab {
            instance: derived_instance(dir.path()),
            address: Some(IpAddr::from([127, 0, 0, 9])),
            node: Some("lab".parse().unwrap()),
        };
        assert!(lab.instance.is_some());
        write(dir.path(), &lab).unwrap();
        assert_eq!(read(dir.path()).unwrap(), lab);
    }

    #[test]
    fn wrong_values_are_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "PVE_LAB_ADDRESS=localhost\n").unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("invalid PVE_LAB_ADDRESS 'localhost'"), "{error}");
    }

    #[test]
    fn roots_have_marks_of_their_own() {
        let (one, two) = (
            derived_instance(Path::new("/tmp/a")),
            derived_instance(Path::new("/tmp/b")),
        );
        assert!(one.is_some() && one != two);
        assert_eq!(one, derived_instance(Path::new("/tmp/a")));
    }
}
