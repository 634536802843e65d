//! Address expressions: addresses, blocks, ranges and counts, of either family (reference 01 §2.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// `::ffff:0:0`, where IPv4 addresses live inside IPv6.
const MAPPED: u128 = 0xffff_0000_0000;
/// The lower 32 bits.
const LOW: u128 = 0xffff_ffff;

/// Addresses of one family, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

/// A text that is no address expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// A character that no address has; this also is what names and blanks end in.
    #[error("Invalid chars in IP {0}")]
    Characters(String),
    /// Not an address.
    #[error("Invalid IP address '{0}'")]
    Address(String),
    /// Host bits are set, or what follows the slash is no number.
    #[error("Invalid prefix {0}")]
    Prefix(String),
    /// The prefix exceeds the family's bits.
    #[error("Prefix length {length} is longer than IP address ({bits})")]
    PrefixTooLong {
        /// As written.
        length: u32,
        /// 32 or 128.
        bits: u32,
    },
    /// The ends are the wrong way round.
    #[error("Begin address is greater than End address {0}")]
    Reversed(String),
    /// The ends are of different families.
    #[error("Begin and End addresses have different IP versions {0}")]
    Mixed(String),
    /// A count that is no number or leaves the family's addresses.
    #[error("Invalid count in '{0}'")]
    Count(String),
}

impl Range {
    /// All IPv4 addresses.
    pub const ALL_V4: Self = Self::V4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    /// All IPv6 addresses.
    pub const ALL_V6: Self = Self::V6(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from_bits(u128::MAX));

    /// Whether an address lies in it. The families never match each other, but an IPv4-mapped address is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::V4(first, last), IpAddr::V4(address)) => (*first..=*last).contains(&address),
            (Self::V6(first, last), IpAddr::V6(address)) => (*first..=*last).contains(&address),
            _ => false,
        }
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        match *self {
            Self::V4(first, _) => IpAddr::V4(first),
            Self::V6(first, _) => IpAddr::V6(first),
        }
    }

    /// The same addresses as IPv4 where all of them are IPv4-mapped; anything else stays.
    pub fn unmapped(self) -> Self {
        match self {
            Self::V6(first, last) => match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                (Some(first), Some(last)) => Self::V4(first, last),
                _ => self,
            },
            Self::V4(..) => self,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(first, last) => write!(formatter, "{first}-{last}"),
            Self::V6(first, last) => write!(formatter, "{first}-{last}"),
        }
    }
}

/// Parses as written: mapped addresses stay IPv6 ([`Range::unmapped`] turns them).
impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        if let Some((base, count)) = split_count(text) {
            return counted(text, Address::parse(base)?, count);
        }
        if let Some((begin, end)) = text.split_once('-') {
            return between(text, Address::parse(begin.trim_end())?, end.trim_start());
        }
        match text.split_once('/') {
            Some((base, prefix)) => block(text, Address::parse(base)?, prefix),
            None => {
                let address = Address::parse(text)?;
                Ok(address.family.range(address.bits, address.bits))
            }
        }
    }
}

/// `base + count`, where the blanks are what makes it one.
fn split_count(text: &str) -> Option<(&str, &str)> {
    let (base, count) = text.split_once('+')?;
    let (trimmed, counted) = (base.trim_end(), count.trim_start());
    (trimmed.len() < base.len() && counted.len() < count.len()).then_some((trimmed, counted))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn bits(self) -> u32 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn max(self) -> u128 {
        match self {
            Self::V4 => LOW,
            Self::V6 => u128::MAX,
        }
    }

    fn range(self, first: u128, last: u128) -> Range {
        match self {
            Self::V4 => {
                // Values of this family are below 2^32 by construction.
                let v4 = |bits: u128| Ipv4Addr::from_bits((bits & LOW) as u32);
                Range::V4(v4(first), v4(last))
            }
            Self::V6 => Range::V6(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last)),
        }
    }
}

/// An address as a number.
#[derive(Debug, Clone, Copy)]
struct Address {
    family: Family,
    bits: u128,
    /// All four quads were written (always so in IPv6).
    complete: bool,
}

