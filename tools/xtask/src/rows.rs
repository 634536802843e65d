//! `cargo xtask rows`: a crate imports only crates of lower rows (docs/decisions/0001-rows-of-crates.md), and the map
//! of the project shows every crate.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::metadata::{Metadata, Package};

/// One row, lowest first.
#[derive(Debug, Deserialize)]
struct Row {
    name: String,
    crates: Vec<String>,
}

/// Where a newcomer looks crates up.
const MAP: &str = "ARCHITECTURE.md";

/// Checks the whole workspace.
pub(crate) fn check(metadata: &Metadata) -> Result<String> {
    let order = metadata.metadata.pointer("/rows/order").cloned();
    let order = order.context("Cargo.toml: no [workspace.metadata.rows] order; put it back")?;
    let rows: Vec<Row> = serde_json::from_value(order).context("Cargo.toml: [workspace.metadata.rows] order")?;
    let map = metadata.workspace_root.join(MAP);
    let map = fs::read_to_string(&map).with_context(|| map.display().to_string())?;
    let mut faults = faults(metadata, &rows);
    faults.extend(missing_on_map(&map, &rows));
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(format!(
        "rows: {} crates in {} rows, no import upward or sideways",
        metadata.packages.len(),
        rows.len()
    ))
}

/// Every crate that the map does not name.
fn missing_on_map(map: &str, rows: &[Row]) -> Vec<String> {
    let names = rows.iter().flat_map(|row| &row.crates);
    names
        .filter(|name| !map.contains(&format!("`{name}`")))
        .map(|name| format!("{MAP}: {name} is missing; add it to the table of crates"))
        .collect()
}

/// Every breach, with the file and what to do.
fn faults(metadata: &Metadata, rows: &[Row]) -> Vec<String> {
    let mut place = HashMap::new();
    let mut faults = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        for name in &row.crates {
            if place.insert(name.as_str(), at).is_some() {
                faults.push(format!(
                    "Cargo.toml: {name} stands in two rows; leave it in the lower one"
                ));
            }
        }
    }
    let own: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| !is_tool(metadata, package))
        .collect();
    for package in &own {
        let file = file(metadata, package);
        let Some(here) = place.get(package.name.as_str()) else {
            faults.push(format!(
                "{file}: {} is in no row; add it to [workspace.metadata.rows] in Cargo.toml",
                package.name
            ));
            continue;
        };
        // Tests may import what they like: nobody depends on them.
        let imports = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        for import in imports {
            let Some(there) = place.get(import.name.as_str()).filter(|there| *there >= here) else {
                continue;
            };
            let direction = if there == here { "sideways" } else { "upward" };
            let row = |at: usize| rows.get(at).map_or("", |row| row.name.as_str());
            faults.push(format!(
                "{file}: {} (row '{}') imports {} (row '{}'), {direction}; move what both need to a lower row",
                package.name,
                row(*here),
                import.name,
                row(*there),
            ));
        }
    }
    for name in place
        .keys()
        .filter(|name| !own.iter().any(|package| package.name == **name))
    {
        faults.push(format!(
            "Cargo.toml: row entry {name} is no crate of the workspace; remove it"
        ));
    }
    faults.sort();
    faults
}

/// Tools stand outside of the rows: nothing imports them.
fn is_tool(metadata: &Metadata, package: &Package) -> bool {
    package.manifest_path.starts_with(metadata.workspace_root.join("tools"))
}

fn file(metadata: &Metadata, package: &Package) -> String {
    let path = package
        .manifest_path
        .strip_prefix(&metadata.workspace_root)
        .unwrap_or(&package.manifest_path);
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults_of(packages: serde_json::Value) -> Vec<String> {
        let metadata: Metadata = serde_json::from_value(json!({"packages": packages, "workspace_root": "/w"})).unwrap();
        let rows = json!([{"name": "low", "crates": ["a", "b"]}, {"name": "high", "crates": ["c"]}]);
        faults(&metadata, &serde_json::from_value::<Vec<Row>>(rows).unwrap())
    }

    fn package(name: &str, folder: &str, imports: serde_json::Value) -> serde_json::Value {
        json!({
            "name": name, "version": "0.1.0", "license": null, "source": null,
            "manifest_path": format!("/w/{folder}/{name}/Cargo.toml"), "dependencies": imports,
        })
    }

    #[test]
    fn imports_go_downward() {
        let import = |name: &str| json!([{"name": name, "kind": null}]);
        let good = json!([
            package("a", "crates", import("serde")),
            package("b", "crates", json!([{"name": "c", "kind": "dev"}])),
            package("c", "crates", import("a")),
            package("t", "tools", import("c")),
        ]);
        assert_eq!(faults_of(good), Vec::<String>::new());
    }

    #[test]
    fn the_map_shows_every_crate() {
        let row = Row {
            name: "low".to_owned(),
            crates: vec!["pve-a".to_owned(), "pve-ab".to_owned()],
        };
        assert_eq!(
            missing_on_map("| low | [`pve-ab`](crates/pve-ab) | does things |", &[row]),
            ["ARCHITECTURE.md: pve-a is missing; add it to the table of crates"]
        );
    }

    #[test]
    fn every_breach_is_told_with_its_file() {
        let import = |name: &str| json!([{"name": name, "kind": null}]);
        let bad = json!([
            package("a", "crates", import("b")),
            package("b", "crates", import("c")),
            package("d", "crates", json!([])),
        ]);
        let faults = faults_of(bad);
        assert_eq!(faults.len(), 4, "{faults:#?}");
        assert!(faults[0].starts_with("Cargo.toml: row entry c is no crate"));
        assert!(faults[1].starts_with("crates/a/Cargo.toml: a (row 'low') imports b (row 'low'), sideways"));
        assert!(faults[2].starts_with("crates/b/Cargo.toml: b (row 'low') imports c (row 'high'), upward"));
        assert!(faults[3].starts_with("crates/d/Cargo.toml: d is in no row"));
    }
}
