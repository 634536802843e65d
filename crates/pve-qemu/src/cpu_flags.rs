//! Which CPU flags QEMU can give a VM on this node: what a machine says of itself that is made for the question and thrown
//! away, one for each way to run guests (reference 04 §9.4).
//!
//! The machine has no disk and no network and is never let go; the questions are its standard input, the answers its
//! standard output. One that hangs is killed at its deadline.

use std::collections::BTreeSet;
use std::process;
use std::time::Duration;

use pve_daemon::command::{Command, CommandError};
use pve_schema::Site;
use serde_json::{Value, json};

use crate::accel::{self, Accel};
use crate::start::host::{accel_setting, kvm_facts, program};
use crate::start::probe::{self, ProbeError};

/// How long a machine may take: a tenth of a second where nothing is wrong.
const LIMIT: Duration = Duration::from_secs(15);
/// Starts a program that the kernel ends with whoever started it.
const SETPRIV: &str = "/usr/bin/setpriv";
/// Becomes QEMU, unless whoever asks was gone before the kernel knew of it.
const LEASH: &str = "[ \"$PPID\" = \"$0\" ] && exec \"$@\"";

/// What is known of the flags, by the way to run guests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuFlags {
    /// With the processor; empty where guests cannot run with it.
    pub kvm: BTreeSet<String>,
    /// With QEMU's translator.
    pub tcg: BTreeSet<String>,
}

/// Why nothing is known of the flags.
#[derive(Debug, thiserror::Error)]
pub enum FlagsError {
    /// QEMU does not say what it is.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// It did not answer in time, or ended without an answer.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It answered something else.
    #[error("unable to tell the CPU flags of '{model}' - {answer}")]
    Answer {
        /// The CPU model that it was asked for.
        model: &'static str,
        /// What it said.
        answer: String,
    },
}

/// The version of QEMU, remembered for as long as its program is the same.
///
/// # Errors
/// [`ProbeError`]
pub fn qemu_version(site: &Site) -> Result<String, ProbeError> {
    Ok(probe::of(site, &program(Accel::Tcg))?.version)
}

/// Asks QEMU. It takes some tenths of a second, or its deadline.
///
/// # Errors
/// Only when nothing at all was found out. What goes wrong with one way to run guests is said in the log.
pub fn detect(site: &Site) -> Result<CpuFlags, FlagsError> {
    detect_by(runs_kvm(site), |accel| {
        ask(&command(accel, process::id()), model(accel))
    })
}

fn detect_by(kvm: bool, ask: impl Fn(Accel) -> Result<BTreeSet<String>, FlagsError>) -> Result<CpuFlags, FlagsError> {
    let with_kvm = if kvm { Some(ask(Accel::Kvm)) } else { None };
    match (with_kvm, ask(Accel::Tcg)) {
        (Some(Ok(kvm)), Ok(tcg)) => Ok(CpuFlags { kvm, tcg }),
        (Some(Ok(kvm)), Err(error)) => {
            log::warn!("{error}");
            Ok(CpuFlags {
                kvm,
                tcg: BTreeSet::new(),
            })
        }
        (other, Ok(tcg)) => {
            if let Some(Err(error)) = other {
                log::warn!("{error}");
            }
            Ok(CpuFlags {
                kvm: BTreeSet::new(),
                tcg,
            })
        }
        (_, Err(error)) => Err(error),
    }
}

/// Whether guests run with the processor here, by the rule for guests themselves: a `/dev/kvm` alone proves little.
fn runs_kvm(site: &Site) -> bool {
    let decision = accel::decide(accel_setting(site), true, kvm_facts());
    decision.is_ok_and(|decision| decision.accel == Accel::Kvm)
}

/// The CPU model that has all that there is.
fn model(accel: Accel) -> &'static str {
    match accel {
        Accel::Kvm => "host",
        Accel::Tcg => "max",
    }
}

