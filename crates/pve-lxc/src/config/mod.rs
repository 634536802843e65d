//! A container's config: its keys, their types, and what is read from them (reference 07 §1, §2).
//!
//! The config itself is `pve_guest::GuestConfig`; [`ContainerConfig`] looks at one of its sections through the types of
//! the keys. Nothing here touches the system.

pub mod json;
mod keys;
mod raw;
mod rules;
mod view;

pub use rules::ContainerRules;
pub use view::ContainerConfig;
