//! What is done to a VM that runs: stop, reset, reboot, pause and resume (reference 06b §6.2, §6.3).

pub mod stop;

use std::time::Duration;

use pve_schema::Context;
use pve_schema::ids::VmId;
use serde_json::Value;

use crate::config::VmConfig;
use crate::error::VmError;
use crate::files;
use crate::journal::Journal;
use crate::process;
use crate::qmp::{self, Qmp};
use crate::runtime::Runtime;

/// A VM that just got its memory back may be slow to say how it is.
const RESUME_STATUS: Duration = Duration::from_secs(60);

/// Whether the guest cannot act by itself: a shutdown would wait in vain. A VM that does not answer is not called paused.
pub fn is_paused(context: &Context, vmid: VmId) -> bool {
    let status = qmp::execute(&context.site, vmid, "query-status", Value::Null);
    let status = status.as_ref().ok().and_then(|answer| answer.get("status")?.as_str());
    matches!(status, Some("paused" | "prelaunch" | "suspended"))
}

/// Refuses when the VM does not run.
///
/// # Errors
/// [`VmError::NotRunning`].
pub fn check_running(context: &Context, vmid: VmId) -> Result<(), VmError> {
    if process::is_running(&context.site, vmid) {
        Ok(())
    } else {
        Err(VmError::NotRunning(vmid))
    }
}

/// Resets a VM, as by its reset button.
///
/// # Errors
/// What the lock or the monitor says.
pub fn reset(context: &Context, vmid: VmId, skip_lock: bool) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    if !skip_lock {
        files::load(context, vmid)?.check_lock()?;
    }
    qmp::execute(&context.site, vmid, "system_reset", Value::Null)?;
    Ok(())
}

/// Shuts a VM down and leaves word that it is to be started again. The event daemon does that.
///
/// # Errors
/// As [`stop::stop`]; the word is taken back then.
pub fn reboot(
    context: &Context,
    vmid: VmId,
    timeout: Option<Duration>,
    journal: &mut dyn Journal,
) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    check_running(context, vmid)?;
    let runtime = Runtime::new(&context.site, vmid);
    runtime.request_restart().map_err(|source| VmError::Runtime {
        what: "unable to leave the request to restart",
        source,
    })?;
    let order = stop::Order {
        way: stop::Way::Shutdown,
        timeout,
        force: false,
        skip_lock: false,
        keep_active: true,
    };
    stop::stop(context, vmid, order, journal).inspect_err(|_| {
        runtime.take_restart_request();
    })
}

/// Stops a VM's CPUs.
///
/// # Errors
/// What the lock or the monitor says.
pub fn pause(context: &Context, vmid: VmId, skip_lock: bool) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    let config = files::load(context, vmid)?;
    // A backup holds the key and lets the guest run or stand as before.
    if !skip_lock && config.lock() != Some("backup") {
        config.check_lock()?;
    }
    qmp::execute(&context.site, vmid, "stop", Value::Null)?;
    Ok(())
}

/// Lets a VM go on, from whatever made it stand.
///
/// # Errors
/// What the lock or the monitor says.
pub fn resume(context: &Context, vmid: VmId, skip_lock: bool) -> Result<(), VmError> {
    let _lock = files::lock(context, vmid)?;
    let config = files::load(context, vmid)?;
    if VmConfig::new(&config.main).flag("template", false) {
        return Err(VmError::TemplateResume(vmid));
    }
    if !skip_lock && config.lock() != Some("backup") {
        config.check_lock()?;
    }
    let mut qmp = Qmp::new(&context.site, vmid);
    let status = qmp.execute_within("query-status", Value::Null, RESUME_STATUS)?;
    for command in resume_commands(status.get("status").and_then(Value::as_str).unwrap_or_default()) {
        qmp.execute(command, Value::Null)?;
    }
    Ok(())
}

/// What makes a guest in this state go on.
fn resume_commands(status: &str) -> &'static [&'static str] {
    match status {
        "running" => &[],
        "suspended" => &["system_wakeup"],
        "shutdown" => &["system_reset", "cont"],
        _ => &["cont"],
    }
}

/// Presses keys, `ctrl-alt-delete` for one.
///
/// # Errors
/// What the monitor says; an unknown key is refused in QEMU's words.
pub fn send_key(context: &Context, vmid: VmId, key: &str) -> Result<(), VmError> {
    // One human command is one line: a line break would begin a second one.
    let key = key.lines().next().unwrap_or_default();
    let answer = Qmp::new(&context.site, vmid).human(&format!("sendkey {key}"))?;
    match answer.trim() {
        "" => Ok(()),
        refusal => Err(VmError::Human(refusal.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_goes_on_from_any_state() {
        let cases: [(&str, &[&str]); 4] = [
            ("running", &[]),
            ("suspended", &["system_wakeup"]),
            ("shutdown", &["system_reset", "cont"]),
            ("paused", &["cont"]),
        ];
        for (status, commands) in cases {
            assert_eq!(resume_commands(status), commands, "{status}");
        }
    }
}
