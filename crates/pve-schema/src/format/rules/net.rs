//! Addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Checked, digits, number_in, when};
use crate::format::NamedFormat;

/// Whether a text is a host name: labels of letters, digits and inner hyphens, no trailing dot.
pub fn is_dns_name(text: &str) -> bool {
    text.split('.').all(|label| {
        let bytes = label.as_bytes();
        let inner = bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
        let ends =
            bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
        inner && ends
    })
}

/// Whether a text is a network interface's name.
pub fn is_iface(text: &str) -> bool {
    let (name, number) = match text.split_once([':', '.']) {
        Some((name, number)) => (name, Some(number)),
        None => (text, None),
    };
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (2..=21).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(fits)
        && number.is_none_or(digits)
}

/// Whether a text is `ADDRESS/LENGTH` with a length within limits; host bits do not matter.
fn is_network<A: std::str::FromStr>(text: &str, lengths: std::ops::RangeInclusive<u64>) -> bool {
    text.split_once('/')
        .is_some_and(|(address, length)| address.parse::<A>().is_ok() && number_in(length, lengths).is_some())
}

pub(super) fn is_cidr_v4(text: &str) -> bool {
    is_network::<Ipv4Addr>(text, 8..=32)
}

pub(super) fn is_cidr_v6(text: &str) -> bool {
    is_network::<Ipv6Addr>(text, 8..=128)
}

pub(super) fn is_cidr(text: &str) -> bool {
    is_cidr_v4(text) || is_cidr_v6(text)
}

fn is_full_range_cidr(text: &str) -> bool {
    is_network::<Ipv4Addr>(text, 0..=32) || is_network::<Ipv6Addr>(text, 0..=128)
}

pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// `ipv6`: no zone, no brackets, no prefix length.
pub fn ipv6(format: &'static NamedFormat, value: &str) -> Checked {
    when(value.parse::<Ipv6Addr>().is_ok(), format, value)
}

/// `ip`: of either family.
pub fn ip(format: &'static NamedFormat, value: &str) -> Checked {
    when(is_ip(value), format, value)
}

/// `ipv4mask`: contiguous one bits.
pub fn ipv4mask(format: &'static NamedFormat, value: &str) -> Checked {
    let contiguous = |mask: Ipv4Addr| {
        let bits = u32::from(mask);
        bits.leading_ones() + bits.trailing_zeros() >= 32
    };
    when(value.parse().is_ok_and(contiguous), format, value)
}

/// `CIDR`: a network of either family.
pub fn cidr(format: &'static NamedFormat, value: &str) -> Checked {
    when(is_cidr(value), format, value)
}

/// `CIDRv4`: prefix length 8 to 32.
pub fn cidrv4(format: &'static NamedFormat, value: &str) -> Checked {
    when(is_cidr_v4(value), format, value)
}

/// `CIDRv6`: prefix length 8 to 128.
pub fn cidrv6(format: &'static NamedFormat, value: &str) -> Checked {
    when(is_cidr_v6(value), format, value)
}

/// `FullRangeCIDR`: prefix length from 0.
pub fn fullrangecidr(format: &'static NamedFormat, value: &str) -> Checked {
    when(is_full_range_cidr(value), format, value)
}

/// `IPorCIDR`
pub fn iporcidr(format: &'static NamedFormat, value: &str) -> Checked {
    when(is_ip(value) || is_full_range_cidr(value), format, value)
}

/// `IPorCIDRorAlias`
pub fn iporcidroralias(format: &'static NamedFormat, value: &str) -> Checked {
    let name = value
        .strip_prefix("dc/")
        .or_else(|| value.strip_prefix("guest/"))
        .unwrap_or(value);
    when(
        super::is_alias_name(name) || is_ip(value) || is_full_range_cidr(value),
        format,
        value,
    )
}

/// `address`: an address or a host name.
pub fn address(format: &'static NamedFormat, value: &str) -> Checked {
    when(is_ip(value) || is_dns_name(value), format, value)
}

/// `pve-storage-server`: an address or a host name.
pub fn pve_storage_server(format: &'static NamedFormat, value: &str) -> Checked {
    address(format, value)
}

/// `lxc-ip-with-ll-iface`: an address, a link-local one may name its interface.
pub fn lxc_ip_with_ll_iface(format: &'static NamedFormat, value: &str) -> Checked {
    let link_local = value.split_once('%').is_some_and(|(address, iface)| {
        address.starts_with("fe80:") && address.parse::<Ipv6Addr>().is_ok() && is_iface(iface)
    });
    when(is_ip(value) || link_local, format, value)
}

/// `pve-ipv4-config`
pub fn pve_ipv4_config(format: &'static NamedFormat, value: &str) -> Checked {
    when(matches!(value, "dhcp" | "manual") || is_cidr_v4(value), format, value)
}

/// `pve-ipv6-config`
pub fn pve_ipv6_config(format: &'static NamedFormat, value: &str) -> Checked {
    when(
        matches!(value, "auto" | "dhcp" | "manual") || is_cidr_v6(value),
        format,
        value,
    )
}

/// `pve-storage-portal-dns`: `HOST[:PORT]`, `[HOST][:PORT]` or `IPV6[.PORT]`.
pub fn pve_storage_portal_dns(format: &'static NamedFormat, value: &str) -> Checked {
    let host = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
    };
    let port = |text: &str| text.is_empty() || text.strip_prefix(':').is_some_and(digits);
    let fits = match value.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, rest)) => (host(inner) || inner.parse::<Ipv6Addr>().is_ok()) && port(rest),
        None => {
            let (name, rest) = value
                .split_at_checked(value.find(':').unwrap_or(value.len()))
                .unwrap_or((value, ""));
            let v6 = value.parse::<Ipv6Addr>().is_ok()
                || value
                    .rsplit_once('.')
                    .is_some_and(|(ip, port)| ip.parse::<Ipv6Addr>().is_ok() && digits(port));
            (host(name) && port(rest)) || v6
        }
    };
    when(fits, format, value)
}
