//! Which certificate the web interface shows, and the state of the files that TLS depends on.

use std::path::Path;

use pve_cfs::{Cfs, Stamp};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsError, TlsSettings};

/// The web interface's own certificate.
const OWN_CERTIFICATE: &str = "local/pveproxy-ssl.pem";
/// Its key, unless `TLS_KEY_FILE` names another.
const OWN_KEY: &str = "local/pveproxy-ssl.key";
/// The node's certificate.
const NODE_CERTIFICATE: &str = "local/pve-ssl.pem";
/// Its key.
const NODE_KEY: &str = "local/pve-ssl.key";

/// A certificate chain and its key, as PEM text, with the names for messages.
pub(super) struct Pair {
    pub(super) certificate_path: String,
    pub(super) certificate: Vec<u8>,
    pub(super) key_path: String,
    pub(super) key: Vec<u8>,
}

impl Pair {
    /// The chain, leaf first, and the key.
    pub(super) fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| TlsError::Certificate(self.certificate_path.clone()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::Key(self.key_path.clone()))?;
        Ok((chain, key))
    }

    /// Whether it is the web interface's own.
    pub(super) fn is_own(&self) -> bool {
        self.certificate_path == full(OWN_CERTIFICATE)
    }
}

fn full(rel: &str) -> String {
    format!("/etc/pve/{rel}")
}

/// Chooses the web interface's own certificate if it and its key are there, else the node's.
pub(super) fn choose(settings: &TlsSettings) -> Result<Pair, TlsError> {
    let cfs = Cfs::new(&settings.context);
    if let Some(certificate) = cfs.read(OWN_CERTIFICATE)? {
        let (key_path, key) = match &settings.key_file {
            Some(path) => (path.display().to_string(), read_key(&cfs, path)?),
            None => (full(OWN_KEY), cfs.read(OWN_KEY)?),
        };
        if let Some(key) = key {
            return Ok(Pair {
                certificate_path: full(OWN_CERTIFICATE),
                certificate,
                key_path,
                key,
            });
        }
    }
    let missing = || TlsError::Certificate(full(NODE_CERTIFICATE));
    Ok(Pair {
        certificate: cfs.read(NODE_CERTIFICATE)?.ok_or_else(missing)?,
        key: cfs.read(NODE_KEY)?.ok_or_else(|| TlsError::Key(full(NODE_KEY)))?,
        certificate_path: full(NODE_CERTIFICATE),
        key_path: full(NODE_KEY),
    })
}

/// A key that the administrator named: below `/etc/pve` or anywhere else.
fn read_key(cfs: &Cfs, path: &Path) -> Result<Option<Vec<u8>>, TlsError> {
    if let Some(rel) = below_etc_pve(path) {
        return Ok(cfs.read(rel)?);
    }
    if !path.is_file() {
        return Ok(None);
    }
    std::fs::read(path)
        .map(Some)
        .map_err(|_| TlsError::Key(path.display().to_string()))
}

/// A path below `/etc/pve`, relative to it.
pub(super) fn below_etc_pve(path: &Path) -> Option<&str> {
    path.strip_prefix("/etc/pve").ok().and_then(Path::to_str)
}

/// The state of every file that the choice depends on: while it is the same, nothing need be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files(Vec<Option<Stamp>>);

impl Files {
    /// How the files are now. One that cannot be looked at counts as absent: reading it will say why.
    pub(super) fn look(settings: &TlsSettings) -> Self {
        let cfs = Cfs::new(&settings.context);
        let fixed = [OWN_CERTIFICATE, OWN_KEY, NODE_CERTIFICATE, NODE_KEY];
        let fixed = fixed.into_iter().map(|rel| cfs.stamp(rel).ok().flatten());
        let named = [&settings.key_file, &settings.dh_params];
        let named = named.into_iter().flatten().map(|path| match below_etc_pve(path) {
            Some(rel) => cfs.stamp(rel).ok().flatten(),
            None => Stamp::of_path(path),
        });
        Self(fixed.chain(named).collect())
    }
}
