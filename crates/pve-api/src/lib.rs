//! The handlers of the root daemon, one per method of the contract. The folders mirror the URL tree:
//! `GET /nodes/{node}/storage/{storage}/content` lives in `nodes/storage/content.rs`.

mod access;
mod cluster;
mod nodes;
mod pools;
mod storage;
mod task;
#[cfg(test)]
mod tests;

use pve_rest::Registry;

/// Binds every handler of this crate.
pub fn register(registry: &mut Registry) {
    access::register(registry);
    cluster::register(registry);
    nodes::register(registry);
    pools::register(registry);
    storage::register(registry);
}

/// Adds every kind of task that a handler of this crate starts.
pub fn register_tasks(kinds: &mut pve_task::Kinds) {
    nodes::register_tasks(kinds);
    pve_qemu::tasks::register_tasks(kinds);
    pve_storage::register_tasks(kinds);
    pve_backup::register_tasks(kinds);
    pve_jobs::register_tasks(kinds);
}
