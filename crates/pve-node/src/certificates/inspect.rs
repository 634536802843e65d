//! What is in a certificate, as far as it decides whether the node needs a new one.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;

/// What is in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inspected {
    /// The subject, DER.
    pub(super) subject: Vec<u8>,
    /// The issuer, DER.
    pub(super) issuer: Vec<u8>,
    /// The public key, SPKI in DER.
    pub(super) public_key: Vec<u8>,
    /// The key identifier of its own key.
    pub(super) key_id: Option<Vec<u8>>,
    /// The key identifier of the issuer's key.
    pub(super) issuer_key_id: Option<Vec<u8>>,
    /// First second of validity.
    pub(super) not_before: i64,
    /// Last second of validity.
    pub(super) not_after: i64,
    /// DNS names that it is for.
    pub(super) names: Vec<String>,
    /// Addresses that it is for.
    pub(super) addresses: Vec<IpAddr>,
}

/// Reads the first certificate of a PEM text.
pub(super) fn inspect(pem: &[u8]) -> Option<Inspected> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let (names, addresses) = alternative_names(&certificate);
    let (key_id, issuer_key_id) = key_ids(&certificate);
    Some(Inspected {
        subject: certificate.subject().as_raw().to_vec(),
        issuer: certificate.issuer().as_raw().to_vec(),
        public_key: certificate.public_key().raw.to_vec(),
        key_id,
        issuer_key_id,
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        names,
        addresses,
    })
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return (names, addresses);
    };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    (names, addresses)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn key_ids(certificate: &X509Certificate<'_>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let (mut own, mut issuer) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                issuer = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    (own, issuer)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = inspect(&body);
            let mut pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
            pem.extend(&body);
            pem.extend(b"\n-----END CERTIFICATE-----\n");
            let _ = inspect(&pem);
        }
    }
}
