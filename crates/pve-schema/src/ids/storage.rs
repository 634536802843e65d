//! Storages and volumes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text_newtype;

/// A storage's name: `[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]` (reference 08 §1.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StorageId(String);

/// A text that is no storage id.
#[derive(Debug, thiserror::Error)]
pub enum InvalidStorageId {
    /// Fewer than two characters.
    #[error("storage ID '{0}' cannot be shorter than 2 characters")]
    TooShort(String),
    /// Anything else.
    #[error("storage ID '{0}' contains illegal characters")]
    IllegalCharacters(String),
}

impl TryFrom<String> for StorageId {
    type Error = InvalidStorageId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.chars().count() < 2 {
            return Err(InvalidStorageId::TooShort(text));
        }
        let bytes = text.as_bytes();
        let inner = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
        let ends =
            bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
        if inner && ends {
            Ok(Self(text))
        } else {
            Err(InvalidStorageId::IllegalCharacters(text))
        }
    }
}

text_newtype!(StorageId, InvalidStorageId);

/// A volume's full name, `STORAGE:NAME`. What a volume name means is the storage type's affair (reference 08 §3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId {
    /// The storage.
    pub storage: StorageId,
    /// The volume's name inside the storage, never empty.
    pub name: String,
}

/// A text that is no volume id.
#[derive(Debug, thiserror::Error)]
#[error("unable to parse volume ID '{0}'")]
pub struct InvalidVolumeId(pub String);

impl FromStr for VolumeId {
    type Err = InvalidVolumeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidVolumeId(text.to_owned());
        let (storage, name) = text.split_once(':').ok_or_else(invalid)?;
        if name.is_empty() || name.contains('\n') {
            return Err(invalid());
        }
        Ok(Self {
            storage: storage.parse().map_err(|_| invalid())?,
            name: name.to_owned(),
        })
    }
}

impl TryFrom<String> for VolumeId {
    type Error = InvalidVolumeId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<VolumeId> for String {
    fn from(volume: VolumeId) -> Self {
        volume.to_string()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.storage, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_ids_split_at_the_first_colon() {
        let volume: VolumeId = "L-x_1.9:foo:bar".parse().unwrap();
        assert_eq!((volume.storage.as_str(), volume.name.as_str()), ("L-x_1.9", "foo:bar"));
        for bad in ["a:b", "local:", "9ab:c", "ab-:c", "local"] {
            assert!(bad.parse::<VolumeId>().is_err(), "{bad}");
        }
    }
}
