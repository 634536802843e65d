//! Why a config is not changed.

use pve_access::AccessError;
use pve_daemon::command::CommandError as RunError;
use pve_guest::GuestError;
use pve_schema::{Failure, ParamErrors};
use pve_storage::StorageError;

use crate::config::{ConfigError, DriveKey, ParameterError};

/// Why a config is not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The config's state, or its file.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A value.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Parameters are at fault.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A storage or a volume.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A privilege is missing, or a password cannot be hashed.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// An image cannot be written.
    #[error(transparent)]
    Image(#[from] RunError),
    /// A tag is not the caller's to change.
    #[error("Permission check failed ({0})")]
    Permission(String),
    /// A key that only root may touch.
    #[error("only root can set '{0}' config")]
    RootOnly(String),
    /// A device of the node, which only root may hand out.
    #[error("only root can set '{0}' config for real devices")]
    RootOnlyDevice(String),
    /// Nothing was asked for.
    #[error("no options specified")]
    Nothing,
    /// The keys are no keys.
    #[error("SSH public key validation error")]
    SshKeys,
    /// Set and reverted at once.
    #[error("you can't use '-{0}' and -delete {0} at the same time")]
    SetAndDelete(String),
    /// The balloon is larger than the memory.
    #[error("balloon value too large (must be smaller than assigned memory)")]
    Balloon,
    /// The boot order names what is not there. The last quote is upstream's.
    #[error("invalid bootorder: device '{0}' does not exist'")]
    BootOrder(String),
    /// The VM is protected.
    #[error("can't remove unused disk '{0}' - protection mode enabled")]
    ProtectedUnused(String),
    /// The VM is protected.
    #[error("can't remove drive '{0}' - protection mode enabled")]
    ProtectedDrive(String),
    /// A snapshot, or a drive, needs the volume.
    #[error("unable to delete '{0}' - volume is still in use (snapshot?)")]
    InUse(String),
    /// There is no number left for an unused volume.
    #[error("too many unused volumes - please delete them first")]
    NoUnusedSlot,
    /// Where to put a new disk is not said.
    #[error("no storage ID specified (and no default storage)")]
    NoStorage,
    /// No such volume.
    #[error("volume {0} does not exist")]
    NoVolume(String),
    /// The volume has another format.
    #[error("drive '{key}' - format '{given}' does not match the volume's format '{actual}'")]
    Format {
        /// The drive.
        key: DriveKey,
        /// What was said.
        given: String,
        /// What it is.
        actual: String,
    },
    /// A VM has one cloud-init drive.
    #[error("{key} - cloud-init drive is already attached at '{other}'")]
    SecondCloudinit {
        /// The new one.
        key: DriveKey,
        /// The old one.
        other: DriveKey,
    },
    /// The TPM's version belongs to its state.
    #[error("cannot change TPM state version after creation")]
    TpmVersion,
    /// The script is none.
    #[error("'{0}' is not in the snippets directory")]
    HookNotSnippet(String),
    /// The script is gone.
    #[error("script '{0}' does not exist")]
    HookMissing(String),
    /// The script cannot be run.
    #[error("script '{0}' is not executable")]
    HookNotExecutable(String),
    /// The firmware's template is not installed.
    #[error("EFI vars image not found")]
    NoEfiVars,
    /// What was asked for is not built.
    #[error("{0} is not supported by this build yet")]
    NotYet(&'static str),
    /// A random number cannot be had.
    #[error("unable to get random numbers - {0}")]
    Random(String),
}

impl UpdateError {
    /// An error at one parameter: status 400.
    pub(crate) fn at(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Parameter(ParameterError::at(name, text))
    }

    fn inner(&self) -> Option<&dyn Failure> {
        Some(match self {
            Self::Guest(error) => error,
            Self::Config(error) => error,
            Self::Parameter(error) => error,
            Self::Storage(error) => error,
            Self::Access(error) => error,
            Self::Image(error) => error,
            _ => return None,
        })
    }
}

impl Failure for UpdateError {
    fn status(&self) -> u16 {
        match self {
            Self::Permission(_) => 403,
            Self::NotYet(_) => 501,
            other => other.inner().map_or(500, Failure::status),
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        self.inner()?.param_errors()
    }
}
