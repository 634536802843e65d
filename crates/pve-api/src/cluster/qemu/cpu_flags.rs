//! `GET /cluster/qemu/cpu-flags` (reference 04 §18): the CPU flags that VMs can have, and on which nodes.
//!
//! The nodes tell by themselves, in the status store.

use std::collections::{BTreeMap, BTreeSet};

use pve_cfs::Cfs;
use pve_rest::{ApiError, ApiResult, Call, blocking};
use serde_json::{Value, json};

/// The flag that stands for the one of two that the processor has.
const NESTED: &str = "nested-virt";

/// Flags that a VM's config may set, each with what it is good for.
const DESCRIBED: [(&str, &str); 13] = [
    (
        NESTED,
        "Lets the guest run guests of its own: svm on AMD, vmx on Intel processors.",
    ),
    ("aes", "Instructions for the AES cipher."),
    (
        "amd-no-ssb",
        "Tells the guest that an AMD processor does not suffer from Speculative Store Bypass.",
    ),
    (
        "amd-ssbd",
        "Protection from Speculative Store Bypass on AMD processors, faster than virt-ssbd.",
    ),
    (
        "hv-evmcs",
        "Faster nested virtualisation for Windows guests on Intel processors.",
    ),
    (
        "hv-tlbflush",
        "Faster flushes of address translations in Windows guests with many CPUs.",
    ),
    ("ibpb", "Protection from Spectre on AMD processors."),
    (
        "md-clear",
        "Tells the guest that the processor can clear what MDS reads.",
    ),
    ("pcid", "Cheaper protection from Meltdown on Intel processors."),
    ("pdpe1gb", "Pages of 1 GiB, if the host has them."),
    ("spec-ctrl", "Protection from Spectre on Intel processors."),
    ("ssbd", "Protection from Speculative Store Bypass on Intel processors."),
    (
        "virt-ssbd",
        "Protection from Speculative Store Bypass on AMD processors.",
    ),
];

pub(super) async fn list(call: Call) -> ApiResult {
    blocking(move || {
        let arch = call.params.text("arch").unwrap_or(std::env::consts::ARCH);
        if arch != "x86_64" {
            return Ok::<_, ApiError>(json!([]).into());
        }
        let accel = call.params.text("accel").unwrap_or("kvm");
        let told = Cfs::new(&call.context).status().get(&format!("kv/cpuflags-{accel}"))?;
        let told = told.map(|text| String::from_utf8_lossy(&text).into_owned());
        let nodes = told.map(|text| (call.context.site.node.to_string(), text));
        Ok(Value::from(rows(nodes.into_iter())).into())
    })
    .await
}

/// A row per flag: those that some node has first, among them the one for nested guests.
fn rows(nodes: impl Iterator<Item = (String, String)>) -> Vec<Value> {
    let described = BTreeMap::from(DESCRIBED);
    let mut flags: BTreeMap<String, BTreeSet<String>> = described
        .keys()
        .map(|flag| ((*flag).to_owned(), BTreeSet::new()))
        .collect();
    for (node, text) in nodes {
        for flag in text.split_ascii_whitespace() {
            let nested = matches!(flag, "svm" | "vmx").then_some(NESTED);
            for flag in [Some(flag), nested].into_iter().flatten() {
                flags.entry(flag.to_owned()).or_default().insert(node.clone());
            }
        }
    }
    let mut sorted: Vec<_> = flags.into_iter().collect();
    sorted.sort_by_key(|(flag, nodes)| (flag != NESTED, nodes.is_empty()));
    let row = |(flag, nodes): (String, BTreeSet<String>)| {
        let mut row = json!({ "name": flag, "supported-on": nodes });
        if let Some(description) = described.get(flag.as_str()) {
            row["description"] = (*description).into();
        }
        row
    };
    sorted.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(nodes: &[(&str, &str)]) -> Vec<(String, String)> {
        let nodes = nodes
            .iter()
            .map(|(node, text)| ((*node).to_owned(), (*text).to_owned()));
        let rows = rows(nodes);
        let on = |row: &Value| {
            let nodes = row["supported-on"].as_array().unwrap();
            nodes
                .iter()
                .map(|node| node.as_str().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        rows.iter()
            .map(|row| (row["name"].as_str().unwrap().to_owned(), on(row)))
            .collect()
    }

    #[test]
    fn flags_that_some_node_has_come_first() {
        let rows = listed(&[("n2", "aes vmx"), ("n1", "aes avx")]);
        let text = |flag: &str, nodes: &str| (flag.to_owned(), nodes.to_owned());
        assert_eq!(
            rows[..5],
            [
                text("nested-virt", "n2"),
                text("aes", "n1 n2"),
                text("avx", "n1"),
                text("vmx", "n2"),
                text("amd-no-ssb", ""),
            ]
        );
        assert_eq!(rows.last(), Some(&text("virt-ssbd", "")));
        assert_eq!(rows.len(), DESCRIBED.len() + 2);
    }

    #[test]
    fn without_a_word_from_any_node_there_are_the_flags_to_choose_from() {
        let rows = listed(&[]);
        assert_eq!((rows.len(), rows[0].0.as_str()), (DESCRIBED.len(), NESTED));
        let rows = listed(&[("n1", "svm")]);
        assert_eq!(
            rows[..2],
            [
                (NESTED.to_owned(), "n1".to_owned()),
                ("svm".to_owned(), "n1".to_owned())
            ]
        );
    }
}
