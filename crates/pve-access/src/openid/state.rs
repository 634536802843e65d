//! Log-ins that have begun: `/var/lib/pve-manager/proxmox-openid-auth-state-REALM` (reference 02 §3, §9).
//!
//! A JSON array, of this node and root's alone. Each entry is good for one log-in, within ten minutes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pve_cfs::lock::{FileLock, Mode};
use pve_schema::Context;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::OpenIdError;

const PREFIX: &str = "/var/lib/pve-manager/proxmox-openid-auth-state-";
/// Reference 02 §3.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds that somebody has for logging in at the provider.
const LIFETIME: i64 = 600;
/// Most log-ins of a realm that have begun.
const MOST: usize = 100;
/// Most of them that one network of clients has begun, so that one stranger does not keep out all others.
const MOST_OF_A_NETWORK: usize = 20;
/// What [`MOST`] entries are far from; a file beyond is none of ours.
const MAX_FILE: u64 = 1 << 20;

/// A log-in that has begun.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// What it is found by, which the browser brings back.
    pub csrf_token: String,
    /// What the ID token must contain.
    pub nonce: String,
    /// What proves to the provider that who began it ends it.
    pub pkce_verifier: String,
    /// When, in Unix seconds.
    pub ctime: i64,
    /// The network of the client that began it, if it is known; upstream neither writes nor reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Ipv6Addr>,
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Begun")
            .field("ctime", &self.ctime)
            .finish_non_exhaustive()
    }
}

/// Whether one more may begin in a network.
///
/// # Errors
/// [`OpenIdError::TooManyPending`], or the file cannot be used.
pub fn require_room(context: &Context, realm: &str, network: Option<Ipv6Addr>) -> Result<(), OpenIdError> {
    locked(context, realm, |_, begun| check_room(realm, &begun, network))
}

/// Remembers one.
///
/// # Errors
/// [`OpenIdError::TooManyPending`], or the file cannot be used.
pub fn add(context: &Context, realm: &str, one: Begun) -> Result<(), OpenIdError> {
    locked(context, realm, |path, mut begun| {
        check_room(realm, &begun, one.network)?;
        begun.push(one);
        write(path, &begun).map_err(|error| unusable(path, &error))
    })
}

/// The one that goes by this token; nobody finds it again.
///
/// # Errors
/// [`OpenIdError::NoState`], or the file cannot be used.
pub fn take(context: &Context, realm: &str, csrf_token: &str) -> Result<Begun, OpenIdError> {
    locked(context, realm, |path, mut begun| {
        let is_it = |one: &Begun| bool::from(one.csrf_token.as_bytes().ct_eq(csrf_token.as_bytes()));
        let index = begun.iter().position(is_it).ok_or(OpenIdError::NoState)?;
        let one = begun.swap_remove(index);
        write(path, &begun).map_err(|error| unusable(path, &error))?;
        Ok(one)
    })
}

/// A realm whose name is checked: it is one of `domains.cfg`.
fn locked<T>(
    context: &Context,
    realm: &str,
    run: impl FnOnce(&Path, Vec<Begun>) -> Result<T, OpenIdError>,
) -> Result<T, OpenIdError> {
    let path = context.site.path(format!("{PREFIX}{realm}"));
    let lock = context.site.path(format!("{PREFIX}{realm}.lck"));
    let _lock = FileLock::acquire(&lock, Mode::Exclusive, LOCK_TIMEOUT, &mut |_| {}).map_err(OpenIdError::Lock)?;
    let begun = read(&path, context.now()).map_err(|error| unusable(&path, &error))?;
    run(&path, begun)
}

fn check_room(realm: &str, begun: &[Begun], network: Option<Ipv6Addr>) -> Result<(), OpenIdError> {
    let of_it = begun.iter().filter(|one| network.is_some() && one.network == network);
    if begun.len() >= MOST || of_it.count() >= MOST_OF_A_NETWORK {
        return Err(OpenIdError::TooManyPending(realm.to_owned()));
    }
    Ok(())
}

/// What the file holds; one that makes no sense is begun anew.
fn read(path: &Path, now: i64) -> io::Result<Vec<Begun>> {
    let bytes = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(about) if about.len() > MAX_FILE => Vec::new(),
        _ => fs::read(path)?,
    };
    Ok(parse(&bytes, now).unwrap_or_else(|error| {
        log::warn!("{}: {error}", path.display());
        Vec::new()
    }))
}

/// Reads the file's content: those that are not too old.
///
/// # Errors
/// It is none.
pub fn parse(bytes: &[u8], now: i64) -> serde_json::Result<Vec<Begun>> {
    let all: Vec<Begun> = serde_json::from_slice(bytes)?;
    // A clock that was set back makes none last longer.
    let is_fresh = |one: &Begun| (0..LIFETIME).contains(&now.saturating_sub(one.ctime));
    Ok(all.into_iter().filter(is_fresh).collect())
}

