//! `cargo xtask coverage`: which methods of the contract have a handler.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use pve_contract::{Method, RELEASE, methods};
use pve_rest::Registry;

use crate::metadata;

/// The table's file, from the workspace's folder.
const FILE: &str = "docs/coverage.md";

fn path() -> PathBuf {
    metadata::root().join(FILE)
}

/// Writes the table.
pub(crate) fn write() -> Result<String> {
    fs::write(path(), table(&registry())).with_context(|| FILE.to_owned())?;
    Ok(format!("coverage: wrote {FILE}"))
}

/// Compares the table with what it should be.
pub(crate) fn check() -> Result<String> {
    let found = fs::read_to_string(path()).unwrap_or_default();
    if found != table(&registry()) {
        bail!("{FILE}: out of date; run `cargo xtask coverage` and commit the file");
    }
    Ok(format!("coverage: {FILE} is up to date"))
}

/// All handlers of the suite.
fn registry() -> Registry {
    let mut registry = Registry::new();
    pve_api::register(&mut registry);
    pve_web_api::register(&mut registry);
    registry
}

/// The methods of one area.
#[derive(Default)]
struct Area {
    bound: Vec<&'static Method>,
    total: usize,
}

fn table(registry: &Registry) -> String {
    let mut areas: BTreeMap<String, Area> = BTreeMap::new();
    for method in methods() {
        let area = areas.entry(area(method.path)).or_default();
        area.total += 1;
        if registry.get(method.id).is_some() {
            area.bound.push(method);
        }
    }
    let bound: usize = areas.values().map(|area| area.bound.len()).sum();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# Coverage\n\n\
         Written by `cargo xtask coverage`: {bound} of the {total} methods of release {RELEASE} have a handler. The others \
         answer 501, after\nthe permission check.\n\n\
         | area | implemented | methods |\n|---|---:|---:|",
        total = methods().len(),
    );
    for (name, area) in &areas {
        let _ = writeln!(out, "| `{name}` | {} | {} |", area.bound.len(), area.total);
    }
    out.push_str("\n## Implemented\n");
    for (name, area) in areas.iter().filter(|(_, area)| !area.bound.is_empty()) {
        let _ = writeln!(out, "\n### `{name}`\n");
        for method in &area.bound {
            let _ = writeln!(out, "- `{} {}`", method.verb, method.path);
        }
    }
    out
}

/// A method's area: the first components of its path, one more where the tree is wide.
fn area(path: &str) -> String {
    let components: Vec<&str> = path.split('/').filter(|component| !component.is_empty()).collect();
    let depth = match components.first() {
        Some(&"nodes") => 3,
        Some(&"cluster") => 2,
        _ => 1,
    };
    components
        .iter()
        .take(depth)
        .fold(String::new(), |area, component| area + "/" + component)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_contract::id;

    #[test]
    fn areas_are_the_first_components() {
        assert_eq!(area("/nodes/{node}/qemu/{vmid}/config"), "/nodes/{node}/qemu");
        assert_eq!(area("/cluster/ha/rules"), "/cluster/ha");
        assert_eq!(area("/access/users/{userid}"), "/access");
        assert_eq!(area("/nodes"), "/nodes");
    }

    #[test]
    fn only_bound_methods_count() {
        let mut registry = Registry::new();
        registry.bind(id::GET_VERSION, |_| Box::pin(async { Ok(pve_rest::Reply::null()) }));
        let table = table(&registry);
        assert!(table.contains("1 of the 675 methods"));
        assert!(table.contains("| `/version` | 1 | 1 |"));
        assert!(table.contains("| `/pools` | 0 | "));
        assert!(table.contains("\n- `GET /version`\n"));
    }
}
