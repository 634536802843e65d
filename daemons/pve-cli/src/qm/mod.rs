//! `qm`: consoles of this node's VMs on standard input and output (reference 06b §13). Other nodes of a cluster reach them
//! by ssh with these commands; `terminal` is for people, too.
//!
//! Not here: everything else that the API does with VMs.

mod error;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pve_daemon::cli::{self, Options};
use pve_node::console::stdio;
use pve_qemu::config::VmConfig;
use pve_qemu::console::{serial, vnc};
use pve_qemu::error::VmError;
use pve_qemu::{files, power};
use pve_schema::Context;
use pve_schema::ids::VmId;

use error::QmError;

/// What ends a terminal unless another key is chosen.
const ESCAPE: &str = "^O";

/// Consoles of virtual machines
#[derive(Debug, Parser)]
#[command(name = "qm", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "EXAMPLES\n  \
    qm terminal 100\n  \
    qm terminal 100 -iface serial1 -escape '^]'\n  \
    LC_PVE_TICKET=secret qm vncproxy 100\n\n\
    Options may have one dash or two. The exit code is 0 when all went well, and 255 when not.")]
pub(crate) struct Cli {
    /// The directory of a lab; / is the machine's own instance
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a serial port of a running VM, for one at a time
    Terminal {
        /// The VM
        #[arg(value_name = "VMID")]
        vmid: VmId,
        /// Which port, if not the one that is the display, or the first
        #[arg(long, value_name = "PORT", value_parser = ["serial0", "serial1", "serial2", "serial3"])]
        iface: Option<String>,
        /// The key that ends it: ^ and a character, or 0 for none
        #[arg(long, value_name = "KEY", default_value = ESCAPE, value_parser = parse_escape)]
        escape: Escape,
    },
    /// Set the password of a VM's display, from LC_PVE_TICKET, and connect it: VNC on standard input and output
    Vncproxy {
        /// The VM
        #[arg(value_name = "VMID")]
        vmid: VmId,
    },
}

/// What ends a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Escape {
    key: Option<u8>,
    name: String,
}

/// `^X` is the control character, `0` none.
fn parse_escape(text: &str) -> Result<Escape, String> {
    let key = match text.as_bytes() {
        b"0" => None,
        // Letters and @ [ \ ] ^ _ have one.
        [b'^', key] if matches!(key.to_ascii_uppercase(), b'@'..=b'_') => Some(key.to_ascii_uppercase() & 0x1f),
        _ => return Err("neither 0 nor ^ and a character".to_owned()),
    };
    Ok(Escape {
        key,
        name: text.to_owned(),
    })
}

/// Runs the tool.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let words = std::iter::once(OsString::from("qm")).chain(arguments.iter().map(|word| two_dashes(word)));
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { crate::FAILURE } else { 0 });
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(crate::FAILURE)
        }
    }
}

/// `-iface` is `--iface`.
fn two_dashes(word: &OsStr) -> OsString {
    let is_long = |text: &str| text.len() > 2 && text.starts_with('-') && !text.starts_with("--");
    match word.to_str().filter(|text| is_long(text)) {
        Some(text) => format!("-{text}").into(),
        None => word.to_owned(),
    }
}

fn run(cli: &Cli) -> Result<(), QmError> {
    let context = Context::new(cli::site(&Options {
        root: cli.root.clone(),
        ..Options::default()
    })?);
    match &cli.command {
        Command::Terminal { vmid, iface, escape } => terminal(&context, *vmid, iface.as_deref(), escape),
        Command::Vncproxy { vmid } => vnc_proxy(&context, *vmid),
    }
}

fn terminal(context: &Context, vmid: VmId, iface: Option<&str>, escape: &Escape) -> Result<(), QmError> {
    let config = files::load(context, vmid)?;
    let asked = iface.and_then(|name| name.strip_prefix("serial")?.parse().ok());
    let number = match (serial::choose(VmConfig::new(&config.main), asked), asked) {
        (Some(number), _) => number,
        (None, Some(asked)) => return Err(QmError::NotConfigured(asked)),
        (None, None) => return Err(VmError::NoSerial.into()),
    };
    power::check_running(context, vmid)?;
    let port = serial::connect(&context.site, vmid, number).map_err(|error| QmError::Connect { number, error })?;
    if escape.key.is_some() {
        let key = escape.name.replace('^', "Ctrl+");
        eprintln!("starting serial terminal on interface serial{number} (press {key} to exit)\r");
    }
    Ok(stdio::run(port, escape.key)?)
}

fn vnc_proxy(context: &Context, vmid: VmId) -> Result<(), QmError> {
    let password = std::env::var(vnc::PASSWORD_VARIABLE).map_err(|_| QmError::NoPassword)?;
    // That this node has the VM.
    files::load(context, vmid)?;
    let display = vnc::connect(&context.site, vmid, &password)?;
    Ok(stdio::run(display, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_characters_are_control_characters() {
        let key = |text| parse_escape(text).map(|escape| escape.key);
        assert_eq!(key("^O"), Ok(Some(0x0f)));
        assert_eq!(key("^]"), Ok(Some(0x1d)));
        assert_eq!(key("^o"), Ok(Some(0x0f)));
        assert_eq!(key("0"), Ok(None));
        for text in ["", "^", "^1", "x", "-1"] {
            assert!(key(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_have_one_dash_or_two() {
        let words =
            ["qm", "terminal", "105", "-escape", "0", "-iface", "serial1"].map(|word| two_dashes(word.as_ref()));
        let cli = Cli::try_parse_from(words).unwrap();
        let Command::Terminal { vmid, iface, escape } = cli.command else {
            panic!("another command");
        };
        assert_eq!((vmid.get(), iface.as_deref(), escape.key), (105, Some("serial1"), None));
    }
}
