//! The machine's own users: passwords checked by PAM, in a process of its own (reference 02 §7.3).
//!
//! ```text
//! daemon ── re-exec of its own image, hidden verb ──▶ helper
//!        ── {user, password, rhost} on stdin      ──▶ pam_authenticate, pam_acct_mgmt
//!        ◀── {error} or {} on stdout              ──
//! ```
//!
//! Nothing secret is in the arguments or the environment, and a module that hangs is killed at the deadline.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use pve_sys::pam::{self, Question};
use serde::{Deserialize, Serialize};

use crate::error::AccessError;

/// The PAM service. No file of that name is shipped, so `/etc/pam.d/other` decides unless an admin adds one.
pub const SERVICE: &str = "proxmox-ve-auth";

/// The verb by which a daemon's `main` knows that it is to be [`helper_main`].
pub const VERB: &str = "__pam-helper";

/// Longest wait for PAM: modules that ask other servers give up by then, and `pam_faildelay` needs a few seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// Most bytes of a request or an answer.
const MAX_BYTES: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Request {
    user: String,
    password: String,
    rhost: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    /// Why not; absent for yes.
    error: Option<String>,
}

/// Checks a user's password by PAM.
///
/// # Errors
/// PAM's reason, which is for the log alone.
pub fn check(user: &str, password: &str, rhost: Option<IpAddr>) -> Result<(), AccessError> {
    if password.is_empty() {
        return Err(AccessError::plain("no password"));
    }
    let request = Request {
        user: user.to_owned(),
        password: password.to_owned(),
        rhost: rhost.map(|address| address.to_string()),
    };
    match ask(&request) {
        Ok(Answer { error: None }) => Ok(()),
        Ok(Answer { error: Some(reason) }) => Err(AccessError::plain(reason)),
        Err(reason) => Err(AccessError::plain(format!("unable to ask PAM - {reason}"))),
    }
}

fn ask(request: &Request) -> Result<Answer, String> {
    let request = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    // The running image, also after the file was replaced by an upgrade.
    let mut child = Command::new("/proc/self/exe")
        .arg(VERB)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let answer = converse(&mut child, request);
    // Whatever came of it, the helper has nothing left to do.
    let _ = child.kill();
    let _ = child.wait();
    let answer = answer?;
    serde_json::from_slice(&answer).map_err(|_| "the helper died".to_owned())
}

/// Hands the request over and waits for the answer, with a deadline for both.
fn converse(child: &mut Child, request: Vec<u8>) -> Result<Vec<u8>, String> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("no pipe".to_owned());
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("pam-helper".to_owned())
        .spawn(move || {
            let mut answer = Vec::new();
            let result = stdin
                .write_all(&request)
                .and_then(|()| {
                    drop(stdin);
                    stdout.take(MAX_BYTES).read_to_end(&mut answer)
                })
                .map(|_| answer)
                .map_err(|error| error.to_string());
            // Nobody listens any more after the deadline.
            let _ = sender.send(result);
        })
        .map_err(|error| error.to_string())?;
    match receiver.recv_timeout(DEADLINE) {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}

/// The helper: what a daemon does instead of its work when its first argument is [`VERB`]. It must be called before any
/// other thread is started.
pub fn helper_main() -> ExitCode {
    let mut text = Vec::new();
    if std::io::stdin().take(MAX_BYTES).read_to_end(&mut text).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(request) = serde_json::from_slice::<Request>(&text) else {
        return ExitCode::FAILURE;
    };
    let result = pam::authenticate(&Question {
        service: SERVICE,
        user: &request.user,
        password: &request.password,
        remote_host: request.rhost.as_deref(),
    });
    let answer = Answer {
        error: result.err().map(|error| error.to_string()),
    };
    match serde_json::to_vec(&answer) {
        Ok(bytes) if std::io::stdout().write_all(&bytes).is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
