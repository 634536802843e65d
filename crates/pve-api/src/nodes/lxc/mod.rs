//! `/nodes/{node}/lxc`: what there is to see of containers.

mod config;
mod list;
mod status;

use pve_rest::Registry;

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    list::register(registry);
    config::register(registry);
    status::register(registry);
}
