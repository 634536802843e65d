//! The handlers that the web daemon runs itself, because they need no privilege. The folders mirror the URL tree.

use pve_rest::Registry;

/// Binds every handler of this crate.
pub fn register(_registry: &mut Registry) {}
