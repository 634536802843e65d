//! The node's certificate (reference 04 §7.3), and when it is made anew.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pve_schema::Site;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, SanType};

use super::authority::{self, date};
use super::inspect::{Inspected, inspect};
use super::{DAY, NodeError, Run, serial};

/// The CA's counter.
const SERIAL: &str = "priv/pve-root-ca.srl";
/// The counter of a CA that has signed nothing yet.
const FIRST_SERIAL: &str = "0000000000000000\n";
/// Most days that a node's certificate is valid: clients refuse more than about two years.
const LIFETIME: i64 = 730;
/// A certificate with fewer days left is made anew, and a CA with fewer days left signs none.
const TOO_SHORT: i64 = 14;

/// Under which names the node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    node: String,
    /// With the domain, if there is one.
    fqdn: Option<String>,
    /// Its addresses, at most; others use the first.
    addresses: Vec<IpAddr>,
}

impl Run<'_> {
    /// Makes the node's certificate if there is none, or none that serves.
    pub(super) fn node_certificate(&mut self, new_authority: bool) -> Result<(), NodeError> {
        let rel = format!("nodes/{}/pve-ssl.pem", self.context.site.node);
        let key_rel = format!("nodes/{}/pve-ssl.key", self.context.site.node);
        let key = self.key(&key_rel)?;
        let identity = self.identity();
        let authority_pem = self.cfs.read(authority::CERTIFICATE)?.unwrap_or_default();
        let bad_authority = || NodeError::BadAuthority(authority::CERTIFICATE.to_owned());
        let authority = inspect(&authority_pem).ok_or_else(bad_authority)?;
        let old = self.cfs.read(&rel)?;
        if let Some(old) = &old {
            let reason = if new_authority {
                Some("new CA".to_owned())
            } else if self.force {
                Some("it was asked for".to_owned())
            } else {
                let key = rcgen::PublicKeyData::subject_public_key_info(&key);
                why_renew(inspect(old).as_ref(), &authority, &key, &identity, self.context.now())
            };
            match reason {
                None => return Ok(()),
                Some(reason) => {
                    log::info!("renewing certificate '{rel}': {reason}");
                    self.report.renewed = Some(reason);
                }
            }
        }
        let not_before = self.context.now() - DAY;
        let days_left = (authority.not_after - self.context.now()) / DAY;
        if days_left < TOO_SHORT {
            return Err(NodeError::AuthorityExpires);
        }
        let mut params = parameters(&identity)?;
        params.serial_number = Some(self.next_serial()?.into());
        params.not_before = date(not_before)?;
        params.not_after = date(not_before + LIFETIME.min(days_left - 2) * DAY)?;
        let authority_key = self.key(authority::KEY)?;
        let authority_text = std::str::from_utf8(&authority_pem).map_err(|_| bad_authority())?;
        let issuer = Issuer::from_ca_cert_pem(authority_text, authority_key)?;
        let certificate = params.signed_by(&key, &issuer)?;
        self.write(&rel, certificate.pem().as_bytes())
    }

    fn next_serial(&mut self) -> Result<Vec<u8>, NodeError> {
        let bad = || NodeError::BadSerial(SERIAL.to_owned());
        let before = self.cfs.read_text(SERIAL)?.unwrap_or_else(|| FIRST_SERIAL.to_owned());
        let (serial, after) = serial::next(&before).ok_or_else(bad)?;
        // Written before the certificate: a number that is used twice is worse than one that is not used.
        self.write(SERIAL, after.as_bytes())?;
        Ok(serial)
    }

    fn identity(&self) -> Identity {
        let node = self.context.site.node.to_string();
        let addresses = match self.cfs.node_addresses(&node) {
            Ok(addresses) => addresses,
            Err(error) => {
                // Upstream gives up here. A host that only knows itself as 127.0.1.1 can still serve by its name.
                log::warn!(
                    "the node's certificate will not name an address: {error} - a line 'ADDRESS {node}' in /etc/hosts \
                     tells it"
                );
                Vec::new()
            }
        };
        let fqdn = domain(&self.context.site).map(|domain| format!("{node}.{domain}"));
        Identity { node, fqdn, addresses }
    }
}

/// The node's name with its domain, if it has one: the name that its certificate is for.
pub fn full_name(site: &Site) -> String {
    match domain(site) {
        Some(domain) => format!("{}.{domain}", site.node),
        None => site.node.to_string(),
    }
}

fn domain(site: &Site) -> Option<String> {
    let resolv = std::fs::read_to_string(site.path("/etc/resolv.conf")).unwrap_or_default();
    search_domain(&resolv).map(str::to_owned)
}

