//! The cluster's key pair for tickets: loading, generation, rotation (reference 02 §5.5).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pve_cfs::{Cfs, LockId};
use pve_schema::Context;
use pve_sys::rsa::{self, PrivateKey, RsaError};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};

use super::window::{GRACE, KEY_LIFETIME, TICKET_LIFETIME};
use crate::error::AccessError;

const PRIVATE: &str = "priv/authkey.key";
const PUBLIC: &str = "authkey.pub";
const OLD: &str = "authkey.pub.old";

/// How long a signer waits for another's rotation.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A public key and since when it is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: Vec<u8>,
    mtime: i64,
}

impl PublicKey {
    /// The key, SPKI in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// When its file was written, Unix seconds.
    pub fn mtime(&self) -> i64 {
        self.mtime
    }

    fn from_pem(pem: &[u8], mtime: i64) -> Option<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?.to_vec();
        Some(Self { der, mtime })
    }
}

/// A private key that can sign.
#[derive(Debug)]
pub struct SigningKey(PrivateKey);

impl SigningKey {
    /// Reads a PEM file: PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// It holds no RSA private key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RsaError> {
        let key = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs1(der)) => PrivateKey::from_pkcs1(der.secret_pkcs1_der()),
            Ok(PrivateKeyDer::Pkcs8(der)) => PrivateKey::from_pkcs8(der.secret_pkcs8_der()),
            _ => Err(RsaError::BadPrivateKey),
        };
        key.map(Self)
    }

    pub(super) fn sign_sha1(&self, digest: &[u8; 20]) -> Result<Vec<u8>, RsaError> {
        self.0.sign_sha1(digest)
    }
}

impl PublicKey {
    /// The key in use, if there is one; a file that holds no key counts as absent.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn current(cfs: &Cfs) -> Result<Option<Arc<Self>>, AccessError> {
        load_public(cfs, PUBLIC)
    }

    /// The key before the last rotation.
    ///
    /// # Errors
    /// As [`PublicKey::current`].
    pub fn old(cfs: &Cfs) -> Result<Option<Arc<Self>>, AccessError> {
        load_public(cfs, OLD)
    }
}

fn load_public(cfs: &Cfs, rel: &str) -> Result<Option<Arc<PublicKey>>, AccessError> {
    let key = cfs.cached(rel, "public key", |bytes, stamp| {
        let key = PublicKey::from_pem(bytes?, stamp?.mtime());
        if key.is_none() {
            log::warn!("'{rel}' holds no public key");
        }
        key.map(Arc::new)
    })?;
    Ok((*key).clone())
}

/// The key to sign with, after a rotation if one is due.
///
/// # Errors
/// There is none and none can be made, or the caller may not read it.
pub fn signing_key(context: &Context) -> Result<Arc<SigningKey>, AccessError> {
    let cfs = Cfs::new(context);
    let missing = !cfs.exists(PRIVATE)?;
    if missing || is_stale(&cfs, context.now())? {
        rotate(context, missing)?;
    }
    let key = cfs.cached(PRIVATE, "private key", |bytes, _| {
        SigningKey::from_pem(bytes.unwrap_or_default()).ok().map(Arc::new)
    })?;
    (*key)
        .clone()
        .ok_or_else(|| AccessError::plain("unable to load authentication key"))
}

/// Makes the key pair if there is none.
///
/// # Errors
/// It cannot be made or stored.
pub fn generate_auth_key(context: &Context) -> Result<(), AccessError> {
    let cfs = Cfs::new(context);
    if cfs.exists(PRIVATE)? && cfs.exists(PUBLIC)? {
        return Ok(());
    }
    rotate(context, true)
}

/// Replaces the key pair if it is due: once a day, and when the key comes from the future.
///
/// # Errors
/// The new one cannot be made or stored.
pub fn rotate_if_stale(context: &Context) -> Result<(), AccessError> {
    if is_stale(&Cfs::new(context), context.now())? {
        rotate(context, false)?;
    }
    Ok(())
}

