//! TLS: which certificate, and how rustls is set up (reference 01 §2.6, 12 §2).
//!
//! TLS 1.2 and 1.3, no client certificates, no ALPN: clients match on reason phrases, which HTTP/2 does not have. The
//! cipher-list language, DH parameters and tickets shared between workers are not done yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pve_cfs::{Cfs, CfsError};
use pve_schema::Context;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// How long to wait before a certificate that could not be loaded is tried again (reference 01 §1.4).
const RETRY: Duration = Duration::from_secs(5);

/// TLS as the administrator set it.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// Where certificates are.
    pub context: Context,
    /// `TLS_KEY_FILE`: the key of the web interface's own certificate, wherever it is.
    pub key_file: Option<PathBuf>,
    /// `DISABLE_TLS_1_2`.
    pub disable_tls12: bool,
    /// `DISABLE_TLS_1_3`.
    pub disable_tls13: bool,
    /// `HONOR_CIPHER_ORDER`: the server chooses among the ciphers that both have.
    pub honor_cipher_order: bool,
}

impl TlsSettings {
    /// The defaults for a site.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            key_file: None,
            disable_tls12: false,
            disable_tls13: false,
            honor_cipher_order: true,
        }
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nothing is left to speak.
    #[error("misconfigured TLS settings - cannot disable all supported TLS versions!")]
    NoVersion,
    /// A file below `/etc/pve` cannot be read.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// There is no certificate, or none in the file.
    #[error("{0}: failed to load local certificate (cert_file or cert)")]
    Certificate(String),
    /// There is no key, or none in the file that can be used.
    #[error("{0}: failed to load local private key (key_file or key)")]
    Key(String),
    /// The library refuses key and certificate.
    #[error("{path}: {reason}")]
    Rustls {
        /// The certificate.
        path: String,
        /// What rustls said.
        reason: rustls::Error,
    },
}

/// A certificate chain and its key, as PEM text, with the names for messages.
struct Pair {
    certificate_path: String,
    certificate: Vec<u8>,
    key_path: String,
    key: Vec<u8>,
}

