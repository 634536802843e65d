//! TLS: what the administrator set, and how rustls does it (reference 01 §2.6, 12 §1 and §2).
//!
//! | module | holds |
//! |---|---|
//! | `certificate` | which certificate is shown |
//! | [`suites`], [`cipher_list`] | OpenSSL's names of ciphers, and its language of lists of them |
//! | `provider` | which of them are to be had, in the administrator's order |
//! | [`dh_params`], `dhe` | finite-field Diffie-Hellman, which rustls has not |
//! | `check`, `validity` | what is wrong with the settings and certificates, for the verb `check` |
//! | `tickets` | resuming a session with any worker |
//! | `live` | the configuration in use, and its replacement when a file changes |
//!
//! TLS 1.2 and 1.3, no client certificates; ALPN only where the administrator offers HTTP/2.

mod certificate;
mod check;
pub mod cipher_list;
pub mod dh_params;
mod dhe;
mod live;
mod provider;
pub mod suites;
mod tickets;
mod validity;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pve_cfs::CfsError;
use pve_schema::Context;
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};

pub use check::{Problem, Subject, check};
pub use cipher_list::CipherListError;
pub use dh_params::ParametersError;
pub(crate) use live::Live;
pub use tickets::TicketSecret;
use tickets::Tickets;

/// How often the files are looked at: a new certificate is in use after this time at the latest.
const RECHECK: Duration = Duration::from_secs(5);

/// The name by which clients choose HTTP/2 (RFC 9113 §3.2).
pub(crate) const HTTP2: &[u8] = b"h2";

/// TLS as the administrator set it.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// Where certificates are.
    pub context: Context,
    /// `TLS_KEY_FILE`: the key of the web interface's own certificate, wherever it is.
    pub key_file: Option<PathBuf>,
    /// `CIPHERS`: OpenSSL's cipher list for TLS 1.2; `None` is the built-in list.
    pub ciphers: Option<String>,
    /// `CIPHERSUITES`: OpenSSL's names of suites for TLS 1.3, with colons between; `None` is all.
    pub cipher_suites: Option<String>,
    /// `DHPARAMS`: a PEM file; `None` is the built-in group.
    pub dh_params: Option<PathBuf>,
    /// `DISABLE_TLS_1_2`.
    pub disable_tls12: bool,
    /// `DISABLE_TLS_1_3`.
    pub disable_tls13: bool,
    /// `HONOR_CIPHER_ORDER`: the server chooses among the ciphers that both have.
    pub honor_cipher_order: bool,
    /// `HTTP2`: it is offered beside HTTP/1.1.
    pub http2: bool,
    /// What session tickets are made with: one for all workers, and for all certificates after each other.
    pub tickets: TicketSecret,
    /// How often the files are looked at; tests shorten it.
    pub recheck: Duration,
}

impl TlsSettings {
    /// The defaults for a site.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            key_file: None,
            ciphers: None,
            cipher_suites: None,
            dh_params: None,
            disable_tls12: false,
            disable_tls13: false,
            honor_cipher_order: true,
            http2: false,
            tickets: TicketSecret::random(),
            recheck: RECHECK,
        }
    }

    /// Says in the log what of the lists of ciphers cannot be had. Whether they can be used at all shows later.
    pub fn log_notes(&self) {
        if let Ok(selection) = provider::select(self) {
            for (level, text) in &selection.notes {
                log::log!(*level, "{text}");
            }
        }
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nothing is left to speak.
    #[error("misconfigured TLS settings - cannot disable all supported TLS versions!")]
    NoVersion,
    /// `CIPHERS` is no cipher list.
    #[error("'{list}' was not accepted as a valid cipher list - {reason}")]
    Ciphers {
        /// As it was set.
        list: String,
        /// What is wrong with it.
        reason: CipherListError,
    },
    /// `CIPHERS` names only ciphers that do not exist here.
    #[error("'{list}' was not accepted as a valid cipher list - none of its ciphers is supported: {names}")]
    NoCipher {
        /// As it was set.
        list: String,
        /// The first of its ciphers.
        names: String,
    },
    /// `@SECLEVEL` excludes everything.
    #[error("'{list}' was not accepted as a valid cipher list - nothing reaches its security level")]
    Level {
        /// As it was set.
        list: String,
    },
    /// `DHPARAMS` cannot be opened.
    #[error("{path}: failed to open DH parameter file: {reason}")]
    OpenParameters {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// `DHPARAMS` holds no group.
    #[error("{path}: {reason}")]
    Parameters {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: ParametersError,
    },
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
    let provider = provider::select(settings)?.provider()?;
    let pair = certificate::choose(settings)?;
    let (chain, key) = pair.read()?;
    let refused = |reason| TlsError::Rustls {
        path: pair.certificate_path.clone(),
        reason,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.ignore_client_order = settings.honor_cipher_order;
    if settings.http2 {
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    }
    config.ticketer = Arc::new(Tickets::new(&settings.tickets, &settings.context));
    if pair.is_own() {
        let path = &pair.certificate_path;
        log::info!("Using '{path}' as certificate for the web interface.");
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::certificate::choose;
    use super::*;

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
        let settings = TlsSettings::new(pve_testing::context(dir.path(), "node1"));
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
            ..TlsSettings::new(pve_testing::context(dir.path(), "node1"))
        };
        assert!(server_config(&settings(true, false)).is_ok());
        assert!(server_config(&settings(false, true)).is_ok());
        assert!(matches!(server_config(&settings(true, true)), Err(TlsError::NoVersion)));
    }
}