/// Replaces the file for good: what was taken must not be there again after a crash.
fn write(path: &Path, begun: &[Begun]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let temporary = PathBuf::from(format!("{}.tmp", path.display()));
    fail::fail_point!("openid-state", |_| Err(io::Error::other("fail point")));
    let written = write_new(&temporary, &serde_json::to_vec(begun)?)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        // The failure that counts is the one at hand.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Nobody else writes it: the lock is held.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    // One that a crash left may have been anybody's.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn unusable(path: &Path, error: &io::Error) -> OpenIdError {
    OpenIdError::StateFile {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use pve_schema::Clock as _;
    use pve_schema::clock::ManualClock;

    use super::*;

    struct Lab {
        context: Context,
        clock: Arc<ManualClock>,
        _root: tempfile::TempDir,
    }

    fn lab() -> Lab {
        let root = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_000_000));
        Lab {
            context: pve_testing::context(root.path(), "node1").with_clock(clock.clone()),
            clock,
            _root: root,
        }
    }

    fn begun(lab: &Lab, token: &str) -> Begun {
        Begun {
            csrf_token: token.to_owned(),
            nonce: "n".to_owned(),
            pkce_verifier: "p".to_owned(),
            ctime: lab.clock.now(),
            network: None,
        }
    }

    fn begin(lab: &Lab, token: &str) -> Result<(), String> {
        add(&lab.context, "sso", begun(lab, token)).map_err(|error| error.to_string())
    }

    #[test]
    fn one_that_has_begun_is_found_once_by_its_token_and_in_its_realm() {
        let lab = lab();
        begin(&lab, "one").unwrap();
        begin(&lab, "two").unwrap();
        let path = lab
            .context
            .site
            .path("/var/lib/pve-manager/proxmox-openid-auth-state-sso");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(path.with_extension("lck").exists());
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(r#"[{"csrf_token":"one","nonce":"n","pkce_verifier":"p","ctime":1000000},{"#),
            "{text}"
        );
        for (realm, token) in [("sso", "three"), ("sso", ""), ("other", "one")] {
            let error = take(&lab.context, realm, token).unwrap_err();
            assert_eq!(error.to_string(), "no openid auth state found (possible timeout)");
        }
        assert_eq!(take(&lab.context, "sso", "one").unwrap(), begun(&lab, "one"));
        assert!(take(&lab.context, "sso", "one").is_err());
        assert!(take(&lab.context, "sso", "two").is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), "[]");
    }

    #[test]
    fn ten_minutes_later_it_is_gone() {
        let lab = lab();
        for token in ["one", "two"] {
            begin(&lab, token).unwrap();
        }
        lab.clock.set(1_000_599);
        assert!(take(&lab.context, "sso", "one").is_ok());
        lab.clock.set(1_000_600);
        assert!(take(&lab.context, "sso", "two").is_err());
    }

    #[test]
    fn a_hundred_may_wait_and_places_come_back_with_time() {
        let lab = lab();
        for index in 0..MOST {
            require_room(&lab.context, "sso", None).unwrap();
            begin(&lab, &index.to_string()).unwrap();
        }
        let text = "too many pending openid auth request for realm sso";
        assert_eq!(begin(&lab, "more").unwrap_err(), text);
        assert_eq!(require_room(&lab.context, "sso", None).unwrap_err().to_string(), text);
        add(&lab.context, "other", begun(&lab, "more")).unwrap();
        take(&lab.context, "sso", "7").unwrap();
        begin(&lab, "more").unwrap();
        lab.clock.set(1_000_600);
        begin(&lab, "later").unwrap();
    }

    #[test]
    fn one_network_does_not_take_all_places() {
        let lab = lab();
        let of = |number: u16| Some(Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 0));
        let begin_in = |network, token: &str| {
            let one = Begun {
                network,
                ..begun(&lab, token)
            };
            add(&lab.context, "sso", one).is_ok()
        };
        assert_eq!((0..30).filter(|n| begin_in(of(1), &n.to_string())).count(), 20);
        assert!(require_room(&lab.context, "sso", of(1)).is_err());
        require_room(&lab.context, "sso", of(2)).unwrap();
        assert!(begin_in(of(2), "two") && begin_in(None, "three"));
        take(&lab.context, "sso", "7").unwrap();
        assert!(begin_in(of(1), "again") && !begin_in(of(1), "and again"));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_begun_anew() {
        let lab = lab();
        begin(&lab, "one").unwrap();
        let path = lab
            .context
            .site
            .path("/var/lib/pve-manager/proxmox-openid-auth-state-sso");
        for text in ["", "{}", "[{\"csrf_token\":1}]", "not json"] {
            fs::write(&path, text).unwrap();
            assert!(take(&lab.context, "sso", "one").is_err());
            begin(&lab, "two").unwrap();
            take(&lab.context, "sso", "two").unwrap();
        }
    }

    #[test]
    fn many_at_once_lose_none() {
        let lab = lab();
        std::thread::scope(|scope| {
            for index in 0..4 {
                let lab = &lab;
                scope.spawn(move || begin(lab, &format!("t{index}")).unwrap());
            }
        });
        for index in 0..4 {
            take(&lab.context, "sso", &format!("t{index}")).unwrap();
        }
    }
}
