//! Software-defined networks.

use super::net::is_cidr;
use super::{Checked, digits, elements, number_in, when};
use crate::format::NamedFormat;

/// `pve-sdn-bgp-rt`: `ASN:ID`.
pub fn pve_sdn_bgp_rt(format: &'static NamedFormat, value: &str) -> Checked {
    let number = |text: &str| number_in(text, 0..=u64::from(u32::MAX)).is_some();
    when(
        value.split_once(':').is_some_and(|(asn, id)| number(asn) && number(id)),
        format,
        value,
    )
}

/// Most bytes of a network device's name: the kernel's `IFNAMSIZ` without the NUL.
const MAX_DEVICE: usize = 15;

/// `pve-sdn-fabric-wireguard-interface`: a name that a network device may have.
pub fn pve_sdn_fabric_wireguard_interface(format: &'static NamedFormat, value: &str) -> Checked {
    let fits = (1..=MAX_DEVICE).contains(&value.len())
        && !matches!(value, "." | "..")
        && value.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    when(fits, format, value)
}

/// `pve-sdn-subnet-id`: a network, or `ZONE-IP-MASKLEN`.
pub fn pve_sdn_subnet_id(format: &'static NamedFormat, value: &str) -> Checked {
    let with_zone = || {
        let (zone, network) = value.split_once('-')?;
        let (address, length) = network.rsplit_once('-')?;
        Some(!zone.is_empty() && is_cidr(&format!("{address}/{length}")))
    };
    when(is_cidr(value) || with_zone() == Some(true), format, value)
}

/// `pve-sdn-vlanrange`
pub fn pve_sdn_vlanrange(_: &'static NamedFormat, value: &str) -> Checked {
    range(value, 4096)
}

/// `pve-sdn-vxlanrange`
pub fn pve_sdn_vxlanrange(_: &'static NamedFormat, value: &str) -> Checked {
    range(value, 16_777_216)
}

/// A list of `N` and `N-M`; elements of any other shape are ignored.
fn range(value: &str, most: u64) -> Checked {
    let number = |text: &str| number_in(text, 0..=most).ok_or_else(|| format!("invalid port '{text}'"));
    for element in elements(value)? {
        let (first, last) = element.split_once('-').unwrap_or((element, element));
        if !digits(first) || !digits(last) {
            continue;
        }
        if number(first)? > number(last)? {
            return Err(format!(
                "backwards range '{first}:{last}' not allowed, did you mean '{last}:{first}'?"
            ));
        }
    }
    Ok(())
}

/// `pve-vlan-id-or-range`: `N`, or `N-M` with N below M; an M of 0 counts as absent.
pub fn pve_vlan_id_or_range(_: &'static NamedFormat, value: &str) -> Checked {
    let (first, last) = match value.split_once('-') {
        Some((first, last)) => (first, Some(last)),
        None => (value, None),
    };
    if !digits(first) || !last.is_none_or(digits) {
        return Err(format!("invalid VLAN configuration '{value}'"));
    }
    let tag = |text: &str| number_in(text, 2..=4094).ok_or_else(|| format!("invalid VLAN tag '{text}'"));
    let low = tag(first)?;
    match last.filter(|last| last.bytes().any(|b| b != b'0')) {
        Some(last) if tag(last)? <= low => Err(format!("VLAN range must go from lower to higher tag '{value}'")),
        _ => Ok(()),
    }
}
