//! The keys of a container's config, as the contract has them (reference 07 §2).

use pve_schema::schema::{Kind, Schema};

/// What the API calls parameters of a change, and no key.
const NO_KEYS: [&str; 6] = ["node", "vmid", "delete", "digest", "revert", "lxc"];

/// Names of what the API tells beside the keys: as keys they are neither written nor shown (reference 07 §1.2).
const RESERVED: [&str; 5] = ["digest", "lxc", "pending", "snapname", "snapshots"];

/// Whether a line that sets this sets nothing.
pub(crate) fn is_reserved(key: &str) -> bool {
    RESERVED.contains(&key)
}

/// What the contract says about a key's value: as a parameter, or, for a key that no user sets, as an answer.
fn schema(key: &str) -> Option<&'static Schema> {
    if NO_KEYS.contains(&key) {
        return None;
    }
    let update = pve_contract::method(pve_contract::id::PUT_NODES_NODE_LXC_VMID_CONFIG);
    let read = pve_contract::method(pve_contract::id::GET_NODES_NODE_LXC_VMID_CONFIG);
    update
        .parameter(key)
        .map(|parameter| parameter.schema)
        .or_else(|| read.returns.property(key))
}

/// The type of a key's value; `None` for no key. Snapshots have keys that the API does not show.
pub(crate) fn kind(key: &str) -> Option<Kind> {
    match key {
        "snaptime" => Some(Kind::Integer),
        "parent" | "snapstate" => Some(Kind::String),
        _ => schema(key).map(|schema| schema.kind),
    }
}

/// Checks a value by its key's format, if that has one.
pub(crate) fn check_format(key: &str, value: &str) -> Result<(), String> {
    let format = schema(key).and_then(|schema| schema.format);
    format.map_or(Ok(()), |format| format.check(value, ""))
}
