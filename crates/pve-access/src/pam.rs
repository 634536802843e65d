//! The machine's own users: passwords checked by PAM, in a process of its own (reference 02 §7.3), since its modules may
//! do anything. A module that hangs is killed at the deadline.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use pve_sys::pam::{self, Question};
use serde::{Deserialize, Serialize};

use crate::error::AccessError;
use crate::helper::{self, Refusal};

/// The PAM service. The package ships a file of that name; without one `/etc/pam.d/other` decides.
pub const SERVICE: &str = "proxmox-ve-auth";

/// The verb by which a daemon's `main` knows that it is to be [`helper_main`].
pub const VERB: &str = "__pam-helper";

/// Longest wait for PAM: modules that ask other servers give up by then, and `pam_faildelay` needs a few seconds.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize)]
struct Request {
    user: String,
    password: String,
    rhost: Option<String>,
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
    helper::ask(VERB, &request, DEADLINE).map_err(|refusal| match refusal {
        Refusal::No(reason) => AccessError::plain(reason),
        Refusal::Broken(reason) => AccessError::plain(format!("unable to ask PAM - {reason}")),
    })
}

/// The helper: what a daemon does instead of its work when its first argument is [`VERB`]. It must be called before any
/// other thread is started.
pub fn helper_main() -> ExitCode {
    helper::serve(None, |request: &Request| {
        let question = Question {
            service: SERVICE,
            user: &request.user,
            password: &request.password,
            remote_host: request.rhost.as_deref(),
        };
        pam::authenticate(&question).map_err(|error| error.to_string())
    })
}
