//! `GET /`: where everything else is (reference 03 §1.1)

use pve_contract::{id, paths};
use pve_rest::{ApiResult, Registry};
use serde_json::{Value, json};

/// Binds the handler.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET, |_call| Box::pin(async { index() }));
}

/// The first components of all paths.
fn index() -> ApiResult {
    let mut names: Vec<&str> = paths().iter().filter_map(|path| path.split('/').nth(1)).collect();
    names.dedup();
    let rows = names.into_iter().map(|name| json!({ "subdir": name }));
    Ok(Value::from_iter(rows).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_begins_with_six_branches() {
        let names = ["access", "cluster", "nodes", "pools", "storage", "version"];
        let expected: Vec<_> = names.iter().map(|name| json!({ "subdir": name })).collect();
        assert_eq!(index().unwrap().data, json!(expected));
    }
}
