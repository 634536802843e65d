//! How often a user failed with a second factor on this node, and what waits for an answer (reference 02 §8.5):
//! `/run/pve-private/tfa-challenges/USERID`.
//!
//! A counter that is lost is a guess more, so the file is replaced as a whole, and one that makes no sense lets nobody in
//! until it is [`reset`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use pve_schema::Context;
use pve_schema::ids::UserId;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::{AccessError, JsonFault};

const DIR: &str = "/run/pve-private/tfa-challenges";

/// How long to wait for another log-in of the same user: none holds the file for longer than a file's write.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds for which an answer is waited for: as long as browsers wait for a key.
pub(super) const LIFETIME: i64 = 120;

/// Most questions of one kind that wait for an answer; the oldest is forgotten. More come from nobody who answers.
const MAX_PENDING: usize = 8;

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
    path: PathBuf,
    file: Flock<File>,
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
    /// Opens and locks a user's file.
    ///
    /// # Errors
    /// It cannot be opened, or makes no sense: nobody knows then how often the user failed.
    pub(super) fn open(context: &Context, user: &UserId) -> Result<Self, AccessError> {
        let mut attempts = Self::begin(context, user)?;
        attempts.record = attempts.read(user)?;
        attempts.record.drop_expired(context.now());
        Ok(attempts)
    }

    /// The same, for whoever reads it next.
    fn begin(context: &Context, user: &UserId) -> Result<Self, AccessError> {
        let path = path(context, user);
        let file = lock(&path).map_err(|error| failed(&error))?;
        Ok(Self {
            path,
            file,
            record: Record::default(),
        })
    }

    fn read(&mut self, user: &UserId) -> Result<Record, AccessError> {
        let mut text = String::new();
        self.file.read_to_string(&mut text).map_err(|error| failed(&error))?;
        if text.is_empty() {
            return Ok(Record::default());
        }
        serde_json::from_str(&text).map_err(|error| {
            let fault = JsonFault::from(error);
            AccessError::plain(format!(
                "tfa challenge file of '{user}' makes no sense ({fault}) - unlock the user's factors on this node"
            ))
        })
    }

    /// Replaces the file: either all of it is written or what was there before stays. The lock goes on.
    ///
    /// # Errors
    /// There is no room for it, say.
    pub(super) fn save(&mut self) -> Result<(), AccessError> {
        let text = serde_json::to_string(&self.record).map_err(|error| AccessError::plain(error.to_string()))?;
        self.file = self.replace(&text).map_err(|error| failed(&error))?;
        Ok(())
    }

    fn replace(&self, text: &str) -> io::Result<Flock<File>> {
        let new = new_path(&self.path);
        // Locked before it has the name under which others find it.
        let file = open_options().truncate(true).open(&new)?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, &self.path)?;
        Ok(file)
    }
}

/// Sets a user's counters back, whatever is there.
///
/// # Errors
/// The file cannot be written.
pub(super) fn reset(context: &Context, user: &UserId) -> Result<(), AccessError> {
    let mut attempts = Attempts::begin(context, user)?;
    let record = attempts.read(user).unwrap_or_else(|error| {
        log::warn!("{error} - begun anew");
        Record::default()
    });
    attempts.record = Record {
        totp_failures: 0,
        tfa_failures: 0,
        ..record
    };
    attempts.save()
}

/// Forgets what is known of a user.
pub(super) fn forget(context: &Context, user: &UserId) {
    let path = path(context, user);
    // Whoever has it would write it again.
    let lock = lock(&path).inspect_err(|error| log::warn!("tfa challenge file of '{user}': {error}"));
    for path in [new_path(&path), path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("tfa challenge file of '{user}': {error}");
            }
            _ => {}
        }
    }
    drop(lock);
}

/// Where a file's next content is put together; no user has a name with a colon.
fn new_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(":new");
    name.into()
}

fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

fn lock(path: &Path) -> io::Result<Flock<File>> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let file = open_options().truncate(false).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) if is_at(&locked, path)? => return Ok(locked),
            // Replaced or removed while we waited.
            Ok(_) => {}
            Err((_, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err((_, error)) => return Err(error.into()),
        }
    }
}

/// Whether a file is the one that others find under that name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match fs::metadata(path) {
        Ok(found) => Ok(id(found) == id(file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use pve_schema::clock::ManualClock;

    use super::*;

    #[test]
    fn counters_are_kept_and_what_others_keep_too() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_700_000_000));
        let context = pve_testing::context(dir.path(), "node1").with_clock(clock);
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

        forget(&context, &user);
        forget(&context, &user);
        assert!(!path.exists());
    }

    /// What was counted is not lost, and what is lost is not taken for nothing.
    #[test]
    fn a_file_that_cannot_be_written_stays_and_one_that_makes_no_sense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let context = pve_testing::context(dir.path(), "node1");
        let user: UserId = "alice@pve".parse().unwrap();
        let path = path(&context, &user);
        let text = "{\"totp_failures\":7,\"tfa_failures\":9}";
        fs::create_dir_all(new_path(&path)).unwrap();
        fs::write(&path, text).unwrap();
        let mut attempts = Attempts::open(&context, &user).unwrap();
        attempts.record = Record::default();
        assert!(attempts.save().is_err());
        drop(attempts);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::remove_dir(new_path(&path)).unwrap();

        for broken in [&b"{\"totp_failures\":7"[..], b"{secret", b"\xff"] {
            fs::write(&path, broken).unwrap();
            let error = Attempts::open(&context, &user).unwrap_err().to_string();
            assert!(
                error.starts_with("tfa challenge file") && !error.contains("secret"),
                "{error}"
            );
        }
        reset(&context, &user).unwrap();
        assert_eq!(Attempts::open(&context, &user).unwrap().record, Record::default());
    }

    /// Those who wait for a file that is replaced get the new one, and one at a time.
    #[test]
    fn no_count_is_lost_between_log_ins() {
        let dir = tempfile::tempdir().unwrap();
        let context = pve_testing::context(dir.path(), "node1");
        let user: UserId = "alice@pve".parse().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let mut attempts = Attempts::open(&context, &user).unwrap();
                        attempts.record.tfa_failures += 1;
                        attempts.save().unwrap();
                        attempts.record.totp_failures += 1;
                        attempts.save().unwrap();
                    }
                });
            }
        });
        let record = Attempts::open(&context, &user).unwrap().record;
        assert_eq!((record.tfa_failures, record.totp_failures), (40, 40));
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
        assert_eq!(list.len(), MAX_PENDING);
        assert!(take(&mut list, "7").is_none(), "the oldest are gone");
        assert_eq!(take(&mut list, "39").unwrap().challenge, "39");
        assert!(take(&mut list, "39").is_none());
    }
}
