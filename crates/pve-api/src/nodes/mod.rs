//! `/nodes`

mod bulk;
mod charts;
mod config;
mod guest;
mod index;
mod journal;
pub(crate) mod lxc;
mod netstat;
pub(crate) mod node_row;
pub(crate) mod qemu;
mod replication;
mod services;
mod status;
mod storage;
mod subscription;
mod tasks;
mod terminal;
mod version;
mod viewer;
mod vzdump;
mod wake_on_lan;

use pve_contract::id;
use pve_rest::Registry;

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES, |call| Box::pin(index::nodes(call)));
    registry.bind(id::GET_NODES_NODE, |call| Box::pin(index::node(call)));
    registry.bind(id::GET_NODES_NODE_STATUS, |call| Box::pin(status::read(call)));
    registry.bind(id::POST_NODES_NODE_STATUS, |call| Box::pin(status::command(call)));
    registry.bind(id::GET_NODES_NODE_JOURNAL, |call| Box::pin(journal::journal(call)));
    registry.bind(id::GET_NODES_NODE_NETSTAT, |call| Box::pin(netstat::netstat(call)));
    registry.bind(id::GET_NODES_NODE_VERSION, |call| Box::pin(version::version(call)));
    bulk::register(registry);
    config::register(registry);
    wake_on_lan::register(registry);
    lxc::register(registry);
    qemu::register(registry);
    charts::register(registry);
    replication::register(registry);
    services::register(registry);
    storage::register(registry);
    subscription::register(registry);
    tasks::register(registry);
    terminal::register(registry);
    vzdump::register(registry);
}

/// Adds the kinds of task that are defined below this folder.
pub(crate) fn register_tasks(kinds: &mut pve_task::Kinds) {
    bulk::register_tasks(kinds);
    qemu::destroy::register_tasks(kinds);
    services::register_tasks(kinds);
    terminal::register_tasks(kinds);
}
