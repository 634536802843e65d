//! `cargo xtask licences`: every dependency's licence can be met from the list in `deny.toml`.

use std::fs;

use anyhow::{Context, Result, bail};
use spdx::{Expression, ParseMode};

use crate::metadata::{Metadata, Package};

/// The file with the list: `cargo deny` reads the same one.
const FILE: &str = "deny.toml";

/// Checks all crates of `Cargo.lock` that are not the workspace's own.
pub(crate) fn check(metadata: &Metadata) -> Result<String> {
    let text = fs::read_to_string(metadata.workspace_root.join(FILE)).with_context(|| FILE.to_owned())?;
    let allowed = allowed(&text).with_context(|| format!("{FILE}: no list [licenses] allow; put it back"))?;
    let foreign: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some())
        .collect();
    let mut faults: Vec<String> = foreign.iter().filter_map(|package| fault(package, &allowed)).collect();
    faults.sort();
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(format!(
        "licences: {} dependencies, all under {}",
        foreign.len(),
        allowed.join(", ")
    ))
}

/// The quoted words of the list `allow = [ … ]`.
fn allowed(text: &str) -> Option<Vec<String>> {
    let (_, rest) = text.split_once("allow = [")?;
    let (list, _) = rest.split_once(']')?;
    Some(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// What is wrong with a crate's licence, and what to do.
fn fault(package: &Package, allowed: &[String]) -> Option<String> {
    let name = format!("{} {}", package.name, package.version);
    let Some(licence) = &package.license else {
        return Some(format!("{name}: no licence in its manifest; replace this dependency"));
    };
    let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("{name}: '{licence}' is no SPDX expression ({})", error.reason)),
    };
    let met = expression.evaluate(|requirement| {
        // An exception only grants more than the licence does.
        requirement
            .license
            .id()
            .is_some_and(|id| allowed.iter().any(|known| known == id.name))
    });
    (!met).then(|| {
        format!("{name}: '{licence}' cannot be met from {FILE}; replace this dependency, or add the licence there with a reason")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(licence: Option<&str>) -> Package {
        Package {
            name: "x".to_owned(),
            version: "1.0.0".to_owned(),
            license: licence.map(str::to_owned),
            source: Some("registry".to_owned()),
            manifest_path: "Cargo.toml".into(),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn licences_are_met_or_told() {
        let allowed = allowed("[licenses]\nallow = [\n  \"MIT\",\n  \"Apache-2.0\",\n]\n").unwrap();
        assert_eq!(allowed, ["MIT", "Apache-2.0"]);
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "Apache-2.0 / MIT",
        ] {
            assert_eq!(fault(&package(Some(good)), &allowed), None, "{good}");
        }
        for bad in [Some("GPL-3.0"), Some("MIT AND GPL-3.0"), Some("odd licence"), None] {
            assert!(
                fault(&package(bad), &allowed).is_some_and(|text| text.starts_with("x 1.0.0: ")),
                "{bad:?}"
            );
        }
    }
}