/// The machine and what the process `asker` asks it.
fn command(accel: Accel, asker: u32) -> Command {
    let machine = match accel {
        Accel::Kvm => "none,accel=kvm",
        Accel::Tcg => "none,accel=tcg",
    };
    let model = json!({ "name": model(accel) });
    let questions = [
        json!({ "execute": "qmp_capabilities" }),
        json!({ "execute": "query-cpu-model-expansion", "arguments": { "type": "full", "model": model }, "id": "flags" }),
        json!({ "execute": "quit" }),
    ];
    let input: String = questions.iter().map(|question| format!("{question}\n")).collect();
    // Whoever asks may be killed before it has written `quit`, and QEMU goes on when nobody writes any more.
    Command::new(SETPRIV, LIMIT)
        .args(["--pdeathsig", "KILL", "/bin/sh", "-c", LEASH])
        .arg(asker.to_string())
        .arg(program(accel))
        .args(["-machine", machine, "-S", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-qmp", "stdio"])
        .input(input)
}

fn ask(command: &Command, model: &'static str) -> Result<BTreeSet<String>, FlagsError> {
    let output = command.run()?.stdout_text();
    parse(&output).map_err(|answer| FlagsError::Answer { model, answer })
}

/// The properties that are on, in the answer to the question among the lines of the monitor; what it said instead.
fn parse(output: &str) -> Result<BTreeSet<String>, String> {
    let mut lines = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answer = lines
        .find(|answer| answer.get("id").and_then(Value::as_str) == Some("flags"))
        .ok_or("no answer")?;
    let Some(Value::Object(properties)) = answer.pointer("/return/model/props") else {
        let description = answer.pointer("/error/desc").and_then(Value::as_str);
        return Err(description.unwrap_or("no properties").to_owned());
    };
    let on = properties.iter().filter(|(_, value)| **value == Value::Bool(true));
    Ok(on.map(|(name, _)| name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn properties_that_are_on_are_flags() {
        let greeting = "{\"QMP\": {}}\n{\"return\": {}}\n";
        let answer = "{\"return\": {\"model\": {\"name\": \"max\", \"props\": {\"aes\": true, \"avx\": false, \
            \"level\": 13, \"vendor\": \"x\", \"sse\": true}}}, \"id\": \"flags\"}\n";
        let flags = parse(&format!("{greeting}{answer}{{\"event\": \"SHUTDOWN\"}}\n")).unwrap();
        assert_eq!(flags, ["aes", "sse"].map(str::to_owned).into());
        let refused = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such model\"}, \"id\": \"flags\"}\n";
        assert_eq!(parse(&format!("{greeting}{refused}")), Err("no such model".to_owned()));
        assert_eq!(parse(greeting), Err("no answer".to_owned()));
    }

    #[test]
    fn qemu_tells_the_flags_of_its_translator() {
        let flags = ask(&command(Accel::Tcg, process::id()), model(Accel::Tcg)).unwrap();
        for flag in ["aes", "sse2", "cmov"] {
            assert!(flags.contains(flag), "{flag}: {flags:?}");
        }
        assert!(!flags.contains("vmx"), "the translator has no such thing");
    }

    #[test]
    fn there_is_no_machine_where_who_asks_is_gone() {
        let ended = command(Accel::Tcg, 0).outcome().unwrap();
        assert_eq!((ended.status.code(), ended.stdout_text()), (Some(1), String::new()));
    }

    #[test]
    fn a_machine_that_hangs_is_killed() {
        let started = Instant::now();
        let hung = Command::new("/bin/sleep", Duration::from_millis(200)).arg("3600");
        let error = ask(&hung, "max").unwrap_err();
        assert!(
            matches!(error, FlagsError::Command(CommandError::Timeout { .. })),
            "{error}"
        );
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn one_way_that_fails_leaves_the_other() {
        let one = |name: &str| BTreeSet::from([name.to_owned()]);
        let fails = || FlagsError::Answer {
            model: "max",
            answer: "x".to_owned(),
        };
        let found = |kvm_flags: Option<&str>, tcg_flags: Option<&str>, kvm: bool| {
            detect_by(kvm, |accel| {
                let flags = if accel == Accel::Kvm { kvm_flags } else { tcg_flags };
                flags.map(one).ok_or_else(fails)
            })
            .ok()
        };
        let flags = |kvm: Option<&str>, tcg: Option<&str>| {
            Some(CpuFlags {
                kvm: kvm.map(one).unwrap_or_default(),
                tcg: tcg.map(one).unwrap_or_default(),
            })
        };
        assert_eq!(found(Some("a"), Some("b"), true), flags(Some("a"), Some("b")));
        assert_eq!(
            found(Some("a"), Some("b"), false),
            flags(None, Some("b")),
            "KVM is not to be trusted"
        );
        assert_eq!(found(Some("a"), None, true), flags(Some("a"), None));
        assert_eq!(found(None, Some("b"), true), flags(None, Some("b")));
        assert_eq!(found(None, None, true), None);
        assert_eq!(found(Some("a"), None, false), None);
    }
}