impl Address {
    fn parse(text: &str) -> Result<Self, RangeError> {
        if text.contains(':') {
            Self::parse_v6(text)
        } else {
            Self::parse_v4(text)
        }
    }

    fn parse_v6(text: &str) -> Result<Self, RangeError> {
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        {
            return Err(RangeError::Characters(text.to_owned()));
        }
        let address: Ipv6Addr = text.parse().map_err(|_| RangeError::Address(text.to_owned()))?;
        Ok(Self {
            family: Family::V6,
            bits: address.to_bits(),
            complete: true,
        })
    }

    /// One to four decimal quads, missing ones are 0 on the right; leading zeros do not make a quad octal.
    fn parse_v4(text: &str) -> Result<Self, RangeError> {
        if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(RangeError::Characters(text.to_owned()));
        }
        let invalid = || RangeError::Address(text.to_owned());
        let quads: Vec<&str> = text.split('.').collect();
        if quads.len() > 4 {
            return Err(invalid());
        }
        let mut bits = 0;
        for position in 0..4 {
            let quad = match quads.get(position) {
                Some(quad) => quad.parse::<u8>().map_err(|_| invalid())?,
                None => 0,
            };
            bits = bits << 8 | u128::from(quad);
        }
        Ok(Self {
            family: Family::V4,
            bits,
            complete: quads.len() == 4,
        })
    }
}

/// `base/prefix`. The host bits must be zero; a netmask is refused rather than read as something else.
fn block(text: &str, base: Address, prefix: &str) -> Result<Range, RangeError> {
    let length: u32 = match prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        true => prefix.parse().map_err(|_| RangeError::Prefix(text.to_owned()))?,
        false => return Err(RangeError::Prefix(text.to_owned())),
    };
    let bits = base.family.bits();
    let host_bits = bits
        .checked_sub(length)
        .ok_or(RangeError::PrefixTooLong { length, bits })?;
    let host = 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
    if base.bits & host != 0 {
        return Err(RangeError::Prefix(text.to_owned()));
    }
    Ok(base.family.range(base.bits, base.bits | host))
}

/// `begin-end`. An end that is cut short is refused: `1.2.3.4-9` means 1.2.3.9 to its writer and 9.0.0.0 to a parser.
fn between(text: &str, begin: Address, end: &str) -> Result<Range, RangeError> {
    let written = end;
    let end = Address::parse(end)?;
    if begin.family != end.family {
        return Err(RangeError::Mixed(text.to_owned()));
    }
    if !end.complete {
        return Err(RangeError::Address(written.to_owned()));
    }
    if begin.bits > end.bits {
        return Err(RangeError::Reversed(text.to_owned()));
    }
    Ok(begin.family.range(begin.bits, end.bits))
}

/// `base + count`: the base and as many addresses after it.
fn counted(text: &str, base: Address, count: &str) -> Result<Range, RangeError> {
    let invalid = || RangeError::Count(text.to_owned());
    if !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let count: u128 = count.parse().map_err(|_| invalid())?;
    let last = base.bits.checked_add(count).ok_or_else(invalid)?;
    if last > base.family.max() {
        return Err(invalid());
    }
    Ok(base.family.range(base.bits, last))
}

