//! Who may connect (`ALLOW_FROM`, `DENY_FROM`, `POLICY`) and whose word about the client's address counts
//! (`PROXY_REAL_IP_*`): reference 01 §2.3, §2.4.
//!
//! Checked by the web-side daemons right after accept, before TLS. Rights of users are in `pve-access`.

mod range;

use std::net::IpAddr;
use std::str::FromStr;

pub use range::{Range, RangeError, canonical_text};

/// A list of address expressions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet(Vec<Range>);

impl AddressSet {
    /// Whether an address is in the set; an IPv4-mapped address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }
}

/// Items are split at commas and not trimmed; empty items at the end are dropped, others are an error.
impl FromStr for AddressSet {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let mut ranges = Vec::new();
        for item in text.trim_end_matches(',').split(',') {
            match item {
                "all" => ranges.extend([Range::ALL_V4, Range::ALL_V6]),
                other => ranges.push(other.parse::<Range>()?.unmapped()),
            }
        }
        Ok(Self(ranges))
    }
}

/// What holds for an address that the lists do not decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Let it in.
    #[default]
    Allow,
    /// Keep it out.
    Deny,
}

/// Who may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostAcl {
    /// `ALLOW_FROM`.
    pub allow: AddressSet,
    /// `DENY_FROM`.
    pub deny: AddressSet,
    /// `POLICY`.
    pub policy: Policy,
}

impl HostAcl {
    /// Whether a peer may connect.
    ///
    /// | match | POLICY=deny | POLICY=allow |
    /// |---|---|---|
    /// | only ALLOW_FROM | allow | allow |
    /// | only DENY_FROM | deny | deny |
    /// | neither | deny | allow |
    /// | both | deny | allow |
    pub fn permits(&self, peer: IpAddr) -> bool {
        let (allowed, denied) = (self.allow.contains(peer), self.deny.contains(peer));
        if allowed == denied {
            self.policy == Policy::Allow
        } else {
            allowed
        }
    }
}

/// Whether a reverse proxy's word about the client's address counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RealIp {
    /// The header's name, in lower case; `None` switches it off.
    pub header: Option<String>,
    /// Who may set it; `None` lets any peer.
    pub trusted: Option<AddressSet>,
}

impl RealIp {
    /// The address to log for a request, given its peer and the header's value: one address, block or range, whose first
    /// address counts. `None` when the header is not believed or says anything else.
    pub fn accept(&self, peer: IpAddr, value: &str) -> Option<String> {
        self.header.as_ref()?;
        if self.trusted.as_ref().is_some_and(|trusted| !trusted.contains(peer)) {
            return None;
        }
        value.parse::<Range>().ok().map(|range| canonical_text(range.first()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(allow: &str, deny: &str, policy: Policy) -> HostAcl {
        let set = |text: &str| {
            if text.is_empty() {
                AddressSet::default()
            } else {
                text.parse().unwrap()
            }
        };
        HostAcl {
            allow: set(allow),
            deny: set(deny),
            policy,
        }
    }

    fn permits(acl: &HostAcl, peer: &str) -> bool {
        acl.permits(peer.parse().unwrap())
    }

    #[test]
    fn truth_table() {
        for (allow, deny, with_deny, with_allow) in [
            ("10.0.0.1", "10.0.0.2", true, true),
            ("10.0.0.2", "10.0.0.1", false, false),
            ("10.0.0.2", "10.0.0.2", false, true),
            ("10.0.0.1", "10.0.0.1", false, true),
        ] {
            assert_eq!(
                permits(&acl(allow, deny, Policy::Deny), "10.0.0.1"),
                with_deny,
                "{allow} {deny}"
            );
            assert_eq!(
                permits(&acl(allow, deny, Policy::Allow), "10.0.0.1"),
                with_allow,
                "{allow} {deny}"
            );
        }
    }

    #[test]
    fn vector_56_allow_wins_where_the_policy_allows() {
        let acl = acl("10.0.0.1-10.0.0.5,192.168.0.0/22", "all", Policy::Allow);
        for (peer, expected) in [
            ("10.0.0.3", true),
            ("::ffff:10.0.0.3", true),
            ("10.0.0.9", false),
            ("2001:db8::1", false),
            ("192.168.3.255", true),
            ("192.168.4.0", false),
        ] {
            assert_eq!(permits(&acl, peer), expected, "{peer}");
        }
    }

    #[test]
    fn vector_57_deny_wins_where_the_policy_denies() {
        let acl = acl("10.0.0.1-10.0.0.5,192.168.0.0/22", "all", Policy::Deny);
        assert!(!permits(&acl, "10.0.0.3"));
    }

    #[test]
    fn vector_58_a_deny_list_alone() {
        let acl = acl("", "10.0.0.0/24", Policy::default());
        assert!(!permits(&acl, "10.0.0.3"));
        assert!(permits(&acl, "::1"));
    }

    #[test]
    fn lists_drop_only_empty_ends() {
        assert!("10.0.0.1,,".parse::<AddressSet>().is_ok());
        for text in ["10.0.0.1,,10.0.0.2", ",10.0.0.1", ",", "10.0.0.1, 10.0.0.2"] {
            assert!(text.parse::<AddressSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn vector_60_real_addresses_are_logged_in_canonical_form() {
        let real = RealIp {
            header: Some("x-forwarded-for".to_owned()),
            trusted: None,
        };
        let peer = IpAddr::from([10, 0, 0, 1]);
        for (value, expected) in [
            ("2001:DB8:0:0:0:0:0:1", Some("2001:db8::1")),
            ("::ffff:1.2.3.4", Some("::ffff:102:304")),
            ("1.2.3.4", Some("1.2.3.4")),
            ("10.0.0.0/8", Some("10.0.0.0")),
            ("1.2.3.4, 5.6.7.8", None),
            ("1.2.3.4:80", None),
            ("[::1]", None),
        ] {
            assert_eq!(real.accept(peer, value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let real = RealIp {
            header: Some("x-real-ip".to_owned()),
            trusted: Some("10.0.0.0/24".parse().unwrap()),
        };
        let accept = |peer: &str| real.accept(peer.parse().unwrap(), "1.2.3.4");
        assert_eq!(accept("10.0.0.7").as_deref(), Some("1.2.3.4"));
        assert_eq!(accept("::ffff:10.0.0.7").as_deref(), Some("1.2.3.4"));
        assert_eq!(accept("10.0.1.7"), None);
        assert_eq!(RealIp::default().accept("10.0.0.7".parse().unwrap(), "1.2.3.4"), None);
    }
}
