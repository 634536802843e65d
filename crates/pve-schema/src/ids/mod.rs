//! Names that can hold only valid values.

mod access;
mod guest;
mod storage;
mod upid;

pub use access::{AuthId, InvalidUserId, TokenId, UserId};
pub use guest::{InvalidNodeName, InvalidVmId, NodeName, VmId};
pub use storage::{InvalidStorageId, InvalidVolumeId, StorageId, VolumeId};
pub use upid::{InvalidUpid, Upid};

/// Implements the text traits of a newtype over `String` whose constructor is `TryFrom<String>`.
macro_rules! text_newtype {
    ($name:ident, $error:ident) => {
        impl $name {
            /// The value as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}
use text_newtype;
