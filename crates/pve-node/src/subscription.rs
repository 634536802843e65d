//! The node's subscription (reference 09 §13): there is none for this software, and the key of one that upstream's
//! tools left in `/etc/subscription` cannot be verified here.
//!
//! Not here: setting, checking and removing a key.

use std::fs;
use std::io;
use std::path::PathBuf;

use aws_lc_rs::hmac;
use openssl::hash::{MessageDigest, hash};
use pve_schema::{Failure, Site, errno_text};

/// The file, below the site's root.
const FILE: &str = "/etc/subscription";
/// Where one can be had.
pub const URL: &str = "https://www.proxmox.com/en/proxmox-virtual-environment/pricing";
/// What the machine's number is hashed with, so that it does not show itself.
const APPLICATION: [u8; 16] = [
    0x80, 0xf9, 0xfa, 0xeb, 0x42, 0x9f, 0x7e, 0x99, 0x92, 0x48, 0xfe, 0x63, 0x6a, 0x45, 0x6b, 0x0e,
];
/// Facts of the machine, not of the site, as what is below `/proc` is.
const MACHINE_ID: &str = "/etc/machine-id";
const SSH_HOST_KEY: &str = "/etc/ssh/ssh_host_rsa_key.pub";

/// What is known of a node's subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// There is no key.
    NotFound,
    /// A key that was never checked.
    New(String),
    /// A key that upstream's server once confirmed. Its signature is made with a constant of upstream's.
    Unverified(String),
}

/// What goes wrong.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// The file cannot be read.
    #[error("unable to read file '{}' - {}", .path.display(), errno_text(.error))]
    Read {
        /// This one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Nothing tells this machine from others.
    #[error("Failed to get any hardware address candidate: no machine id and no ssh host key")]
    NoServerId,
}

impl Failure for SubscriptionError {}

impl Subscription {
    /// What a site's file says.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(site: &Site) -> Result<Self, SubscriptionError> {
        let path = site.path(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::NotFound),
            Err(error) => Err(SubscriptionError::Read { path, error }),
        }
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        match (lines.next(), lines.next()) {
            (None, _) => Self::NotFound,
            (Some(key), None) => Self::New(key.to_owned()),
            (Some(key), Some(_)) => Self::Unverified(key.to_owned()),
        }
    }

    /// The word for it.
    pub fn status(&self) -> &'static str {
        match self {
            Self::NotFound => "notfound",
            Self::New(_) => "new",
            Self::Unverified(_) => "invalid",
        }
    }

    /// More words; none for a key that was never checked.
    pub fn message(&self) -> Option<&'static str> {
        match self {
            Self::NotFound => Some("There is no subscription key"),
            Self::New(_) => None,
            Self::Unverified(_) => Some("online subscription check is not available"),
        }
    }

    /// The key.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::NotFound => None,
            Self::New(key) | Self::Unverified(key) => Some(key),
        }
    }
}

/// What tells this machine from others: of its number, or of its ssh host key.
///
/// # Errors
/// [`SubscriptionError::NoServerId`].
pub fn server_id() -> Result<String, SubscriptionError> {
    let machine = fs::read_to_string(MACHINE_ID).ok().and_then(|id| of_machine_id(&id));
    let host_key = || {
        Some(upper_hex(
            &hash(MessageDigest::md5(), &fs::read(SSH_HOST_KEY).ok()?).ok()?,
        ))
    };
    machine.or_else(host_key).ok_or(SubscriptionError::NoServerId)
}

/// The number that systemd gives an application: a version 4 UUID that is made of both.
fn of_machine_id(id: &str) -> Option<String> {
    let id = hex::decode(id.trim()).ok().filter(|id| id.len() == 16)?;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &id), &APPLICATION);
    let mut bytes: [u8; 16] = tag.as_ref().get(..16)?.try_into().ok()?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Some(upper_hex(&bytes))
}

fn upper_hex(bytes: &[u8]) -> String {
    hex::encode_upper(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_how_far_a_key_came() {
        for (text, status) in [
            ("", "notfound"),
            ("\n", "notfound"),
            ("pve1c-0123456789\n", "new"),
            ("pve1c-0123456789\nc2ln\neyJ9\n", "invalid"),
        ] {
            assert_eq!(Subscription::parse(text).status(), status, "{text:?}");
        }
        assert_eq!(
            Subscription::parse("pve1c-0123456789\n").key(),
            Some("pve1c-0123456789")
        );
    }

    /// As `systemd-id128 machine-id --app-specific=80f9faeb429f7e999248fe636a456b0e` makes it.
    #[test]
    fn the_server_id_is_systemds_number_for_the_application() {
        assert_eq!(
            of_machine_id("0123456789abcdef0123456789abcdef\n").as_deref(),
            Some("A8BBF68DC3164501929966F92FF1C65B")
        );
        for bad in ["", "uninitialized", "0123"] {
            assert_eq!(of_machine_id(bad), None);
        }
    }
}