/// Whether every certificate names an address.
fn is_named(address: IpAddr) -> bool {
    address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

fn parameters(identity: &Identity) -> Result<CertificateParams, NodeError> {
    let fqdn = identity.fqdn.as_ref().unwrap_or(&identity.node);
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationalUnitName, "PVE Cluster Node");
    name.push(DnType::OrganizationName, "Proxmox Virtual Environment");
    name.push(DnType::CommonName, fqdn.as_str());
    let dns = |name: &str| name.try_into().map(SanType::DnsName);
    let mut names = vec![
        SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        dns("localhost")?,
    ];
    let first = identity.addresses.first().copied();
    names.extend(first.filter(|address| !is_named(*address)).map(SanType::IpAddress));
    names.push(dns(&identity.node)?);
    if let Some(fqdn) = &identity.fqdn {
        names.push(dns(fqdn)?);
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Why a certificate no longer serves; `None` if it does. One that another authority signed is somebody's own choice and
/// stays as long as it fits the key.
fn why_renew(
    old: Option<&Inspected>,
    authority: &Inspected,
    public_key: &[u8],
    identity: &Identity,
    now: i64,
) -> Option<String> {
    let Some(old) = old else {
        return Some("it is not readable".to_owned());
    };
    if old.public_key != public_key {
        return Some("it does not fit the key".to_owned());
    }
    if old.issuer != authority.subject {
        return None;
    }
    if old.issuer_key_id.is_some() && authority.key_id.is_some() && old.issuer_key_id != authority.key_id {
        return Some("the CA has another key".to_owned());
    }
    if old.not_after < now + TOO_SHORT * DAY {
        return Some("it expires".to_owned());
    }
    if old.not_after - old.not_before > (LIFETIME + 1) * DAY {
        return Some("it is valid for more than two years".to_owned());
    }
    let lacks_name = |name: &String| !old.names.contains(name);
    if lacks_name(&identity.node) || identity.fqdn.as_ref().is_some_and(lacks_name) {
        return Some("the node's name has changed".to_owned());
    }
    // Whatever order the resolver tells them in, one of them is enough.
    let addresses = &identity.addresses;
    if !addresses.is_empty() && !addresses.iter().any(|address| old.addresses.contains(address)) {
        return Some("the node's address has changed".to_owned());
    }
    None
}

/// The first word of the last `search` or `domain` line (reference 09 §6), if it can stand in a host name.
fn search_domain(resolv: &str) -> Option<&str> {
    let domain = resolv.lines().rev().find_map(line_domain)?.trim_end_matches('.');
    let valid = domain.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    (valid && !domain.is_empty()).then_some(domain)
}

fn line_domain(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("search").or_else(|| line.strip_prefix("domain"))?;
    if !rest.starts_with(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    rest.split_ascii_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_domains() {
        for (text, domain) in [
            ("", None),
            ("nameserver 192.0.2.1\n", None),
            ("search lab.example other\n", Some("lab.example")),
            ("search a.example\ndomain  b.example\n", Some("b.example")),
            ("search\tlab.example.\n", Some("lab.example")),
            (" search x\nsearching y\n", None),
            ("search .\n", None),
            ("search\n", None),
            ("search b\u{e4}d\n", None),
        ] {
            assert_eq!(search_domain(text), domain, "{text:?}");
        }
    }

    fn inspected() -> Inspected {
        Inspected {
            subject: b"node".to_vec(),
            issuer: b"ca".to_vec(),
            public_key: b"key".to_vec(),
            key_id: Some(b"1".to_vec()),
            issuer_key_id: Some(b"ca1".to_vec()),
            not_before: -DAY,
            not_after: 700 * DAY,
            names: vec!["localhost".to_owned(), "n1".to_owned()],
            addresses: vec!["192.0.2.1".parse().unwrap()],
        }
    }

    #[test]
    fn a_certificate_is_made_anew_when_it_no_longer_serves() {
        let authority = Inspected {
            subject: b"ca".to_vec(),
            key_id: Some(b"ca1".to_vec()),
            ..inspected()
        };
        let identity = Identity {
            node: "n1".to_owned(),
            fqdn: None,
            addresses: vec!["192.0.2.1".parse().unwrap()],
        };
        let check = |old: &Inspected, identity: &Identity, now| why_renew(Some(old), &authority, b"key", identity, now);
        let good = inspected();
        assert_eq!(check(&good, &identity, 0), None);
        assert!(why_renew(None, &authority, b"key", &identity, 0).is_some());
        assert!(why_renew(Some(&good), &authority, b"other", &identity, 0).is_some());
        assert_eq!(check(&good, &identity, 686 * DAY), None);
        assert!(check(&good, &identity, 687 * DAY).is_some());
        let renamed = Identity {
            node: "n2".to_owned(),
            ..identity.clone()
        };
        assert!(check(&good, &renamed, 0).is_some());
        let moved = Identity {
            addresses: vec!["192.0.2.2".parse().unwrap()],
            ..identity.clone()
        };
        assert!(check(&good, &moved, 0).is_some());
        let another_order = Identity {
            addresses: vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()],
            ..identity.clone()
        };
        assert_eq!(check(&good, &another_order, 0), None, "resolvers change their order");
        let own = Inspected {
            issuer: b"another".to_vec(),
            ..inspected()
        };
        assert_eq!(
            check(&own, &renamed, 900 * DAY),
            None,
            "somebody's own certificate stays"
        );
        let other_key = Inspected {
            issuer_key_id: Some(b"ca0".to_vec()),
            ..inspected()
        };
        assert!(check(&other_key, &identity, 0).is_some());
    }
}