/// The compressed form in which an address is logged: as RFC 5952 has it, but without the dotted tail that Rust gives
/// mapped addresses (reference 01 §2.4: `::ffff:1.2.3.4` is logged as `::ffff:102:304`).
pub fn canonical_text(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if v6.to_bits() >> 32 == MAPPED >> 32 => {
            let low = v6.to_bits() & LOW;
            format!("::ffff:{:x}:{:x}", low >> 16, low & 0xffff)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_their_addresses() {
        // Reference 01 §2.3 and vector 59.
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1-10.0.0.1"),
            ("10.1", "10.1.0.0-10.1.0.0"),
            ("010.001.0.08", "10.1.0.8-10.1.0.8"),
            ("10/8", "10.0.0.0-10.255.255.255"),
            ("10.1/16", "10.1.0.0-10.1.255.255"),
            ("0/0", "0.0.0.0-255.255.255.255"),
            ("192.168.0.0/22", "192.168.0.0-192.168.3.255"),
            ("10.0.0.1/32", "10.0.0.1-10.0.0.1"),
            ("10.0.0.1-10.0.0.5", "10.0.0.1-10.0.0.5"),
            ("10.0.0.1 - 10.0.0.5", "10.0.0.1-10.0.0.5"),
            ("10.0.0.0 + 255", "10.0.0.0-10.0.0.255"),
            ("2001:DB8::/32", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::1-2001:db8::5", "2001:db8::1-2001:db8::5"),
            ("2001:db8:: + 15", "2001:db8::-2001:db8::f"),
            ("::1", "::1-::1"),
            ("::1.2.3.4", "::102:304-::102:304"),
            ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::ffff:10.0.0.1", "10.0.0.1-10.0.0.1"),
            ("::ffff:a00:1", "10.0.0.1-10.0.0.1"),
            ("::ffff:0:0/96", "0.0.0.0-255.255.255.255"),
            ("::ffff:10.0.0.0/104", "10.0.0.0-10.255.255.255"),
            ("::ffff:10.0.0.1-::ffff:10.0.0.5", "10.0.0.1-10.0.0.5"),
        ] {
            let range = text.parse::<Range>().map(|range| range.unmapped().to_string());
            assert_eq!(range.as_deref(), Ok(expected), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_expression_or_an_error(text in "[0-9a-f:./ +-]{0,40}|\\PC*") {
            if let Ok(range) = text.parse::<Range>() {
                let first = range.unmapped().first();
                proptest::prop_assert!(range.unmapped().contains(first), "{}", text);
            }
        }

        #[test]
        fn an_address_matches_itself_and_its_block(bits in proptest::prelude::any::<u32>(), length in 0_u32..=32) {
            let address = Ipv4Addr::from_bits(bits);
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            let block: Range = format!("{}/{length}", Ipv4Addr::from_bits(bits & mask)).parse().unwrap();
            proptest::prop_assert!(block.contains(address.into()));
            proptest::prop_assert!(block.contains(address.to_ipv6_mapped().into()));
            let other = Ipv4Addr::from_bits(bits ^ (1 << 31));
            proptest::prop_assert_eq!(block.contains(other.into()), length == 0);
        }
    }

    #[test]
    fn wrong_expressions_say_why() {
        for (text, expected) in [
            (" 10.0.0.2", "Invalid chars in IP  10.0.0.2"),
            ("10.0.0.2 ", "Invalid chars in IP 10.0.0.2 "),
            ("example.com", "Invalid chars in IP example.com"),
            ("ALL", "Invalid chars in IP ALL"),
            ("fe80::1%eth0", "Invalid chars in IP fe80::1%eth0"),
            ("", "Invalid IP address ''"),
            ("10.0.0.256", "Invalid IP address '10.0.0.256'"),
            ("10..1", "Invalid IP address '10..1'"),
            ("1.2.3.4.5", "Invalid IP address '1.2.3.4.5'"),
            ("1::2::3", "Invalid IP address '1::2::3'"),
            ("192.168.0.5/22", "Invalid prefix 192.168.0.5/22"),
            ("10.0.0.0/255.255.255.0", "Invalid prefix 10.0.0.0/255.255.255.0"),
            ("10.0.0.0/", "Invalid prefix 10.0.0.0/"),
            ("10.0.0.0/33", "Prefix length 33 is longer than IP address (32)"),
            ("::/129", "Prefix length 129 is longer than IP address (128)"),
            (
                "10.0.0.5 - 10.0.0.1",
                "Begin address is greater than End address 10.0.0.5 - 10.0.0.1",
            ),
            ("1.2.3.4-9", "Invalid IP address '9'"),
            (
                "10.0.0.1-::1",
                "Begin and End addresses have different IP versions 10.0.0.1-::1",
            ),
            ("10.0.0.0 + x", "Invalid count in '10.0.0.0 + x'"),
            ("255.255.255.255 + 1", "Invalid count in '255.255.255.255 + 1'"),
            ("10.0.0.0+5", "Invalid chars in IP 10.0.0.0+5"),
        ] {
            let error = text.parse::<Range>().map_err(|error| error.to_string());
            assert_eq!(error, Err(expected.to_owned()), "{text}");
        }
    }
}
