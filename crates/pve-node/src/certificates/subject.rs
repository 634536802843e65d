//! Whose a certificate is, as SPICE viewers spell it.

use x509_parser::der_parser::Oid;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::pem::parse_x509_pem;

/// The subject of the first certificate of a PEM text: `OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN=n1.lab`
/// (reference 02 §6.5). A comma in a value is escaped by a backslash. `None` if there is no certificate in it.
pub fn subject(pem: &[u8]) -> Option<String> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let attributes = certificate.subject().iter_attributes().map(|attribute| {
        let value = attribute.as_str().ok()?.replace('\\', "\\\\").replace(',', "\\,");
        Some(format!("{}={value}", name(attribute.attr_type())))
    });
    Some(attributes.collect::<Option<Vec<_>>>()?.join(","))
}

/// The short name of an attribute, or its number where it has none.
fn name(oid: &Oid<'_>) -> String {
    oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn subjects_are_spelt_for_viewers() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, "PVE Cluster Node");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Proxmox, \\Lab");
        params.distinguished_name.push(DnType::CommonName, "n1.lab");
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        assert_eq!(
            subject(pem.as_bytes()).as_deref(),
            Some("OU=PVE Cluster Node,O=Proxmox\\, \\\\Lab,CN=n1.lab")
        );
        assert_eq!(
            subject(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            None
        );
        assert_eq!(subject(b""), None);
    }
}
