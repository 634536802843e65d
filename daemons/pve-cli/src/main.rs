//! `pve-cli`: the command lines, in one binary. It is the tool whose name it is called by – a link `qm` or `vma` to it –
//! or the one that its first argument names.
//!
//! | module | tool |
//! |---|---|
//! | [`qm`] | consoles of VMs, for other nodes and for people |
//! | [`vma`] | looks into, unpacks and makes archives of VM backups |

mod qm;
mod vma;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};

/// What a command line that makes no sense, and everything that failed, exit with; as upstream's tools do.
const FAILURE: u8 = 255;

/// A tool.
struct Tool {
    name: &'static str,
    command: fn() -> Command,
    run: fn(Vec<OsString>) -> ExitCode,
}

const TOOLS: [Tool; 2] = [
    Tool {
        name: "qm",
        command: qm::Cli::command,
        run: qm::main,
    },
    Tool {
        name: "vma",
        command: vma::Cli::command,
        run: vma::main,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    let called = Path::new(&called).file_name().unwrap_or_default();
    if let Some(tool) = tool(called) {
        return (tool.run)(rest);
    }
    match rest.split_first() {
        Some((name, rest)) if tool(name).is_some() => {
            tool(name).map_or(ExitCode::FAILURE, |tool| (tool.run)(rest.to_vec()))
        }
        _ => own(&rest),
    }
}

fn tool(name: &OsStr) -> Option<&'static Tool> {
    const { &TOOLS }.iter().find(|tool| name == tool.name)
}

/// What is asked of the binary itself.
fn own(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let text = match words[..] {
        ["completion", name, shell] => completion(name, shell),
        ["--version" | "-V"] => Some(format!("pve-cli {}\n", env!("CARGO_PKG_VERSION")).into_bytes()),
        ["help" | "--help" | "-h"] => Some(usage().into_bytes()),
        _ => None,
    };
    let Some(text) = text else {
        eprint!("{}", usage());
        return ExitCode::from(FAILURE);
    };
    match io::stdout().lock().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILURE),
    }
}

fn completion(name: &str, shell: &str) -> Option<Vec<u8>> {
    let tool = tool(OsStr::new(name))?;
    let shell: clap_complete::Shell = shell.parse().ok()?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut (tool.command)(), tool.name, &mut script);
    Some(script)
}

fn usage() -> String {
    let mut text = "USAGE: pve-cli TOOL [ARGUMENTS]\n       pve-cli completion TOOL SHELL\n\nTOOLS\n".to_owned();
    for tool in &TOOLS {
        let about = (tool.command)()
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        text.push_str(&format!("  {:<8}{about}\n", tool.name));
    }
    text.push_str(
        "\nA link with the name of a tool is that tool. SHELL is one of bash, elvish, fish, powershell, zsh.\n",
    );
    text
}
