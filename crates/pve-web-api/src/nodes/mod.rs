//! `/nodes`

mod qemu;
mod websocket;

use pve_rest::Registry;

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    qemu::register(registry);
    websocket::register(registry);
}
