//! `updatecerts`: the root step that makes keys, certificates and the directories they are in
//! (reference 01 §1.10, 04 §7).
//!
//! Run by package, unit and lab before the web side starts. It makes what is missing and touches nothing that is good;
//! a second run changes nothing. Not here: certificates from ACME or of a person's own (`pveproxy-ssl.pem`).

mod authority;
mod error;
mod fingerprint;
mod inspect;
mod node;
mod serial;
mod subject;

pub use error::NodeError;
pub use fingerprint::{fingerprint, web_certificate};
pub use node::full_name;
pub use subject::subject;

use std::time::{Duration, Instant};

use pve_cfs::{Cfs, LockId, Stranger};
use pve_schema::Context;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

/// Longest wait for a majority of the nodes, and for another run (reference 04 §7).
const PATIENCE: Duration = Duration::from_secs(80);
/// How often quorum is looked for.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// One day in seconds: certificates start a day in the past, for nodes whose clocks differ.
const DAY: i64 = 86_400;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that were made, relative to `/etc/pve`, in order.
    pub created: Vec<String>,
    /// Why the node's certificate was made anew, if there was one before.
    pub renewed: Option<String>,
    /// Nodes that have guests here and are none: this machine by its old name, for one. Nothing was done about them.
    pub strangers: Vec<Stranger>,
}

impl Report {
    /// Whether nothing was to be done.
    pub fn is_empty(&self) -> bool {
        self.created.is_empty()
    }
}

/// Makes what is missing of directories, ticket key, CSRF secret, node key, CA and node certificate.
///
/// # Errors
/// [`NodeError`]; what was made until then stays, and the next run goes on from there.
pub fn updatecerts(context: &Context) -> Result<Report, NodeError> {
    run(context, false)
}

/// The same, and makes the node's certificate anew in any case: `pvecm updatecerts --force`.
///
/// # Errors
/// [`NodeError`]; what was made until then stays, and the next run goes on from there.
pub fn renew_certificate(context: &Context) -> Result<Report, NodeError> {
    run(context, true)
}

fn run(context: &Context, force: bool) -> Result<Report, NodeError> {
    let cfs = Cfs::new(context);
    if cfs.is_mounted() {
        wait_for_quorum(&cfs)?;
    }
    cfs.ensure_tree()?;
    // Two runs at once would each make a CA, and one of the node certificates would not fit the one that stays.
    cfs.with_lock(&LockId::Named("updatecerts".to_owned()), PATIENCE, || {
        let mut run = Run {
            context,
            cfs: &cfs,
            force,
            report: Report::default(),
        };
        run.ticket_key()?;
        run.secret_key("pve-www.key", RsaKeySize::_2048)?;
        let node_key = format!("nodes/{}/pve-ssl.key", context.site.node);
        run.secret_key(&node_key, RsaKeySize::_2048)?;
        let new_authority = run.authority()?;
        run.node_certificate(new_authority)?;
        run.ssh_known_hosts()?;
        run.strangers()?;
        Ok(run.report)
    })
}

fn wait_for_quorum(cfs: &Cfs) -> Result<(), NodeError> {
    let deadline = Instant::now() + PATIENCE;
    let mut polls = 0u32;
    while !cfs.is_quorate() {
        if Instant::now() >= deadline {
            return Err(NodeError::NoQuorum);
        }
        if polls.is_multiple_of(50) {
            log::info!("waiting for pmxcfs mount to appear and get quorate...");
        }
        polls += 1;
        std::thread::sleep(POLL_EVERY);
    }
    Ok(())
}

/// One run.
struct Run<'a> {
    context: &'a Context,
    cfs: &'a Cfs,
    /// Whether the node's certificate is made anew even if it serves.
    force: bool,
    report: Report,
}

impl Run<'_> {
    fn write(&mut self, rel: &str, bytes: &[u8]) -> Result<(), NodeError> {
        self.cfs.write(rel, bytes)?;
        self.report.created.push(rel.to_owned());
        Ok(())
    }

    /// Tells of guests that a change of the host's name left behind.
    fn strangers(&mut self) -> Result<(), NodeError> {
        self.report.strangers = self.cfs.strangers()?;
        for stranger in &self.report.strangers {
            log::warn!("{stranger}");
        }
        Ok(())
    }

    /// The key pair that tickets are signed with.
    fn ticket_key(&mut self) -> Result<(), NodeError> {
        let files = ["priv/authkey.key", "authkey.pub"];
        let before = files.map(|rel| self.cfs.exists(rel).unwrap_or(false));
        pve_access::ticket::generate_auth_key(self.context)?;
        let made = files.into_iter().zip(before).filter(|(_, was_there)| !was_there);
        self.report.created.extend(made.map(|(rel, _)| rel.to_owned()));
        Ok(())
    }

    /// A private key of its own.
    fn secret_key(&mut self, rel: &str, size: RsaKeySize) -> Result<(), NodeError> {
        if self.cfs.exists(rel)? {
            return Ok(());
        }
        let key = generate(size)?;
        self.write(rel, key.serialize_pem().as_bytes())
    }

    fn key(&self, rel: &str) -> Result<KeyPair, NodeError> {
        let pem = self.cfs.read(rel)?.ok_or_else(|| NodeError::BadKey(rel.to_owned()))?;
        key_pair(rel, &pem)
    }

    /// The node's SSH host key for other nodes: `NODE ssh-rsa BLOB`, without a line feed.
    fn ssh_known_hosts(&mut self) -> Result<(), NodeError> {
        let node = &self.context.site.node;
        let host_key = self.context.site.path("/etc/ssh/ssh_host_rsa_key.pub");
        // A host without an SSH server has no such key, and needs none.
        let Ok(text) = std::fs::read_to_string(host_key) else {
            return Ok(());
        };
        let mut words = text.split_ascii_whitespace();
        let (Some(kind @ "ssh-rsa"), Some(blob)) = (words.next(), words.next()) else {
            return Ok(());
        };
        let rel = format!("nodes/{node}/ssh_known_hosts");
        let line = format!("{node} {kind} {blob}");
        if self.cfs.read(&rel)?.as_deref() == Some(line.as_bytes()) {
            return Ok(());
        }
        self.write(&rel, line.as_bytes())
    }
}

fn generate(size: RsaKeySize) -> Result<KeyPair, NodeError> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).map_err(|error| NodeError::Crypto(error.to_string()))
}

fn key_pair(rel: &str, pem: &[u8]) -> Result<KeyPair, NodeError> {
    let text = std::str::from_utf8(pem).map_err(|_| NodeError::BadKey(rel.to_owned()))?;
    KeyPair::from_pem_and_sign_algo(text, &PKCS_RSA_SHA256).map_err(|_| NodeError::BadKey(rel.to_owned()))
}
