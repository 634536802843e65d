//! A VM's config: its keys, their types, and what is read from them (reference 06a §3).
//!
//! The config itself is `pve_guest::GuestConfig`, an ordered map of text; [`VmConfig`] looks at one of its sections
//! through the types of the keys. Nothing here touches the system.

pub mod agent;
pub mod boot;
pub mod drive;
pub mod drive_key;
pub mod error;
pub mod hotplug;
pub mod json;
pub mod keys;
pub mod machine;
pub mod net;
pub mod ostype;
pub mod props;
mod rules;
pub mod version;
pub mod vga;
mod view;

pub use agent::{Agent, AgentPort};
pub use boot::Boot;
pub use drive::{Drive, Source};
pub use drive_key::{Bus, DriveKey};
pub use error::{ConfigError, ParameterError};
pub use keys::{Feature, KeyInfo, Live, Need};
pub use machine::{Chipset, Machine, MachineType, Viommu};
pub use net::Net;
pub use ostype::OsType;
pub use props::Props;
pub use pve_schema::size::{parse as parse_size, print as format_size};
pub use rules::VmRules;
pub use version::Version;
pub use vga::Vga;
pub use view::VmConfig;
