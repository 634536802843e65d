//! Users that a directory knows: realms of the types `ldap` and `ad` (reference 02 §7.3, §13).
//!
//! | module | holds |
//! |---|---|
//! | here | log-ins, and trying a connection |
//! | [`settings`] | a realm's options: where its directory is, how a user proves who it is |
//! | [`client`] | a connection |
//! | [`tls`] | what makes it a safe one |
//! | [`sync`] | users and groups of a directory as ours |
//! | [`error`] | what can go wrong |
//!
//! ```text
//! server1 ─▶ TLS? ─▶ ldap: bind as searcher ─▶ search (user_attr=NAME) ─▶ bind as what was found
//!    │ no            ad:   bind as NAME@domain
//!    ▼
//! server2
//! ```
//!
//! A directory's answers are read in a process of its own: a helper for log-ins, the task for a synchronisation.

mod client;
mod error;
mod settings;
pub mod sync;
mod tls;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pve_cfs::Cfs;
use serde::{Deserialize, Serialize};

use crate::domains::{Domains, Realm};
use crate::error::AccessError;
use crate::helper::{self, Refusal};
use client::Connection;
pub use error::LdapError;
use settings::{Directory, Proof};

/// The verb by which a daemon's `main` knows that it is to be [`helper_main`].
pub const VERB: &str = "__ldap-helper";

/// Longest wait for a directory, all of its servers together: clients are told nothing after 30 s (reference 01 §4.2).
const DEADLINE: Duration = Duration::from_secs(25);
/// How much longer than that a helper may live: what it waits for itself it can also tell.
const LEAVE: Duration = Duration::from_secs(1);
/// Most memory of a helper.
const MEMORY: u64 = 512 << 20;

/// What a helper is asked.
#[derive(Serialize, Deserialize)]
enum Question {
    /// Whether a directory can be searched.
    Connection(Directory),
    /// Whether a password is a user's.
    Password {
        directory: Directory,
        proof: Proof,
        password: String,
    },
}

/// Checks the password of a user of a directory.
///
/// # Errors
/// The reason, which is for the log alone.
pub fn check_password(cfs: &Cfs, name: &str, realm: &Realm, user: &str, password: &str) -> Result<(), AccessError> {
    let question = Question::Password {
        directory: directory(cfs, name, realm)?,
        proof: Proof::of(realm, user),
        password: password.to_owned(),
    };
    ask(&question)
}

/// Tries to connect to a directory and to bind, with the password that is to be its.
///
/// # Errors
/// What fails, for the client to read.
pub fn check_connection(name: &str, realm: &Realm, password: Option<String>) -> Result<(), AccessError> {
    ask(&Question::Connection(Directory::of(name, realm, password)?))
}

/// A realm's directory, with the password that is kept for it.
fn directory(cfs: &Cfs, name: &str, realm: &Realm) -> Result<Directory, AccessError> {
    Ok(Directory::of(name, realm, Domains::bind_password(cfs, name)?)?)
}

fn ask(question: &Question) -> Result<(), AccessError> {
    helper::ask(VERB, question, DEADLINE + LEAVE).map_err(|refusal| match refusal {
        Refusal::No(reason) => AccessError::plain(reason),
        Refusal::Broken(reason) => AccessError::plain(format!("unable to ask the LDAP server - {reason}")),
    })
}

/// The helper: what a daemon does instead of its work when its first argument is [`VERB`]. It must be called before any
/// other thread is started.
pub fn helper_main() -> ExitCode {
    let until = Instant::now() + DEADLINE;
    helper::serve(Some(MEMORY), |question: &Question| {
        answer(question, until).map_err(|error| error.to_string())
    })
}

fn answer(question: &Question, until: Instant) -> Result<(), LdapError> {
    match question {
        Question::Connection(directory) => Connection::open(directory, until)?.bind_searcher(&directory.searcher),
        Question::Password {
            directory,
            proof,
            password,
        } => Connection::open(directory, until)?.prove(&directory.searcher, proof, password),
    }
}
