//! Ending guests when the lab ends, through the API like any other client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pve_schema::Context;
use pve_schema::ids::UserId;
use serde_json::Value;

use crate::accounts;
use crate::error::LabError;
use crate::http;
use crate::output::say;

/// How long a guest has to shut itself down.
const SHUTDOWN: u64 = 30;
/// How long the whole may take; a hard stop follows the shutdown within its task.
const PATIENCE: Duration = Duration::from_secs(SHUTDOWN + 30);
/// How often it looks.
const POLL: Duration = Duration::from_millis(500);

/// A running guest: `qemu` or `lxc`, and its number.
type Guest = (&'static str, u64);

/// Shuts running guests down, stops those that do not, and says what it does. Once `hurried` is true it waits no longer.
pub(crate) fn stop_all(context: &Context, pvedaemon: SocketAddr, hurried: impl Fn() -> bool) -> Result<(), LabError> {
    let ticket = accounts::session(context, &UserId::root())?.ticket;
    let guests = running(context, pvedaemon, &ticket)?;
    if guests.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = guests.iter().map(|(_, vmid)| vmid.to_string()).collect();
    say(&format!(
        "shutting down guests {} (stopped after {SHUTDOWN} s; --guests leave keeps them)",
        list.join(", ")
    ));
    for (kind, vmid) in &guests {
        let path = format!("/nodes/{}/{kind}/{vmid}/status/shutdown", context.site.node);
        let form = format!("timeout={SHUTDOWN}&forceStop=1");
        if let Err(error) = http::call(pvedaemon, "POST", &path, &form, &ticket) {
            say(&format!("guest {vmid}: {error}"));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = running(context, pvedaemon, &ticket)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline || hurried() {
            let list: Vec<String> = left.iter().map(|(_, vmid)| vmid.to_string()).collect();
            say(&format!("guests {} are still running and go on", list.join(", ")));
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// The guests that run. Types that the daemon does not know have none.
fn running(context: &Context, pvedaemon: SocketAddr, ticket: &str) -> Result<Vec<Guest>, LabError> {
    let mut guests = Vec::new();
    for kind in ["qemu", "lxc"] {
        let path = format!("/nodes/{}/{kind}", context.site.node);
        match http::call(pvedaemon, "GET", &path, "", ticket) {
            Ok(list) => guests.extend(
                list.as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|guest| running_guest(kind, guest)),
            ),
            Err(http::HttpError::Refused { status, .. }) if status.starts_with("501") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(guests)
}

fn running_guest(kind: &'static str, guest: &Value) -> Option<Guest> {
    let runs = guest.get("status").and_then(Value::as_str) == Some("running");
    let vmid = guest.get("vmid")?;
    let vmid = vmid.as_u64().or_else(|| vmid.as_str()?.parse().ok())?;
    runs.then_some((kind, vmid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_running_guests_count() {
        for (guest, expected) in [
            (
                serde_json::json!({"vmid": 100, "status": "running"}),
                Some(("qemu", 100)),
            ),
            (
                serde_json::json!({"vmid": "101", "status": "running"}),
                Some(("qemu", 101)),
            ),
            (serde_json::json!({"vmid": 102, "status": "stopped"}), None),
            (serde_json::json!({"status": "running"}), None),
        ] {
            assert_eq!(running_guest("qemu", &guest), expected);
        }
    }
}
