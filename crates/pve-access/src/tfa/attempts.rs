//! How often a user failed with a second factor on this node, and what waits for an answer (reference 02 §8.5):
//! `/run/pve-private/tfa-challenges/USERID`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pve_schema::Context;
use pve_schema::ids::UserId;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::AccessError;

const DIR: &str = "/run/pve-private/tfa-challenges";

/// How long to wait for another log-in of the same user: none holds the file for longer than a file's write.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds for which an answer is waited for: as long as browsers wait for a key.
pub(super) const LIFETIME: i64 = 120;

/// Most questions of one kind that wait for an answer; the oldest is forgotten. More come from nobody who answers.
const MAX_PENDING: usize = 32;

/// A question that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What the answer must name.
    pub challenge: String,
    /// What a new factor is to be called.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Unix seconds.
    pub created: i64,
    /// What the answer is checked with.
    pub state: Value,
}

/// Puts a question among those that wait.
pub(super) fn push(list: &mut Vec<Pending>, pending: Pending) {
    if list.len() >= MAX_PENDING {
        list.remove(0);
    }
    list.push(pending);
}

/// Takes a question out: it is answered once.
pub(super) fn take(list: &mut Vec<Pending>, challenge: &str) -> Option<Pending> {
    let at = list.iter().position(|pending| pending.challenge == challenge)?;
    Some(list.remove(at))
}

/// Whether a question may still be answered.
fn is_fresh(created: i64, now: i64) -> bool {
    (0..LIFETIME).contains(&now.saturating_sub(created))
}

/// Questions that others left are not understood, and cannot be answered here.
fn understood<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pending>, D::Error> {
    let values = Vec::<Value>::deserialize(deserializer)?;
    let known = values.into_iter().filter_map(|value| Pending::deserialize(value).ok());
    Ok(known.collect())
}

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
    /// Security keys that are being added.
    #[serde(deserialize_with = "understood", skip_serializing_if = "Vec::is_empty")]
    pub(super) webauthn_registrations: Vec<Pending>,
    /// Log-ins that wait for a security key.
    #[serde(deserialize_with = "understood", skip_serializing_if = "Vec::is_empty")]
    pub(super) webauthn_auths: Vec<Pending>,
}

impl Record {
    /// Forgets what nobody may answer any more.
    fn drop_expired(&mut self, now: i64) {
        for list in [&mut self.webauthn_registrations, &mut self.webauthn_auths] {
            list.retain(|pending| is_fresh(pending.created, now));
        }
        for list in [&mut self.u2f_registrations, &mut self.u2f_auths] {
            let created = |value: &Value| value.get("created").and_then(Value::as_i64);
            list.retain(|value| created(value).is_none_or(|created| is_fresh(created, now)));
        }
    }
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
            attempts.record.drop_expired(context.now());
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

        let now = context.now();
        let pending = |created: i64| format!("{{\"challenge\":\"c{created}\",\"created\":{created},\"state\":{{}}}}");
        let (old, young) = (pending(now - 120), pending(now - 119));
        let later = pending(now + 1);
        let text = format!("{{\"webauthn_auths\":[{old},{young},{later},7],\"u2f_auths\":[{old}]}}");
        fs::write(&path, text).unwrap();
        let mut attempts = Attempts::open(&context, &user).unwrap();
        attempts.save().unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{{\"webauthn_auths\":[{young}]}}"),
            "what is over is dropped, and what is not understood"
        );
        drop(attempts);

        fs::write(&path, "{broken").unwrap();
        assert_eq!(Attempts::open(&context, &user).unwrap().record, Record::default());
        forget(&context, &user);
        forget(&context, &user);
        assert!(!path.exists());
    }

    #[test]
    fn a_question_is_answered_once_and_few_wait() {
        let mut list = Vec::new();
        for number in 0..40 {
            let pending = Pending {
                challenge: number.to_string(),
                description: String::new(),
                created: 1,
                state: Value::Null,
            };
            push(&mut list, pending);
        }
        assert_eq!(list.len(), 32);
        assert!(take(&mut list, "7").is_none(), "the oldest are gone");
        assert_eq!(take(&mut list, "39").unwrap().challenge, "39");
        assert!(take(&mut list, "39").is_none());
    }
}
