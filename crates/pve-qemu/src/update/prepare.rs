//! What is filled in before a change is made: steps 7 and 8 of reference 06a §4. Creating a VM starts with the same.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use pve_schema::ids::VolumeId;
use pve_storage::{Content, Storages};

use super::error::UpdateError;
use super::volumes;
use crate::config::Net;
use crate::config::net::{DEFAULT_MAC_PREFIX, mac_from_random};

/// What is filled in where a value is missing.
pub struct Defaults<'a> {
    /// The first bytes of generated addresses: the datacenter's `mac_prefix`.
    pub mac_prefix: Option<&'a str>,
    /// Fills a buffer with random bytes.
    pub random: &'a mut dyn FnMut(&mut [u8]) -> Result<(), String>,
}

/// Checks drives, network cards and scripts among some keys, and fills in addresses and ids.
///
/// # Errors
/// Status 400 at the key for a bad drive; else what is wrong.
pub fn prepare(
    storages: &Storages,
    set: &mut BTreeMap<String, String>,
    defaults: &mut Defaults<'_>,
) -> Result<(), UpdateError> {
    volumes::check_drives(storages, set)?;
    for (key, value) in set.iter_mut() {
        match key.as_str() {
            "vmgenid" if value == "1" => *value = uuid(defaults)?,
            "hookscript" => check_hook(storages, value)?,
            _ if is_net(key) => *value = complete_net(value, defaults)?,
            _ => {}
        }
    }
    Ok(())
}

fn is_net(key: &str) -> bool {
    key.strip_prefix("net")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// A card with an address, in canonical form.
fn complete_net(text: &str, defaults: &mut Defaults<'_>) -> Result<String, UpdateError> {
    let mut net = Net::parse(text)?;
    if net.mac.is_none() {
        let mut random = [0; 6];
        (defaults.random)(&mut random).map_err(UpdateError::Random)?;
        net.mac = Some(mac_from_random(
            random,
            defaults.mac_prefix.unwrap_or(DEFAULT_MAC_PREFIX),
        ));
    }
    Ok(net.to_string())
}

/// A random UUID (version 4).
pub(crate) fn uuid(defaults: &mut Defaults<'_>) -> Result<String, UpdateError> {
    let mut bytes = [0_u8; 16];
    (defaults.random)(&mut bytes).map_err(UpdateError::Random)?;
    let hex: String = bytes
        .iter()
        .enumerate()
        .map(|(place, byte)| match place {
            6 => (byte & 0x0f) | 0x40,
            8 => (byte & 0x3f) | 0x80,
            _ => *byte,
        })
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
    Ok(groups
        .into_iter()
        .filter_map(|group| hex.get(group))
        .collect::<Vec<_>>()
        .join("-"))
}

/// A script must be a snippet that can be run.
fn check_hook(storages: &Storages, script: &str) -> Result<(), UpdateError> {
    let volume: VolumeId = script
        .parse()
        .map_err(|_| UpdateError::HookNotSnippet(script.to_owned()))?;
    let (_, name) = storages.parse(&volume)?;
    if name.content != Content::Snippets {
        return Err(UpdateError::HookNotSnippet(script.to_owned()));
    }
    let path = storages.path(&volume)?;
    let Ok(meta) = path.metadata() else {
        return Err(UpdateError::HookMissing(script.to_owned()));
    };
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(UpdateError::HookNotExecutable(script.to_owned()));
    }
    Ok(())
}
