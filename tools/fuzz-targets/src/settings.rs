//! Parsers of what administrators write, and of the header of a reverse proxy.

use std::net::{IpAddr, Ipv4Addr};

use pve_daemon::acl::{AddressSet, Range, RealIp, canonical_text};
use pve_daemon::defaults::subset;
use pve_http::tls::{cipher_list, dh_params::Parameters};

use crate::text;

/// A file of `/etc/default` that needs no shell.
pub fn defaults_file(data: &[u8]) {
    let Some(variables) = subset::parse(&text(data)) else {
        return;
    };
    for (name, value) in &variables {
        assert!(!name.is_empty() && !value.contains('\0'));
        // Quoted as a shell would need it, every value is read as it was.
        let quoted = format!("{name}='{}'\n", value.replace('\'', r"'\''"));
        assert_eq!(
            subset::parse(&quoted)
                .and_then(|again| again.get(name).cloned())
                .as_ref(),
            Some(value)
        );
    }
}

/// Lists of addresses, blocks and ranges.
pub fn address_range(data: &[u8]) {
    let text = text(data);
    let _ = text.parse::<AddressSet>();
    let Ok(range) = text.parse::<Range>() else { return };
    let first = range.first();
    // A mapped address is IPv4, which a range that only begins with one is not.
    let unmapped = range.unmapped();
    let straddles = matches!(unmapped, Range::V6(first, _) if first.to_ipv4_mapped().is_some());
    assert!(straddles || unmapped.contains(first), "{text}");
    let again: Range = canonical_text(first).parse().expect("an address");
    assert_eq!(again.first(), first);
}

/// The header of a reverse proxy.
pub fn real_ip(data: &[u8]) {
    let header = Some("x-real-ip".to_owned());
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let shown = RealIp { header, trusted: None }.accept(peer, &text(data));
    if let Some(shown) = shown {
        assert!(
            shown.bytes().all(|b| b.is_ascii_hexdigit() || b".:".contains(&b)),
            "{shown:?}"
        );
    }
}

/// `CIPHERS`.
pub fn cipher_list(data: &[u8]) {
    let Ok(list) = cipher_list::parse(&text(data)) else {
        return;
    };
    assert!(!list.suites.is_empty());
    assert!(list.named.iter().all(|suite| list.suites.contains(suite)));
    let mut ids: Vec<u16> = list.suites.iter().map(|suite| suite.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), list.suites.len(), "each suite once");
}

/// `DHPARAMS`: the file's content, and what its PEM block would hold.
pub fn dh_params(data: &[u8]) {
    use base64::Engine as _;
    let _ = Parameters::from_pem(data);
    let block = base64::engine::general_purpose::STANDARD.encode(data);
    let pem = format!("-----BEGIN DH PARAMETERS-----\n{block}\n-----END DH PARAMETERS-----\n");
    if let Ok(parameters) = Parameters::from_pem(pem.as_bytes()) {
        assert!((2048..=8192).contains(&parameters.bits()));
        assert!(parameters.contains(&parameters.g));
    }
}
