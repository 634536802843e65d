//! How often a user failed with a second factor on this node, and what waits for an answer (reference 02 §8.5):
//! `/run/pve-private/tfa-challenges/USERID`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pve_schema::Context;
use pve_schema::ids::UserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::AccessError;

const DIR: &str = "/run/pve-private/tfa-challenges";

/// How long to wait for another log-in of the same user: none holds the file for longer than a file's write.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Wrong codes since the last right one.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) totp_failures: u32,
    /// Wrong answers of any kind since the last right one.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) tfa_failures: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    u2f_registrations: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    u2f_auths: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    webauthn_registrations: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    webauthn_auths: Vec<Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A user's file, locked as long as this lives.
#[derive(Debug)]
pub(super) struct Attempts {
    file: nix::fcntl::Flock<File>,
    /// What it holds; see [`Attempts::save`].
    pub(super) record: Record,
}

fn path(context: &Context, user: &UserId) -> PathBuf {
    context.site.path(DIR).join(user.as_str())
}

fn failed(error: &io::Error) -> AccessError {
    AccessError::plain(format!("tfa challenge file: {error}"))
}

impl Attempts {
    /// Opens and locks a user's file. One that makes no sense is begun anew.
    pub(super) fn open(context: &Context, user: &UserId) -> Result<Self, AccessError> {
        let file = lock(&path(context, user)).map_err(|error| failed(&error))?;
        let mut attempts = Self {
            file,
            record: Record::default(),
        };
        let mut text = String::new();
        if attempts.file.read_to_string(&mut text).is_ok() && !text.is_empty() {
            attempts.record = serde_json::from_str(&text).unwrap_or_else(|error| {
                log::warn!("tfa challenge file of '{user}': {error}");
                Record::default()
            });
        }
        Ok(attempts)
    }

    /// Writes the file in place: those who wait for its lock hold the same file.
    pub(super) fn save(&mut self) -> Result<(), AccessError> {
        let text = serde_json::to_string(&self.record).map_err(|error| AccessError::plain(error.to_string()))?;
        let mut write = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(text.as_bytes())
        };
        write().map_err(|error| failed(&error))
    }
}

/// Forgets what is known of a user.
pub(super) fn forget(context: &Context, user: &UserId) {
    match fs::remove_file(path(context, user)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => log::warn!("tfa challenge file of '{user}': {error}"),
        _ => {}
    }
}

fn lock(path: &Path) -> io::Result<nix::fcntl::Flock<File>> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err((_, error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn counters_are_kept_and_what_others_keep_too() {
        let dir = tempfile::tempdir().unwrap();
        let context = pve_testing::context(dir.path(), "node1");
        let user: UserId = "alice@pve".parse().unwrap();
        let mut attempts = Attempts::open(&context, &user).unwrap();
        assert_eq!(attempts.record, Record::default());
        attempts.record.totp_failures = 3;
        attempts.save().unwrap();
        drop(attempts);
        let path = path(&context, &user);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"totp_failures\":3}");

        fs::write(&path, "{\"tfa_failures\":9,\"u2f_auths\":[{\"x\":1}],\"later\":true}").unwrap();
        let mut attempts = Attempts::open(&context, &user).unwrap();
        attempts.record.tfa_failures = 0;
        attempts.save().unwrap();
        drop(attempts);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"u2f_auths\":[{\"x\":1}]}");

        fs::write(&path, "{broken").unwrap();
        assert_eq!(Attempts::open(&context, &user).unwrap().record, Record::default());
        forget(&context, &user);
        forget(&context, &user);
        assert!(!path.exists());
    }
}
