//! `/nodes/{node}/qemu`

mod config;
mod console;
mod create;
pub(crate) mod destroy;
mod keys;
mod list;
mod power;
mod resize;
mod shared;
mod status;

use pve_rest::Registry;

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    list::register(registry);
    create::register(registry);
    destroy::register(registry);
    config::register(registry);
    status::register(registry);
    power::register(registry);
    resize::register(registry);
    keys::register(registry);
    console::register(registry);
}
