//! `pveversion`: which release this is (reference 09 §23). Scripts read its line.

use std::fmt::Write as _;
use std::time::Duration;

use pve_contract::RELEASE;
use pve_contract::version::build_id;
use pve_daemon::command::{Command, CommandError};
use pve_node::status::kernel::Kernel;
use pve_schema::schema::Parameter;
use pve_web_api::version::manager_version;
use serde_json::{Map, Value};

use crate::api::{CallError, FLAG, Local, Program, Shown, Verb, is_set, parameter};
use crate::output::Style;

/// The tool.
pub(crate) static PROGRAM: Program = Program {
    name: "pveversion",
    about: "Which release this is.",
    entries: &[],
    only: Some(&PVEVERSION),
};

static PVEVERSION: Verb = Verb {
    everybody: true,
    ..Verb::own(
        "pveversion",
        "Print release, build and running kernel",
        OPTIONS,
        version,
    )
};

const OPTIONS: &[Parameter] = &[parameter("verbose", &FLAG)];

/// How long dpkg may take to tell of packages: it reads one file, from a disk that may not answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Packages that guests and storages depend on.
const PACKAGES: [&str; 12] = [
    "corosync",
    "lvm2",
    "lxc",
    "lxcfs",
    "openvswitch-switch",
    "ovmf",
    "qemu-server",
    "qemu-system-x86",
    "qemu-utils",
    "smartmontools",
    "swtpm",
    "zfsutils-linux",
];

fn version(_local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    let kernel = Kernel::read().release;
    if !is_set(&params, "verbose") {
        return Ok(Shown::Text(format!(
            "{} (running kernel: {kernel})\n",
            manager_version()
        )));
    }
    let mut text = format!("proxmox-ve: not correctly installed (running kernel: {kernel})\n");
    let _ = writeln!(
        text,
        "pve-manager: {RELEASE} (running version: {RELEASE}/{})\npve-rs: {}",
        build_id(),
        env!("CARGO_PKG_VERSION")
    );
    let known = Command::new("dpkg-query", LIMIT)
        .args(["-W", "-f", "${Package}\t${db:Status-Abbrev}\t${Version}\n"])
        .args(PACKAGES)
        .outcome();
    match known {
        Ok(known) => text.push_str(&packages(&known.stdout_text())),
        // A system without dpkg has no packages to tell of.
        Err(CommandError::Execute { .. }) => {}
        Err(error) => eprintln!("{error}"),
    }
    Ok(Shown::Text(text))
}

/// A line for each package that dpkg knows.
fn packages(answer: &str) -> String {
    let rows = answer.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let (name, state, version) = (fields.next()?, fields.next()?, fields.next()?);
        match state.trim_end() {
            "ii" => Some(format!("{name}: {version}\n")),
            state if state.ends_with('c') => Some(format!("{name}: residual config\n")),
            // Never installed.
            state if state.ends_with('n') => None,
            _ => Some(format!("{name}: not correctly installed\n")),
        }
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_by_their_state() {
        let answer = "lxc\tii \t1:6.0.4\nqemu-utils\trc \t1:10.0\novmf\tun \t\nswtpm\tiU \t0.7\n";
        assert_eq!(
            packages(answer),
            "lxc: 1:6.0.4\nqemu-utils: residual config\nswtpm: not correctly installed\n"
        );
    }
}