/// Whether the key pair is due for replacement. Without quorum it never is.
///
/// # Errors
/// The files cannot be looked at.
pub fn is_stale(cfs: &Cfs, now: i64) -> Result<bool, AccessError> {
    if !cfs.is_quorate() {
        return Ok(false);
    }
    let Some(key) = cfs.stamp(PUBLIC)? else { return Ok(true) };
    let old = cfs.stamp(OLD)?.map(|stamp| stamp.mtime());
    Ok(is_due(now, key.mtime(), old))
}

/// The rule of [`is_stale`] for a key that exists.
fn is_due(now: i64, mtime: i64, old_mtime: Option<i64>) -> bool {
    if now - mtime >= KEY_LIFETIME {
        return true;
    }
    if mtime <= now + GRACE {
        return false;
    }
    // A key from the future: unless the one before is recent too, something is wrong with it.
    match old_mtime.map(|old| mtime - old) {
        Some(between) if (0..TICKET_LIFETIME).contains(&between) => {
            log::warn!("auth key pair generated in the future (key {mtime} > host {now}), but old key still valid");
            false
        }
        _ => true,
    }
}

fn rotate(context: &Context, incomplete: bool) -> Result<(), AccessError> {
    let cfs = Cfs::new(context);
    cfs.with_lock(&LockId::Named("authkey".to_owned()), LOCK_TIMEOUT, || {
        // Another node or process may have been faster.
        let is_missing = incomplete && !(cfs.exists(PRIVATE)? && cfs.exists(PUBLIC)?);
        if !is_missing && !is_stale(&cfs, context.now())? {
            return Ok(());
        }
        replace_pair(&cfs)
    })
}

/// Writes a new pair. A failure leaves either the old pair or, if the halves would not match, none.
fn replace_pair(cfs: &Cfs) -> Result<(), AccessError> {
    let pair = rsa::generate_2048().map_err(|error| AccessError::plain(error.to_string()))?;
    let public = pem("PUBLIC KEY", &pair.public);
    let private = pem("PRIVATE KEY", &pair.private);
    let before = cfs.read(PUBLIC)?;
    if let Some(before) = &before {
        cfs.write(OLD, before)?;
    }
    fail::fail_point!("access::authkey-public", |_| Err(AccessError::plain("fail point")));
    if let Err(error) = cfs.write(PUBLIC, public.as_bytes()) {
        if let Some(before) = &before {
            // As good as it gets: the error that counts is the one above.
            let _ = cfs.write(PUBLIC, before);
        }
        return Err(error.into());
    }
    let written = (|| {
        fail::fail_point!("access::authkey-private", |_| Err(AccessError::plain("fail point")));
        Ok(cfs.write(PRIVATE, private.as_bytes())?)
    })();
    if written.is_err() {
        // Halves that do not match would sign tickets that nobody accepts: the next caller makes a pair anew.
        let _ = cfs.remove(PUBLIC);
        let _ = cfs.remove(PRIVATE);
    }
    written
}

/// A DER structure as PEM, 64 characters a line.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let body = STANDARD.encode(der);
    let mut rest = body.as_str();
    while let Some((line, tail)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The throw-away key K of reference 02 §16.
#[cfg(test)]
pub(crate) fn test_key() -> (SigningKey, PublicKey) {
    let private = STANDARD
        .decode(include_str!("../../tests/data/key-k.b64").trim())
        .unwrap();
    let public = STANDARD
        .decode(include_str!("../../tests/data/key-k-pub.b64").trim())
        .unwrap();
    let key = SigningKey::from_pem(pem("RSA PRIVATE KEY", &private).as_bytes()).unwrap();
    let public = PublicKey::from_pem(pem("PUBLIC KEY", &public).as_bytes(), 0).unwrap();
    (key, public)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_due_after_a_day_or_when_it_comes_from_the_future() {
        for (now, mtime, old, due) in [
            (86_400, 0, None, true),
            (86_399, 0, None, false),
            (1000, 1300, None, false),
            (1000, 1301, None, true),
            (1000, 8000, Some(801), false),
            (1000, 8000, Some(800), true),
            (1000, 8000, Some(8001), true),
        ] {
            assert_eq!(is_due(now, mtime, old), due, "{now} {mtime} {old:?}");
        }
    }
}