/// Sets TLS up; a certificate that cannot be loaded is logged and tried again until it can: once it is repaired, the
/// server works without anybody's help.
pub(crate) async fn acceptor(settings: &TlsSettings) -> TlsAcceptor {
    loop {
        let task = settings.clone();
        match tokio::task::spawn_blocking(move || server_config(&task)).await {
            Ok(Ok(config)) => return TlsAcceptor::from(Arc::new(config)),
            Ok(Err(error)) => log::error!("{error}"),
            Err(error) => log::error!("loading the certificate failed: {error}"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Reads certificate and key and sets rustls up.
///
/// # Errors
/// [`TlsError`].
pub fn server_config(settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
    let versions: &[_] = match (settings.disable_tls12, settings.disable_tls13) {
        (false, false) => &[&TLS13, &TLS12],
        (true, false) => &[&TLS13],
        (false, true) => &[&TLS12],
        (true, true) => return Err(TlsError::NoVersion),
    };
    let pair = choose(settings)?;
    let chain = CertificateDer::pem_slice_iter(&pair.certificate)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| TlsError::Certificate(pair.certificate_path.clone()))?;
    let key = PrivateKeyDer::from_pem_slice(&pair.key).map_err(|_| TlsError::Key(pair.key_path.clone()))?;
    let refused = |reason| TlsError::Rustls {
        path: pair.certificate_path.clone(),
        reason,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.ignore_client_order = settings.honor_cipher_order;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(refused)?;
    Ok(config)
}

/// Chooses the web interface's own certificate if it and its key are there, else the node's.
fn choose(settings: &TlsSettings) -> Result<Pair, TlsError> {
    let cfs = Cfs::new(&settings.context);
    let own = "local/pveproxy-ssl.pem";
    if let Some(certificate) = cfs.read(own)? {
        let (key_path, key) = match &settings.key_file {
            Some(path) => (path.display().to_string(), read_key(&cfs, path)?),
            None => (
                "/etc/pve/local/pveproxy-ssl.key".to_owned(),
                cfs.read("local/pveproxy-ssl.key")?,
            ),
        };
        if let Some(key) = key {
            log::info!("Using '/etc/pve/{own}' as certificate for the web interface.");
            return Ok(Pair {
                certificate_path: format!("/etc/pve/{own}"),
                certificate,
                key_path,
                key,
            });
        }
    }
    let certificate_path = "/etc/pve/local/pve-ssl.pem".to_owned();
    let key_path = "/etc/pve/local/pve-ssl.key".to_owned();
    let missing = || TlsError::Certificate(certificate_path.clone());
    Ok(Pair {
        certificate: cfs.read("local/pve-ssl.pem")?.ok_or_else(missing)?,
        key: cfs
            .read("local/pve-ssl.key")?
            .ok_or_else(|| TlsError::Key(key_path.clone()))?,
        certificate_path,
        key_path,
    })
}

/// A key that the administrator named: below `/etc/pve` or anywhere else.
fn read_key(cfs: &Cfs, path: &Path) -> Result<Option<Vec<u8>>, TlsError> {
    if let Some(rel) = path.strip_prefix("/etc/pve").ok().and_then(Path::to_str) {
        return Ok(cfs.read(rel)?);
    }
    if !path.is_file() {
        return Ok(None);
    }
    std::fs::read(path)
        .map(Some)
        .map_err(|_| TlsError::Key(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(dir: &Path) -> Context {
        let site = serde_json::json!({
            "root": dir, "instance": null, "address": "127.0.0.1", "node": "node1",
            "root_user": {"uid": 0, "gid": 0}, "web_user": {"uid": 33, "gid": 33},
        });
        Context::new(serde_json::from_value(site).unwrap())
    }

    /// A certificate and key, written under two names.
    fn make(dir: &Path, name: &str) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let node = dir.join("etc/pve/nodes/node1");
        std::fs::create_dir_all(&node).unwrap();
        std::fs::write(node.join(format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(node.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        made.cert.pem().into_bytes()
    }

    #[test]
    fn the_web_interfaces_own_certificate_comes_first_if_its_key_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let settings = TlsSettings::new(site(dir.path()));
        assert!(matches!(server_config(&settings), Err(TlsError::Certificate(path)) if path.ends_with("pve-ssl.pem")));
        let node = make(dir.path(), "pve-ssl");
        assert_eq!(choose(&settings).unwrap().certificate, node);
        let own = make(dir.path(), "pveproxy-ssl");
        assert_eq!(choose(&settings).unwrap().certificate, own);
        server_config(&settings).unwrap();
        let key = dir.path().join("etc/pve/nodes/node1/pveproxy-ssl.key");
        let elsewhere = dir.path().join("web.key");
        std::fs::rename(&key, &elsewhere).unwrap();
        assert_eq!(choose(&settings).unwrap().certificate, node);
        let settings = TlsSettings {
            key_file: Some(elsewhere.clone()),
            ..settings
        };
        assert_eq!(choose(&settings).unwrap().certificate, own);
        server_config(&settings).unwrap();
        std::fs::write(&elsewhere, "no key").unwrap();
        let error = server_config(&settings).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{}: failed to load local private key (key_file or key)",
                elsewhere.display()
            )
        );
    }

    #[test]
    fn one_version_must_be_left() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), "pve-ssl");
        let settings = |disable_tls12, disable_tls13| TlsSettings {
            disable_tls12,
            disable_tls13,
            ..TlsSettings::new(site(dir.path()))
        };
        assert!(server_config(&settings(true, false)).is_ok());
        assert!(server_config(&settings(false, true)).is_ok());
        assert!(matches!(server_config(&settings(true, true)), Err(TlsError::NoVersion)));
    }
}
