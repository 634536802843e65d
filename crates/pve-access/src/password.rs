//! Password hashes: `priv/shadow.cfg` of the realm `pve`, and the machine's own (reference 02 §5.1, §7.4).

use std::io::Write as _;
use std::process::{Command, Stdio};

use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::ids::UserId;
use subtle::ConstantTimeEq as _;

use crate::domains::{Domains, RealmKind};
use crate::error::AccessError;
use crate::store::{self, SHADOW_CFG};

/// Characters of a salt, all that sha256-crypt knows.
const SALT_ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `priv/shadow.cfg`: user name (without realm) → hash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shadow {
    /// Lines in the order of the file: a record, or what nobody understands.
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Hash { user: String, hash: String },
    Kept(String),
}

impl Shadow {
    /// Reads the file's content; lines that are no record are kept.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        Self {
            lines: lines.map(Line::parse).collect(),
        }
    }

    /// The file's content.
    pub fn print(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            match line {
                Line::Hash { user, hash } => text.push_str(&format!("{user}:{hash}:")),
                Line::Kept(line) => text.push_str(line),
            }
            text.push('\n');
        }
        text
    }

    /// A user's hash. Of several records the last counts.
    pub fn hash(&self, name: &str) -> Option<&str> {
        self.lines.iter().rev().find_map(|line| match line {
            Line::Hash { user, hash } if user == name => Some(hash.as_str()),
            _ => None,
        })
    }

    /// Sets a user's hash.
    pub fn set(&mut self, name: &str, hash: String) {
        self.remove(name);
        self.lines.push(Line::Hash {
            user: name.to_owned(),
            hash,
        });
    }

    /// Removes a user's hash.
    pub fn remove(&mut self, name: &str) {
        self.lines
            .retain(|line| !matches!(line, Line::Hash { user, .. } if user == name));
    }

    fn load(cfs: &Cfs) -> Result<Self, AccessError> {
        Ok(Self::parse(&cfs.read_text(SHADOW_CFG)?.unwrap_or_default()))
    }
}

impl Line {
    fn parse(line: &str) -> Self {
        let mut fields = line.split(':');
        match (fields.next(), fields.next(), fields.next()) {
            (Some(user), Some(hash), Some(_)) if is_field(user) && is_field(hash) => Self::Hash {
                user: user.to_owned(),
                hash: hash.to_owned(),
            },
            _ => {
                log::warn!("pve shadow password: ignore invalid line");
                // The end of a line is not a part of it, however it is spelt.
                Self::Kept(line.trim_end_matches('\r').to_owned())
            }
        }
    }
}

fn is_field(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

/// Whether a password is the one that a hash was made from.
pub fn verify(password: &str, hash: &str) -> bool {
    match pve_sys::crypt::crypt(password.as_bytes(), hash) {
        Ok(made) => made.as_bytes().ct_eq(hash.as_bytes()).into(),
        Err(_) => false,
    }
}

/// A new sha256-crypt hash with a random salt.
///
/// # Errors
/// No random numbers, or a password with a NUL byte.
pub fn hash(password: &str) -> Result<String, AccessError> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| AccessError::plain(format!("unable to generate salt - {error}")))?;
    let salt: String = random
        .iter()
        .filter_map(|byte| SALT_ALPHABET.get(usize::from(byte & 63)))
        .map(|byte| char::from(*byte))
        .collect();
    pve_sys::crypt::crypt(password.as_bytes(), &format!("$5${salt}$"))
        .map_err(|error| AccessError::plain(error.to_string()))
}

/// Checks the password of a user of the realm `pve`.
///
/// # Errors
/// The reason, which is for the log alone.
pub fn check_pve(cfs: &Cfs, user: &UserId, password: &str) -> Result<(), AccessError> {
    if password.is_empty() {
        return Err(AccessError::plain("no password"));
    }
    let shadow = Shadow::load(cfs)?;
    let hash = shadow
        .hash(user.name())
        .ok_or_else(|| AccessError::plain("no password set"))?;
    if verify(password, hash) {
        Ok(())
    } else {
        Err(AccessError::plain("invalid credentials"))
    }
}

