//! What identifies a node's certificate.

use aws_lc_rs::digest::{SHA256, digest};
use pve_cfs::{Cfs, CfsError};
use x509_parser::pem::parse_x509_pem;

/// The certificate that a node's web side shows, as PEM: the node's own `pveproxy-ssl.pem` if there is one, else
/// `pve-ssl.pem`. `None` if there is none.
///
/// # Errors
/// The file cannot be read.
pub fn web_certificate(cfs: &Cfs, node: &str) -> Result<Option<Vec<u8>>, CfsError> {
    match cfs.read(&format!("nodes/{node}/pveproxy-ssl.pem"))? {
        Some(pem) => Ok(Some(pem)),
        None => cfs.read(&format!("nodes/{node}/pve-ssl.pem")),
    }
}

/// SHA-256 of the certificate that a node's web side shows, upper-case hex with colons (reference 04 §6.1). `None` if
/// there is none that can be read.
///
/// # Errors
/// The file cannot be read.
pub fn fingerprint(cfs: &Cfs, node: &str) -> Result<Option<String>, CfsError> {
    let pem = web_certificate(cfs, node)?;
    Ok(pem.and_then(|pem| {
        let (_, pem) = parse_x509_pem(&pem).ok()?;
        let bytes = digest(&SHA256, &pem.contents);
        let pairs: Vec<String> = bytes.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        Some(pairs.join(":"))
    }))
}
