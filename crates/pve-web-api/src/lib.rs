//! The handlers that the web daemon runs itself, because they need no privilege. The folders mirror the URL tree.

mod index;
mod nodes;
pub mod version;

use pve_rest::Registry;

/// Binds every handler of this crate.
pub fn register(registry: &mut Registry) {
    index::register(registry);
    nodes::register(registry);
    version::register(registry);
}
