//! The options as `GET` shows them (reference 04 §8.2).

use std::collections::BTreeSet;

use pve_access::AccessControl;
use pve_cfs::datacenter::property_format;
use pve_cfs::{Cfs, CfsError, Datacenter};
use pve_schema::ids::AuthId;
use pve_schema::list;
use pve_schema::params::Param;
use pve_schema::property_string::Properties;
use serde_json::{Map, Value};

use super::MAC_PREFIX;

/// What everybody may see.
const PUBLIC: [&str; 2] = ["console", "tag-style"];
/// Property strings that are shown as they are written.
const RAW: [&str; 2] = ["bwlimit", "location"];

/// The options that a caller may see, property strings as objects with texts.
pub(super) fn answer(
    cfs: &Cfs,
    access: &AccessControl,
    caller: &AuthId,
    datacenter: &Datacenter,
) -> Result<Value, CfsError> {
    let all = access.has(caller, "/", &["Sys.Audit"]);
    let mut answer = Map::new();
    if all {
        answer.insert("mac_prefix".to_owned(), MAC_PREFIX.into());
        answer.insert(
            "description".to_owned(),
            datacenter.options().description.clone().into(),
        );
    }
    for (key, value) in datacenter.options().iter() {
        if let Param::Text(text) = value
            && (all || PUBLIC.contains(&key))
        {
            answer.insert(key.to_owned(), shown(datacenter, key, text));
        }
    }
    let tags = allowed_tags(cfs, access, caller, datacenter)?;
    answer.insert("allowed-tags".to_owned(), tags.into_iter().collect());
    Ok(answer.into())
}

fn shown(datacenter: &Datacenter, key: &str, text: &str) -> Value {
    match key {
        // What the applet was has long gone.
        "console" if text == "applet" => "html5".into(),
        "registered-tags" => tags(text).collect(),
        key if property_format(key).is_some() && !RAW.contains(&key) => object(&datacenter.properties(key)),
        _ => text.into(),
    }
}

fn object(properties: &Properties) -> Value {
    let shown = |(key, value): (&str, &str)| {
        let value = match key {
            "user-allow-list" => tags(value).collect(),
            _ => value.into(),
        };
        (key.to_owned(), value)
    };
    Value::Object(properties.iter().map(shown).collect())
}

fn tags(text: &str) -> impl Iterator<Item = &str> {
    list::split(text).into_iter().filter(|tag| !tag.is_empty())
}

/// The tags that a caller may give to guests: those that are listed and those in use, and the registered ones for
/// administrators alone.
fn allowed_tags(
    cfs: &Cfs,
    access: &AccessControl,
    caller: &AuthId,
    datacenter: &Datacenter,
) -> Result<BTreeSet<String>, CfsError> {
    let privileged = access.has(caller, "/", &["Sys.Modify"]);
    let rules = datacenter.properties("user-tag-access");
    let allow = rules.get("user-allow").unwrap_or("free");
    let mut allowed = BTreeSet::new();
    if privileged || allow != "none" {
        allowed.extend(tags(rules.get("user-allow-list").unwrap_or_default()).map(str::to_owned));
    }
    if privileged || matches!(allow, "free" | "existing") {
        for guest in cfs.guests()? {
            if access.has(caller, &format!("/vms/{}", guest.vmid), &["VM.Audit"]) {
                let options = cfs.listed_options(&guest)?;
                let given = options.get("tags").map(String::as_str).unwrap_or_default();
                allowed.extend(tags(given).map(str::to_owned));
            }
        }
    }
    for tag in tags(datacenter.text("registered-tags").unwrap_or_default()) {
        if privileged {
            allowed.insert(tag.to_owned());
        } else {
            allowed.remove(tag);
        }
    }
    Ok(allowed)
}
