//! What can be wrong with a VM's config.

use std::collections::BTreeMap;

use pve_schema::{Failure, ParamErrors};

/// What can be wrong with a VM's config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value does not follow its key's format.
    #[error("{message}")]
    Format {
        /// The key.
        key: String,
        /// What the format check says.
        message: String,
    },
    /// A drive's text is none, or its options exclude each other.
    #[error("unable to parse drive options")]
    Drive {
        /// The key.
        key: String,
    },
    /// A feature that is none.
    #[error("invalid hotplug feature '{0}'")]
    Hotplug(String),
    /// A boot device that is none.
    #[error("invalid boot device '{0}'")]
    BootDevice(String),
    /// The machine type and the vIOMMU do not go together.
    #[error("to use Intel vIOMMU please set the machine type to q35")]
    IntelIommuNeedsQ35,
    /// Intel's vIOMMU knows two widths.
    #[error("Intel vIOMMU supports only 39 or 48 bits as address width")]
    IntelIommuBits,
    /// A width without a vIOMMU.
    #[error("cannot set aw-bits if no vIOMMU is configured")]
    AddressBitsWithoutIommu,
}

impl Failure for ConfigError {}

/// A failure that a client sees as a 400 at one parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Parameter verification failed.")]
pub struct ParameterError(ParamErrors);

impl ParameterError {
    /// An error at one parameter.
    pub fn at(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self(BTreeMap::from([(name.into(), text.into())]))
    }

    /// The errors by parameter.
    pub fn errors(&self) -> &ParamErrors {
        &self.0
    }
}

impl From<ParamErrors> for ParameterError {
    fn from(errors: ParamErrors) -> Self {
        Self(errors)
    }
}

impl Failure for ParameterError {
    fn status(&self) -> u16 {
        400
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        Some(&self.0)
    }
}
