//! Nodes and guests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text_newtype;

/// A node's short host name: letters, digits and inner hyphens (reference 03 §5.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// A text that is no node name.
#[derive(Debug, thiserror::Error)]
#[error("value does not look like a valid node name")]
pub struct InvalidNodeName;

impl TryFrom<String> for NodeName {
    type Error = InvalidNodeName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = text.as_bytes();
        let inner = bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
        let ends =
            bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
        if inner && ends {
            Ok(Self(text))
        } else {
            Err(InvalidNodeName)
        }
    }
}

text_newtype!(NodeName, InvalidNodeName);

/// A guest's number, unique in the cluster over VMs and containers: 100 to 999999999 (reference 06a §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct VmId(u32);

/// A text or number that is no VMID.
#[derive(Debug, thiserror::Error)]
#[error("value does not look like a valid VM ID")]
pub struct InvalidVmId;

impl VmId {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for VmId {
    type Error = InvalidVmId;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if (100..=999_999_999).contains(&number) {
            Ok(Self(number))
        } else {
            Err(InvalidVmId)
        }
    }
}

impl From<VmId> for u32 {
    fn from(vmid: VmId) -> Self {
        vmid.0
    }
}

impl FromStr for VmId {
    type Err = InvalidVmId;

    /// Canonical decimal digits only: no sign, no leading zero.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        if !canonical {
            return Err(InvalidVmId);
        }
        text.parse::<u32>().map_err(|_| InvalidVmId)?.try_into()
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
