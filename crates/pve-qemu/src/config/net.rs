//! Network cards (reference 06a §3.4).

use std::fmt;

use super::error::ConfigError;
use super::props::Props;

/// The first bytes of a generated address unless the datacenter's `mac_prefix` says otherwise.
pub const DEFAULT_MAC_PREFIX: &str = "BC:24:11";

/// The highest number of a network card.
pub const LAST_NET: u8 = 31;

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    /// The model, as in the config.
    pub model: String,
    /// The address; a request may leave it out.
    pub mac: Option<String>,
    /// The other options.
    pub options: Props,
}

impl Net {
    /// Reads a network card.
    ///
    /// # Errors
    /// [`ConfigError::Format`]
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut options = Props::parse("net0", text)?;
        let model = options.take("model").ok_or_else(|| ConfigError::Format {
            key: "net".to_owned(),
            message: "format error\nmodel: property is missing and it is not optional\n".to_owned(),
        })?;
        let mac = options.take("macaddr");
        Ok(Self { model, mac, options })
    }

    /// The bridge that the card is plugged into; none for user-mode networking.
    pub fn bridge(&self) -> Option<&str> {
        self.options.get("bridge")
    }

    /// Whether the cable is out.
    pub fn is_link_down(&self) -> bool {
        self.options.flag("link_down").unwrap_or(false)
    }

    /// Whether the firewall filters the card.
    pub fn is_firewalled(&self) -> bool {
        self.options.flag("firewall").unwrap_or(false)
    }

    /// The number of queues, 0 and 1 being the same.
    pub fn queues(&self) -> u64 {
        self.options.integer("queues").unwrap_or(0)
    }

    /// The limit in MB/s (1 MB = 1 MiB here); none for no limit.
    pub fn rate(&self) -> Option<f64> {
        self.options.number("rate").filter(|rate| *rate > 0.0)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.model)?;
        if let Some(mac) = &self.mac {
            write!(f, "={mac}")?;
        }
        f.write_str(&self.options.print_rest())
    }
}

/// An address of the local, unicast kind from random bytes, its first bytes replaced by the prefix.
pub fn mac_from_random(random: [u8; 6], prefix: &str) -> String {
    let [first, rest @ ..] = random;
    let first = (first & !0b01) | 0b10;
    let bytes: Vec<String> = std::iter::once(first)
        .chain(rest)
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let full = bytes.join(":");
    let prefix = prefix.trim_end_matches(':').to_uppercase();
    match full.get(prefix.len()..) {
        Some(rest) if !prefix.is_empty() => format!("{prefix}{rest}"),
        _ => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_print_model_and_address_first() {
        let cases = [
            (
                "model=e1000,macaddr=BC:24:11:00:00:01,bridge=vmbr0,firewall=on,tag=5",
                "e1000=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,tag=5",
            ),
            (
                "virtio=BC:24:11:00:00:01,trunks=1;5-9,rate=1.5,queues=4,mtu=1,link_down=1",
                "virtio=BC:24:11:00:00:01,link_down=1,mtu=1,queues=4,rate=1.5,trunks=1;5-9",
            ),
            ("virtio,bridge=vmbr0", "virtio,bridge=vmbr0"),
        ];
        for (text, printed) in cases {
            assert_eq!(Net::parse(text).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn generated_addresses_are_local_unicast_below_the_prefix() {
        assert_eq!(mac_from_random([0xff; 6], ""), "FE:FF:FF:FF:FF:FF");
        assert_eq!(mac_from_random([1, 2, 3, 4, 5, 6], "BC:24:11"), "BC:24:11:04:05:06");
        assert_eq!(mac_from_random([1, 2, 3, 4, 5, 6], "02:ab:"), "02:AB:03:04:05:06");
    }
}