/// Sets a user's password in the realm that the user belongs to.
///
/// # Errors
/// The realm does not exist or keeps its passwords elsewhere; the hash cannot be stored.
pub fn set(context: &Context, domains: &Domains, user: &UserId, password: &str) -> Result<(), AccessError> {
    match domains.require(user.realm())?.kind {
        RealmKind::Pve => set_pve(&Cfs::new(context), user, password),
        RealmKind::Pam => set_system(context, user, password),
        other => Err(AccessError::plain(format!(
            "can't set password on auth type '{}'",
            other.as_str()
        ))),
    }
}

fn set_pve(cfs: &Cfs, user: &UserId, password: &str) -> Result<(), AccessError> {
    let hash = hash(password)?;
    edit_shadow(cfs, "set password failed", |shadow| shadow.set(user.name(), hash))
}

/// Forgets a user's password, if its realm is one that keeps any.
///
/// # Errors
/// The change cannot be stored.
pub fn forget(cfs: &Cfs, domains: &Domains, user: &UserId) -> Result<(), AccessError> {
    match domains.get(user.realm()).map(|realm| realm.kind) {
        Some(RealmKind::Pve) => edit_shadow(cfs, "delete password failed", |shadow| shadow.remove(user.name())),
        _ => Ok(()),
    }
}

fn edit_shadow(cfs: &Cfs, prefix: &str, edit: impl FnOnce(&mut Shadow)) -> Result<(), AccessError> {
    store::locked(cfs, SHADOW_CFG, prefix, || {
        let mut shadow = Shadow::load(cfs)?;
        edit(&mut shadow);
        Ok(cfs.write(SHADOW_CFG, shadow.print().as_bytes())?)
    })
}

/// Sets the password of one of the machine's own users, on this node alone. The hash goes through a pipe: upstream's
/// `usermod -p` shows it to everyone who looks at the process list.
fn set_system(context: &Context, user: &UserId, password: &str) -> Result<(), AccessError> {
    if !context.site.is_system() {
        return Err(AccessError::plain(
            "can't change the password of a system user: a lab uses the machine's users read-only",
        ));
    }
    let failed = |what: String| AccessError::plain(format!("change password failed: {what}"));
    let line = format!("{}:{}\n", user.name(), hash(password)?);
    let mut child = Command::new("/usr/sbin/chpasswd")
        .arg("-e")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that ends early is told by its exit code.
        let _ = stdin.write_all(line.as_bytes());
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(failed(format!("exit code {code}"))),
        None => Err(failed("got signal".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn new_hashes_are_sha256_crypt_and_verify() {
        let hash = hash("pässwörd").unwrap();
        assert!(hash.starts_with("$5$") && hash.len() == 3 + 8 + 1 + 43, "{hash}");
        assert!(verify("pässwörd", &hash));
        assert!(!verify("passwörd", &hash));
        assert!(!verify("", ""));
        assert!(!verify("*", "*"));
        assert_ne!(super::hash("pässwörd").unwrap(), hash);
    }

    #[test]
    fn the_shadow_file_keeps_what_it_does_not_know() {
        let mut shadow = Shadow::parse("# by hand\nalice:$5$a$b:\nno record\nbob:x:y:z\n");
        assert_eq!((shadow.hash("alice"), shadow.hash("bob")), (Some("$5$a$b"), Some("x")));
        shadow.set("alice", "new".to_owned());
        shadow.remove("bob");
        assert_eq!(shadow.print(), "# by hand\nno record\nalice:new:\n");
        // A line that ends in CR, and then the file.
        assert_eq!(Shadow::parse("junk\r").print(), "junk\n");
    }

    proptest! {
        #[test]
        fn reading_the_shadow_file_never_panics(text in "[a-z:$ \n#é]{0,60}") {
            let once = Shadow::parse(&text).print();
            prop_assert_eq!(&Shadow::parse(&once).print(), &once);
        }
    }
}
