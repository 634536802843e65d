//! Verbs that no method has.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pve_contract::id;
use pve_qemu::journal::Journal;
use pve_qemu::{files, process, restored, start};
use pve_rest::ApiError;
use pve_schema::ids::VmId;
use pve_schema::schema::{Kind, Parameter, Schema};
use serde_json::{Map, Value};

use super::error::QmError;
use crate::api::{CallError, FLAG, Local, Shown, for_people, is_set, parameter};
use crate::output::{Style, lines_of};

/// A VM's number.
pub(super) static VMID: Schema = Schema {
    minimum: Some(100.0),
    maximum: Some(999_999_999.0),
    ..Schema::of(Kind::Integer)
};

static MAYBE_VMID: Schema = Schema {
    optional: true,
    minimum: VMID.minimum,
    maximum: VMID.maximum,
    ..Schema::of(Kind::Integer)
};

/// A year: whoever waits for longer means for ever, which is what goes without saying.
static SECONDS: Schema = Schema {
    optional: true,
    minimum: Some(1.0),
    maximum: Some(31_536_000.0),
    ..Schema::of(Kind::Integer)
};

static SNAPSHOT: Schema = Schema {
    optional: true,
    max_length: Some(40),
    ..Schema::of(Kind::String)
};

pub(super) const ONLY_VMID: &[Parameter] = &[parameter("vmid", &VMID)];
pub(super) const RESCAN: &[Parameter] = &[parameter("vmid", &MAYBE_VMID)];
pub(super) const SHOWCMD: &[Parameter] = &[
    parameter("pretty", &FLAG),
    parameter("snapshot", &SNAPSHOT),
    parameter("vmid", &VMID),
];
pub(super) const STATUS: &[Parameter] = &[parameter("verbose", &FLAG), parameter("vmid", &VMID)];
pub(super) const WAIT: &[Parameter] = &[parameter("timeout", &SECONDS), parameter("vmid", &VMID)];

/// How often it is looked at whether a VM still runs.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// The VM that a verb is about.
pub(super) fn vmid(params: &Map<String, Value>) -> Result<VmId, ApiError> {
    let text = params.get("vmid").and_then(Value::as_str).unwrap_or_default();
    text.parse()
        .map_err(|error: pve_schema::ids::InvalidVmId| ApiError::parameter("vmid", error.to_string()))
}

/// `status: running`; with `--verbose` all that is known.
pub(super) fn status(local: &Local, params: Map<String, Value>, style: &Style) -> Result<Shown, CallError> {
    let vmid = vmid(&params)?.to_string();
    let data = local.data(
        id::GET_NODES_NODE_QEMU_VMID_STATUS_CURRENT,
        &[("node", "localhost"), ("vmid", &vmid)],
    )?;
    let is_verbose = is_set(&params, "verbose");
    Ok(for_people(style, data, |data| {
        let empty = Map::new();
        let object = data.as_object().unwrap_or(&empty);
        lines_of(object.iter().filter(|(key, _)| is_verbose || *key == "status"))
    }))
}

/// Removes the lock, whoever holds it.
pub(super) fn unlock(local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    let vmid = vmid(&params)?;
    let context = local.context();
    let unlocked = local.change(&format!("qm unlock vmid={vmid}"), || -> Result<(), files::FileError> {
        let _lock = files::lock(context, vmid)?;
        let mut config = files::load(context, vmid)?;
        if config.main.remove("lock").is_some() {
            files::save(context, vmid, &mut config)?;
        }
        Ok(())
    });
    unlocked.map_err(ApiError::from)?;
    Ok(Shown::Text(String::new()))
}

/// Waits until it has stopped.
pub(super) fn wait(local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    let vmid = vmid(&params)?;
    let context = local.context();
    // That this node has it.
    files::load(context, vmid).map_err(ApiError::from)?;
    let deadline = timeout(&params)?.map(|timeout| Instant::now() + timeout);
    while process::is_running(&context.site, vmid) {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(ApiError::from(QmError::StillRunning(vmid)).into());
        }
        std::thread::sleep(POLL_EVERY);
    }
    Ok(Shown::Text(String::new()))
}

/// How long it is waited, if there is an end to it.
fn timeout(params: &Map<String, Value>) -> Result<Option<Duration>, ApiError> {
    let Some(text) = params.get("timeout").and_then(Value::as_str) else {
        return Ok(None);
    };
    let seconds = text
        .parse()
        .map_err(|_| ApiError::parameter("timeout", "no number of seconds"))?;
    Ok(Some(Duration::from_secs(seconds)))
}

/// QEMU's command line as words for a shell.
pub(super) fn show_command(local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    let snapshot = params.get("snapshot").and_then(Value::as_str);
    let line = start::command_line(local.context(), vmid(&params)?, snapshot).map_err(ApiError::from)?;
    let text = line.for_shell();
    Ok(Shown::Text(match is_set(&params, "pretty") {
        true => format!("{}\n", text.replace(" -", " \\\n  -")),
        false => format!("{text}\n"),
    }))
}

/// Records what is on the storages, for one VM or all of this node.
pub(super) fn rescan(local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    let context = local.context();
    let vmids = match params.contains_key("vmid") {
        true => vec![vmid(&params)?],
        false => files::list(context).map_err(ApiError::from)?,
    };
    let mut said = Said(String::from("rescan volumes...\n"));
    for vmid in vmids {
        let call = format!("qm rescan vmid={vmid}");
        let done = local.change(&call, || restored::rescan(context, vmid, &mut said));
        done.map_err(ApiError::from)?;
    }
    Ok(Shown::Text(said.0))
}

/// Words about an operation, for whoever called.
struct Said(String);

impl Journal for Said {
    fn log(&mut self, line: &str) {
        let _ = writeln!(self.0, "{line}");
    }

    fn warn(&mut self, line: &str) {
        eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use pve_schema::check;
    use serde_json::json;

    use super::*;

    /// What the timeout of a command line is, after the checks that every verb's words go through.
    fn waits(text: &str) -> Result<Option<u64>, ()> {
        let params = json!({"vmid": "100", "timeout": text}).as_object().unwrap().clone();
        check::parameters(WAIT, false, params.clone()).map_err(drop)?;
        let found = timeout(&params).map_err(drop)?;
        // The end of it is a moment that there is.
        Ok(found.map(|found| {
            assert!(Instant::now().checked_add(found).is_some(), "{text}");
            found.as_secs()
        }))
    }

    #[test]
    fn no_timeout_is_too_long_to_be_waited_for() {
        for (text, expected) in [
            ("1", Ok(Some(1))),
            ("+0060", Ok(Some(60))),
            ("31536000", Ok(Some(31_536_000))),
            ("31536001", Err(())),
            ("18446744073709551615", Err(())),
            ("99999999999999999999", Err(())),
            ("0", Err(())),
            ("soon", Err(())),
        ] {
            assert_eq!(waits(text), expected, "{text}");
        }
        assert_eq!(timeout(&Map::new()).map_err(drop), Ok(None));
    }
}
