//! The `hotplug` key: what may be changed while the guest runs.

use std::collections::BTreeSet;

use super::error::ConfigError;
use super::keys::Feature;

impl Feature {
    /// Every feature with its word.
    const WORDS: [(&'static str, Self); 6] = [
        ("network", Self::Network),
        ("disk", Self::Disk),
        ("cpu", Self::Cpu),
        ("memory", Self::Memory),
        ("usb", Self::Usb),
        ("cloudinit", Self::Cloudinit),
    ];
}

/// The features of `hotplug: 1` and of an absent key.
pub fn default_features() -> BTreeSet<Feature> {
    BTreeSet::from([Feature::Network, Feature::Disk, Feature::Usb])
}

/// Reads the `hotplug` key.
///
/// # Errors
/// [`ConfigError::Hotplug`]
pub fn parse_features(text: &str) -> Result<BTreeSet<Feature>, ConfigError> {
    match text {
        "0" | "" => return Ok(BTreeSet::new()),
        "1" => return Ok(default_features()),
        _ => {}
    }
    pve_schema::list::split(text)
        .into_iter()
        .map(|word| {
            let found = Feature::WORDS.iter().find(|(name, _)| *name == word);
            found
                .map(|(_, feature)| *feature)
                .ok_or_else(|| ConfigError::Hotplug(word.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_switch_features_on() {
        assert_eq!(parse_features("1").unwrap(), default_features());
        assert!(parse_features("0").unwrap().is_empty());
        let three = BTreeSet::from([Feature::Disk, Feature::Usb, Feature::Cpu]);
        assert_eq!(parse_features("disk,usb;cpu").unwrap(), three);
        assert_eq!(
            parse_features("bogus").unwrap_err().to_string(),
            "invalid hotplug feature 'bogus'"
        );
    }
}
