//! `/nodes/{node}/storage` (reference 08 §8)

mod content;
mod prune;
mod status;
mod upload;
mod volume;

use pve_contract::id;
use pve_rest::Registry;

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_STORAGE, |call| Box::pin(status::list(call)));
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE, |call| Box::pin(status::index(call)));
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE_STATUS, |call| {
        Box::pin(status::one(call))
    });
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE_CONTENT, |call| {
        Box::pin(content::list(call))
    });
    registry.bind(id::POST_NODES_NODE_STORAGE_STORAGE_CONTENT, |call| {
        Box::pin(content::create(call))
    });
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE_CONTENT_VOLUME, |call| {
        Box::pin(volume::read(call))
    });
    registry.bind(id::PUT_NODES_NODE_STORAGE_STORAGE_CONTENT_VOLUME, |call| {
        Box::pin(volume::update(call))
    });
    registry.bind(id::DELETE_NODES_NODE_STORAGE_STORAGE_CONTENT_VOLUME, |call| {
        Box::pin(volume::delete(call))
    });
    registry.bind(id::POST_NODES_NODE_STORAGE_STORAGE_UPLOAD, |call| {
        Box::pin(upload::upload(call))
    });
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE_PRUNEBACKUPS, |call| {
        Box::pin(prune::dry_run(call))
    });
    registry.bind(id::DELETE_NODES_NODE_STORAGE_STORAGE_PRUNEBACKUPS, |call| {
        Box::pin(prune::delete(call))
    });
}
