//! Asks others over HTTP: identity providers, validation servers, whatever a setting of the administrator names.
//!
//! One request, one answer, both in memory. Everything is bounded: the whole exchange by a deadline, the answer by a
//! size. Redirects are not followed: what the administrator named is what is asked. Certificates are checked against
//! those that the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), unless [`Trust`] says otherwise.
//!
//! Not here: what is asked.

mod error;
mod only;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};
use ureq::{Agent, Proxy, ProxyProtocol};

pub use error::FetchError;

/// How others are asked.
#[derive(Clone)]
pub struct Settings {
    /// How long an exchange may take, from looking up the name to the last byte of the answer.
    pub deadline: Duration,
    /// The largest answer that is taken, in bytes.
    pub largest: u64,
    /// The URL of a proxy (`http://[USER:PASSWORD@]HOST[:PORT]`), as `datacenter.cfg`'s `http_proxy` has it.
    pub proxy: Option<String>,
    /// Which servers are believed to be who they say they are.
    pub trust: Trust,
}

/// Which servers are believed to be who they say they are, over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those with a certificate for their name that the system trusts.
    #[default]
    System,
    /// All of them: the administrator said so.
    Anybody,
    /// The one that has this certificate, as PEM; its names, its age and who signed it do not count. There is no way
    /// to it through a proxy.
    Only(Vec<u8>),
    /// The same, with the SHA-256 of the certificate instead of the certificate.
    Fingerprint([u8; 32]),
    /// Those with a certificate for their name that one of these authorities vouches for, as PEM.
    Authority(Vec<u8>),
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("deadline", &self.deadline)
            .field("largest", &self.largest)
            .field("proxy", &self.proxy.as_deref().map(without_password))
            .field("trust", &self.trust)
            .finish()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            largest: 1 << 20,
            proxy: None,
            trust: Trust::System,
        }
    }
}

/// Who asks. Connections are kept for the next request to the same server.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    largest: u64,
    /// The proxy's host and port.
    proxy: Option<String>,
}

impl Client {
    /// A client that asks as the settings say.
    ///
    /// # Errors
    /// [`FetchError::Proxy`]: the proxy's URL is none, or not of HTTP. [`FetchError::Certificate`]: the one certificate
    /// that is trusted is none.
    pub fn new(settings: &Settings) -> Result<Self, FetchError> {
        let proxy = settings.proxy.as_deref().map(proxy_at).transpose()?;
        let proxy_name = proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let config = Agent::config_builder()
            .timeout_global(Some(settings.deadline))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // Not taken from the environment either, which is not the administrator's place to say it.
            .proxy(proxy)
            .tls_config(tls(&settings.trust)?)
            .user_agent(concat!("pve/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = match &settings.trust {
            Trust::System | Trust::Anybody | Trust::Authority(_) => Agent::new_with_config(config),
            Trust::Only(pem) => only_one(config, only::Expected::of_pem(pem)?)?,
            Trust::Fingerprint(digest) => only_one(config, only::Expected::Digest(*digest))?,
        };
        Ok(Self {
            agent,
            largest: settings.largest,
            proxy: proxy_name,
        })
    }

    /// Sends a request and takes the answer, whatever its status.
    ///
    /// # Errors
    /// There is no answer, it is none, or it is larger or later than the settings allow.
    pub fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, FetchError> {
        let server = server_of(request.uri());
        let failed = |error| FetchError::of(&server, self.proxy.as_deref(), error);
        let (head, body) = self.agent.run(request).map_err(failed)?.into_parts();
        let body = body
            .into_with_config()
            .limit(self.largest)
            .read_to_vec()
            .map_err(failed)?;
        Ok(Response::from_parts(head, body))
    }

    /// As [`Client::send`], with a deadline for this exchange alone.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn send_within(&self, request: Request<Vec<u8>>, deadline: Duration) -> Result<Response<Vec<u8>>, FetchError> {
        if deadline.is_zero() {
            return Err(FetchError::Timeout(server_of(request.uri())));
        }
        let request = self.agent.configure_request(request);
        self.send(request.timeout_global(Some(deadline)).build())
    }
}

/// The proxy that a setting names. Others than those of HTTP are not built in.
fn proxy_at(url: &str) -> Result<Proxy, FetchError> {
    let proxy = Proxy::new(url).ok();
    let proxy = proxy.filter(|proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https));
    proxy.ok_or_else(|| FetchError::Proxy(without_password(url)))
}

fn only_one(config: ureq::config::Config, expected: only::Expected) -> Result<Agent, FetchError> {
    let connector = TcpConnector::default().chain(only::Only::new(expected)?);
    Ok(Agent::with_parts(config, connector, DefaultResolver::default()))
}

fn tls(trust: &Trust) -> Result<TlsConfig, FetchError> {
    let found = match trust {
        Trust::System => rustls_native_certs::load_native_certs().certs,
        Trust::Authority(pem) => authorities(pem)?,
        Trust::Anybody | Trust::Only(_) | Trust::Fingerprint(_) => Vec::new(),
    };
    let trusted = found.iter().map(|der| Certificate::from_der(der).to_owned());
    Ok(TlsConfig::builder()
        .disable_verification(*trust == Trust::Anybody)
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(trusted.collect())))
        .build())
}

/// All certificates of a PEM text; there must be one.
fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FetchError> {
    let failed = |error: rustls_pki_types::pem::Error| FetchError::Certificate(error.to_string());
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(failed)?;
    match found.is_empty() {
        true => Err(failed(rustls_pki_types::pem::Error::NoItemsFound)),
        false => Ok(found),
    }
}

/// The server that a URL names, for messages: without path and query, in which secrets may stand.
fn server_of(uri: &http::Uri) -> String {
    let host = uri.host().unwrap_or_default();
    match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}
