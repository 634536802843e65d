//! Addresses, ports and protocols of firewall rules (reference 10a §3.2).

use std::net::{IpAddr, Ipv4Addr};

use super::{Checked, digits, elements, number_in, system, when};
use crate::format::NamedFormat;

/// Most characters of an ipset's name with its `+`.
const MAX_SET: usize = 65;
/// Most characters of an alias with its scope.
const MAX_ALIAS: usize = 64;
/// Most numbers in a port list: what the kernel's multiport match takes.
const MAX_PORTS: usize = 15;

/// Whether a text is an alias's name, without its scope: `[A-Za-z][A-Za-z0-9_-]+`.
pub fn is_alias_name(text: &str) -> bool {
    text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// `pve-fw-addr-spec`: an ipset, an alias, or a list of addresses of one family.
pub fn pve_fw_addr_spec(_: &'static NamedFormat, value: &str) -> Checked {
    if let Some(set) = value.strip_prefix('+') {
        if value.chars().count() > MAX_SET {
            return Err("ipset name too long".to_owned());
        }
        if !set.is_empty() && !set.contains(char::is_whitespace) {
            return Ok(());
        }
    }
    let name = value
        .strip_prefix("dc/")
        .or_else(|| value.strip_prefix("guest/"))
        .unwrap_or(value);
    if is_alias_name(name) {
        let fits = value.chars().count() <= MAX_ALIAS;
        return if fits {
            Ok(())
        } else {
            Err("alias name too long".to_owned())
        };
    }
    address_list(value)
}

fn address_list(value: &str) -> Checked {
    let all = elements(value)?;
    let mut families = Vec::new();
    for element in &all {
        let invalid = || format!("invalid IP address: {element}");
        if let Some((first, last)) = element.split_once('-') {
            if all.len() > 1 {
                return Err("you can't use a range in a list".to_owned());
            }
            let (first, last) = host(first).zip(host(last)).ok_or_else(invalid)?;
            if first.is_ipv4() != last.is_ipv4() || first > last {
                return Err(invalid());
            }
            families.push(first.is_ipv4());
        } else {
            families.push(network(element).ok_or_else(invalid)?.is_ipv4());
        }
    }
    families.dedup();
    if families.len() > 1 {
        return Err(format!("detected mixed ipv4/ipv6 addresses in address list '{value}'"));
    }
    Ok(())
}

/// An address; an IPv4 one may leave out bytes at its end, which are then 0.
fn host(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let parts: Vec<u8> = text
        .split('.')
        .map(|part| number_in(part, 0..=255)?.try_into().ok())
        .collect::<Option<_>>()?;
    let mut bytes = [0; 4];
    bytes.get_mut(..parts.len())?.copy_from_slice(&parts);
    Some(Ipv4Addr::from(bytes).into())
}

/// An address, or a network whose host bits are all zero.
fn network(text: &str) -> Option<IpAddr> {
    let Some((address, length)) = text.split_once('/') else {
        return host(text);
    };
    let address = host(address)?;
    let (bits, most) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let length = u32::try_from(number_in(length, 0..=most)?).ok()?;
    let host_bits = bits.checked_shl(length).unwrap_or(0);
    (host_bits == 0).then_some(address)
}

/// `pve-fw-sport-spec`: ports, ranges of ports, names of services.
pub fn pve_fw_sport_spec(_: &'static NamedFormat, value: &str) -> Checked {
    ports(value, |_| false)
}

/// `pve-fw-dport-spec`: as for the source, or names of ICMP types.
pub fn pve_fw_dport_spec(format: &'static NamedFormat, value: &str) -> Checked {
    ports(value, |name| format.words.contains(&name))
}

fn ports(value: &str, is_icmp: impl Fn(&str) -> bool) -> Checked {
    let invalid = |port: &str| format!("invalid port '{port}'");
    let port = |text: &str| number_in(text, 0..=65535).ok_or_else(|| invalid(text));
    let mut count = 0;
    let mut icmp = false;
    for element in elements(value)? {
        if let Some((first, last)) = element
            .split_once(':')
            .filter(|(first, last)| digits(first) && digits(last))
        {
            if port(first)? > port(last)? {
                return Err(format!(
                    "backwards range '{first}:{last}' not allowed, did you mean '{last}:{first}'?"
                ));
            }
            count += 2;
        } else if digits(element) {
            port(element)?;
            count += 1;
        } else if is_icmp(element) {
            icmp = true;
        } else if !system::is_service(element) {
            return Err(invalid(element));
        }
    }
    if icmp && count > 0 {
        return Err("ICMP ports not allowed in port range".to_owned());
    }
    if count > MAX_PORTS {
        return Err(format!("too many entries in port list (> {MAX_PORTS} numbers)"));
    }
    Ok(())
}

/// `pve-fw-protocol-spec`
pub fn pve_fw_protocol_spec(format: &'static NamedFormat, value: &str) -> Checked {
    when(matches!(value, "" | "0") || system::is_protocol(value), format, value)
}

/// `pve-fw-icmp-type-spec`
pub fn pve_fw_icmp_type_spec(format: &'static NamedFormat, value: &str) -> Checked {
    when(value.is_empty() || format.words.contains(&value), format, value)
}

/// `pve-fw-conntrack-helper`: a list of helpers.
pub fn pve_fw_conntrack_helper(format: &'static NamedFormat, value: &str) -> Checked {
    match elements(value)?
        .into_iter()
        .find(|helper| !format.words.contains(helper))
    {
        Some(unknown) => Err(format!("unknown helper {unknown}")),
        None => Ok(()),
    }
}
