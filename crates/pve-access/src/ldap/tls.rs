//! TLS towards a directory: what is demanded of the server, and what it is shown of us.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::LdapError;
use super::settings::Tls;

/// Most bytes of a file of certificates: some ten times those of all authorities of the world.
const MAX_FILE: u64 = 4 << 20;

/// What TLS is set up with.
///
/// # Errors
/// Certificates or the key cannot be read, or the version is none that is spoken.
pub(super) fn config(tls: &Tls, server: &str) -> Result<Arc<ClientConfig>, LdapError> {
    let failed = |error: Error| LdapError::Tls(error.to_string());
    let versions = match tls.version.as_deref() {
        None => vec![&TLS12, &TLS13],
        Some("tlsv1_2") => vec![&TLS12],
        Some("tlsv1_3") => vec![&TLS13],
        Some(other) => return Err(LdapError::Tls(format!("'sslversion {other}' is no longer supported"))),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(verifier(tls, server, provider)?);
    // Like upstream's, only shown to a server that has proved who it is.
    let config = match tls.identity.as_ref().filter(|_| tls.verify) {
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(failed)?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn verifier(tls: &Tls, server: &str, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, LdapError> {
    if !tls.verify {
        return Ok(Arc::new(Anybody(provider)));
    }
    let name = ServerName::try_from(server.to_owned())
        .map_err(|_| LdapError::Tls(format!("'{server}' can be no name in a certificate")))?;
    let trusted = authorities(&tls.ca_path)?;
    let mut roots = RootCertStore::empty();
    // A directory of the system's may hold one that nobody understands.
    roots.add_parsable_certificates(trusted.iter().cloned());
    let by_authority = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .map_err(|error| LdapError::Tls(format!("{}: {error}", tls.ca_path.display())))?;
    Ok(Arc::new(Trusted {
        name,
        trusted,
        by_authority,
    }))
}

/// The certificates in a file or a directory.
fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, LdapError> {
    let (file, directory) = match path.is_dir() {
        true => (None, Some(path)),
        false => (Some(path), None),
    };
    for file in files(path)? {
        require_small(&file)?;
    }
    let found = rustls_native_certs::load_certs_from_paths(file, directory);
    match found.errors.first() {
        // A file that cannot be read in a directory of many is none to be trusted, and no more.
        Some(error) if found.certs.is_empty() => Err(LdapError::Tls(error.to_string())),
        None if found.certs.is_empty() => Err(LdapError::Tls(format!("{}: no certificate", path.display()))),
        _ => Ok(found.certs),
    }
}

/// The file itself, or those in a directory.
fn files(path: &Path) -> Result<Vec<PathBuf>, LdapError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = path.read_dir().map_err(|error| unreadable(path, &error))?;
    // Links that lead nowhere and what is no file are passed by when it is read.
    let files = entries.flatten().map(|entry| entry.path());
    Ok(files.filter(|path| path.is_file()).collect())
}

/// A device has no end, and what is larger is no certificate.
fn require_small(path: &Path) -> Result<(), LdapError> {
    let metadata = path.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.is_file() && metadata.len() <= MAX_FILE {
        return Ok(());
    }
    Err(unreadable(path, &"no file of certificates"))
}

fn unreadable(path: &Path, reason: &dyn std::fmt::Display) -> LdapError {
    LdapError::Tls(format!("{}: {reason}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LdapError> {
    require_small(path)?;
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error| unreadable(path, &error))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LdapError> {
    require_small(path)?;
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path, &error))
}

/// Takes every certificate: `verify 0`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    /// A signature proves nothing where any certificate is good; and one of an old server may not even be readable.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes what an authority vouches for, and what is among the trusted certificates itself.
#[derive(Debug)]
struct Trusted {
    /// The server as it is configured; the library knows names and addresses of version 4 only.
    name: ServerName<'static>,
    trusted: Vec<CertificateDer<'static>>,
    by_authority: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let result = self
            .by_authority
            .verify_server_cert(server, between, &self.name, ocsp, now);
        // A certificate that signed itself, as small installations have, is no authority's; whoever put it among the
        // trusted ones meant it.
        match result {
            Err(Error::InvalidCertificate(_)) if self.trusted.contains(server) => self.verify_itself(server, now),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

impl Trusted {
    /// A trusted certificate still must name the server and be of this time.
    fn verify_itself(&self, server: &CertificateDer<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
        verify_server_name(&ParsedCertificate::try_from(server)?, &self.name)?;
        let (_, parsed) = X509Certificate::from_der(server).map_err(|_| CertificateError::BadEncoding)?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let now = ASN1Time::from_timestamp(seconds).map_err(|_| CertificateError::BadEncoding)?;
        if now < parsed.validity().not_before {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > parsed.validity().not_after {
            return Err(CertificateError::Expired.into());
        }
        Ok(ServerCertVerified::assertion())
    }
}
