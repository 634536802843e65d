//! Work that a daemon gives to a process of its own, because it may crash, hang or run wild: a re-exec of the caller's
//! own image with a hidden verb.
//!
//! ```text
//! daemon ── re-exec of its own image, hidden verb ──▶ helper
//!        ── request, JSON, on stdin               ──▶ the work
//!        ◀── answer, JSON, on stdout              ──
//! ```
//!
//! Nothing secret is in the arguments or the environment, and a helper that is late is killed.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Most bytes of a request or an answer.
const MAX_BYTES: u64 = 64 * 1024;

/// What a helper says in the end.
#[derive(Serialize, Deserialize)]
struct Answer {
    /// Why not; absent for yes.
    error: Option<String>,
}

/// Asks a helper, and waits for it no longer than `deadline`.
///
/// # Errors
/// [`Refusal::No`]: what the helper answered; [`Refusal::Broken`]: there is no answer.
pub(crate) fn ask(verb: &str, request: &impl Serialize, deadline: Duration) -> Result<(), Refusal> {
    let answer: Answer = run(verb, request, deadline).map_err(Refusal::Broken)?;
    match answer.error {
        None => Ok(()),
        Some(reason) => Err(Refusal::No(reason)),
    }
}

/// Why a helper did not say yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It said no.
    No(String),
    /// It said nothing.
    Broken(String),
}

fn run(verb: &str, request: &impl Serialize, deadline: Duration) -> Result<Answer, String> {
    let request = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    // The running image, also after the file was replaced by an upgrade.
    let mut child = Command::new("/proc/self/exe")
        .arg(verb)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let answer = converse(&mut child, verb, request, deadline);
    // Whatever came of it, the helper has nothing left to do.
    let _ = child.kill();
    let _ = child.wait();
    serde_json::from_slice(&answer?).map_err(|_| "the helper died".to_owned())
}

/// Hands the request over and waits for the answer, with a deadline for both.
fn converse(child: &mut Child, verb: &str, request: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, String> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("no pipe".to_owned());
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name(verb.trim_start_matches('_').to_owned())
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
    match receiver.recv_timeout(deadline) {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", deadline.as_secs())),
    }
}

/// The helper's side: reads the request, does the work, answers. It must be called before any other thread is started.
/// `memory` is how many bytes of address space it may have. No image of it is left when it crashes: it knows passwords.
pub(crate) fn serve<Q: DeserializeOwned>(memory: Option<u64>, work: impl FnOnce(&Q) -> Result<(), String>) -> ExitCode {
    let limits = [(Resource::RLIMIT_CORE, Some(0)), (Resource::RLIMIT_AS, memory)];
    for (resource, most) in limits {
        if most.is_some_and(|most| limit(resource, most).is_err()) {
            return ExitCode::FAILURE;
        }
    }
    let mut text = Vec::new();
    if std::io::stdin().take(MAX_BYTES).read_to_end(&mut text).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(request) = serde_json::from_slice::<Q>(&text) else {
        return ExitCode::FAILURE;
    };
    let answer = Answer {
        error: work(&request).err(),
    };
    match serde_json::to_vec(&answer) {
        Ok(bytes) if std::io::stdout().write_all(&bytes).is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn limit(resource: Resource, most: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let most = most.min(hard);
    setrlimit(resource, most, most)
}
