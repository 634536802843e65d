//! The rules for whole property strings. Each is named after its format in `formats.json`: the build script of
//! `pve-contract` refers to them by that name, so a rule that is missing here does not compile.

use super::Properties;
use crate::list;
use crate::schema::PropertyFormat;

/// A fleecing storage must be named when fleecing is on.
pub fn backup_fleecing(_: &'static PropertyFormat, properties: &mut Properties) -> Result<(), String> {
    if properties.is_set("enabled") && !properties.has("storage") {
        return Err("'storage' parameter is required when 'enabled' is set".to_owned());
    }
    Ok(())
}

/// Nothing to keep means keeping all.
pub fn prune_backups(format: &'static PropertyFormat, properties: &mut Properties) -> Result<(), String> {
    let positive = |key: &str| properties.number(key).is_some_and(|count| count > 0.0);
    let others = format
        .keys
        .iter()
        .any(|key| key.name != "keep-all" && positive(key.name));
    match (positive("keep-all"), others) {
        (true, true) => Err("keep-all cannot be set together with other options.".to_owned()),
        (false, false) => {
            *properties = [("keep-all", "1")].into_iter().collect();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A CPU type must be told.
pub fn pve_cpu_conf(_: &'static PropertyFormat, properties: &mut Properties) -> Result<(), String> {
    if properties.has("cputype") {
        Ok(())
    } else {
        Err("CPU is missing cputype".to_owned())
    }
}

/// The flags that a guest's own settings may switch (reference 06a §7).
pub const GUEST_FLAGS: [&str; 13] = [
    "aes",
    "amd-no-ssb",
    "amd-ssbd",
    "hv-evmcs",
    "hv-tlbflush",
    "ibpb",
    "md-clear",
    "nested-virt",
    "pcid",
    "pdpe1gb",
    "spec-ctrl",
    "ssbd",
    "virt-ssbd",
];

/// CPU types that are no QEMU model but a level of features (reference 06a §7.4).
pub const CPU_LEVELS: [&str; 4] = ["x86-64-v2", "x86-64-v2-AES", "x86-64-v3", "x86-64-v4"];

/// A guest's CPU: a known or a custom model, and only flags that are the guest's to set. Whether a custom model exists
/// is for the handler to see, since it stands in a file.
pub fn pve_vm_cpu_conf(format: &'static PropertyFormat, properties: &mut Properties) -> Result<(), String> {
    pve_cpu_conf(format, properties)?;
    let model = properties.get("cputype").unwrap_or_default();
    let models = format.key("reported-model").map_or(&[][..], |key| key.schema.words);
    let known = models.contains(&model) || CPU_LEVELS.contains(&model);
    if !model.starts_with("custom-") && !known {
        return Err(format!(
            "Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)"
        ));
    }
    let flags = list::split(properties.get("flags").unwrap_or_default());
    let allowed = |flag: &str| GUEST_FLAGS.contains(&flag.trim_start_matches(['+', '-']));
    if !flags.into_iter().all(allowed) {
        return Err(format!(
            "VM-specific CPU flags must be a subset of: {}",
            GUEST_FLAGS.join(", ")
        ));
    }
    if properties.has("reported-model") {
        return Err("Property 'reported-model' not allowed in VM-specific CPU config.".to_owned());
    }
    Ok(())
}
