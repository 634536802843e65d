//! Which certificate is a node's: the one whose fingerprint is that of the file below `/etc/pve` (reference 01 §4.3).
//!
//! The files are read anew for every connection, so that a certificate that was replaced needs no waiting time. A node
//! is believed its own certificate only, not another node's. Names in certificates, their age and who signed them do
//! not count.

use std::fmt::{self, Write as _};
use std::sync::{Arc, OnceLock};

use pve_cfs::{Cfs, CfsError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

/// The files that a node's proxy takes its certificate from, in the order in which it looks.
const FILES: [&str; 2] = ["pveproxy-ssl.pem", "pve-ssl.pem"];

/// SHA-256 of a certificate. Shown as upper-case hex with colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char(':')?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

/// The fingerprint that a node's certificate must have; the inner error says why there is none.
///
/// # Errors
/// A file is there and cannot be read.
pub(super) fn read(cfs: &Cfs, node: &str) -> Result<Result<Fingerprint, String>, CfsError> {
    for file in FILES {
        let rel = format!("nodes/{node}/{file}");
        if let Some(pem) = cfs.read(&rel)? {
            let leaf = CertificateDer::from_pem_slice(&pem);
            return Ok(leaf
                .map(|leaf| Fingerprint::of(&leaf))
                .map_err(|_| format!("no certificate in '/etc/pve/{rel}'")));
        }
    }
    Ok(Err(format!(
        "no certificate of node '{node}' in '/etc/pve/nodes/{node}'"
    )))
}

/// Accepts one certificate, for one connection.
#[derive(Debug)]
pub(super) struct Verifier {
    expected: Fingerprint,
    /// What the other end showed instead.
    refused: OnceLock<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn new(expected: Fingerprint, provider: Arc<CryptoProvider>) -> Self {
        Self {
            expected,
            refused: OnceLock::new(),
            provider,
        }
    }

    /// Why the handshake ended, if it was for the certificate.
    pub(super) fn mismatch(&self, node: &str) -> Option<String> {
        let (expected, seen) = (self.expected, self.refused.get()?);
        Some(format!(
            "certificate of node '{node}' is not the one in /etc/pve: expected {expected}, seen {seen}"
        ))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = Fingerprint::of(end_entity);
        if seen == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let _ = self.refused.set(seen);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    // The certificate is public: only the signature shows that the other end has its key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_web_interfaces_own_certificate_is_the_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let cfs = Cfs::new(&pve_testing::context(dir.path(), "node1"));
        let folder = dir.path().join("etc/pve/nodes/node2");
        std::fs::create_dir_all(&folder).unwrap();
        let missing = "no certificate of node 'node2' in '/etc/pve/nodes/node2'";
        assert_eq!(read(&cfs, "node2").unwrap(), Err(missing.to_owned()));
        for file in ["pve-ssl.pem", "pveproxy-ssl.pem"] {
            let made = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
            std::fs::write(folder.join(file), made.cert.pem()).unwrap();
            let expected = Fingerprint::of(made.cert.der());
            assert_eq!(read(&cfs, "node2").unwrap(), Ok(expected), "{file}");
        }
        std::fs::write(folder.join("pveproxy-ssl.pem"), "none").unwrap();
        let garbled = "no certificate in '/etc/pve/nodes/node2/pveproxy-ssl.pem'";
        assert_eq!(read(&cfs, "node2").unwrap(), Err(garbled.to_owned()));
    }

    #[test]
    fn fingerprints_are_shown_as_openssl_shows_them() {
        let mut bytes = [0_u8; 32];
        bytes[0] = 0xab;
        let shown = Fingerprint(bytes).to_string();
        assert_eq!((shown.len(), shown.get(..8)), (95, Some("AB:00:00")));
    }
}
