//! `pve-cli`: the command lines, in one binary. It is the tool whose name it is called by – a link `qm` or `vma` to it –
//! or the one that its first argument names.
//!
//! | module | tool |
//! |---|---|
//! | [`pvesh`] | the API by its paths |
//! | [`pveum`] | users, rights and realms |
//! | [`qm`] | consoles of VMs, for other nodes and for people |
//! | [`vma`] | looks into, unpacks and makes archives of VM backups |
//!
//! Tools that call methods of the API are tables of verbs on one base, [`api`]; [`output`] prints what they answer.

mod api;
mod output;
mod pvesh;
mod pveum;
mod qm;
mod vma;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use log::LevelFilter;
use pve_daemon::logging::{self, Target};
use pve_daemon::process;

/// What a command line that makes no sense, and everything that failed, exit with; as upstream's tools do.
const FAILURE: u8 = 255;

/// A tool.
struct Tool {
    name: &'static str,
    kind: Kind,
}

/// What a tool is made of.
enum Kind {
    /// A command line of its own.
    Own(fn() -> Command, fn(Vec<OsString>) -> ExitCode),
    /// Paths of the API.
    Paths,
    /// A table of verbs.
    Verbs(&'static api::Program),
}

const TOOLS: [Tool; 4] = [
    Tool {
        name: "pvesh",
        kind: Kind::Paths,
    },
    Tool {
        name: "pveum",
        kind: Kind::Verbs(&pveum::PROGRAM),
    },
    Tool {
        name: "qm",
        kind: Kind::Own(qm::Cli::command, qm::main),
    },
    Tool {
        name: "vma",
        kind: Kind::Own(vma::Cli::command, vma::main),
    },
];

impl Tool {
    fn run(&self, words: Vec<OsString>) -> ExitCode {
        match self.kind {
            Kind::Own(_, run) => run(words),
            Kind::Paths => pvesh::main(words),
            Kind::Verbs(program) => api::main(program, words),
        }
    }

    fn about(&self) -> String {
        match self.kind {
            Kind::Own(command, _) => command().get_about().map(ToString::to_string).unwrap_or_default(),
            Kind::Paths => pvesh::ABOUT.to_owned(),
            Kind::Verbs(program) => program.about.trim_end_matches('.').to_owned(),
        }
    }

    fn completion(&self, shell: &str) -> Option<Vec<u8>> {
        match self.kind {
            Kind::Own(command, _) => {
                let shell: clap_complete::Shell = shell.parse().ok()?;
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command(), self.name, &mut script);
                Some(script)
            }
            Kind::Paths => None,
            Kind::Verbs(program) => api::complete::script(program.name, shell).map(String::into_bytes),
        }
    }
}

fn main() -> ExitCode {
    // Kept before anything else, for titles of processes.
    let image = process::image();
    let (called, rest) = match image.arguments.split_first() {
        Some((called, rest)) => (Path::new(called).file_name().unwrap_or_default(), rest),
        None => (OsStr::new(""), &[][..]),
    };
    if let Some(tool) = tool(called) {
        return tool.run(rest.to_vec());
    }
    let Some((first, rest)) = rest.split_first() else {
        return own(&[]);
    };
    if let Some(tool) = tool(first) {
        return tool.run(rest.to_vec());
    }
    match first.to_str() {
        // How this image is started for a task of one of its tools, and to ask PAM and directories.
        Some(pve_task::VERB) => run_task(),
        Some(pve_access::pam::VERB) => pve_access::pam::helper_main(),
        Some(pve_access::ldap::VERB) => pve_access::ldap::helper_main(),
        _ => own(image.arguments.get(1..).unwrap_or_default()),
    }
}

/// A task that a tool started: everything it needs comes by pipe.
fn run_task() -> ExitCode {
    set_umask();
    logging::init("pve-cli", Target::Syslog, LevelFilter::Info);
    pve_task::child_main(&api::local::task_kinds())
}

/// Who calls must not decide which modes files get: those of the daemons.
fn set_umask() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
}

fn tool(name: &OsStr) -> Option<&'static Tool> {
    const { &TOOLS }.iter().find(|tool| name == tool.name)
}

/// What is asked of the binary itself.
fn own(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let text = match words[..] {
        ["completion", name, shell] => tool(OsStr::new(name)).and_then(|tool| tool.completion(shell)),
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

fn usage() -> String {
    let mut text = "USAGE: pve-cli TOOL [ARGUMENTS]\n       pve-cli completion TOOL SHELL\n\nTOOLS\n".to_owned();
    for tool in &TOOLS {
        text.push_str(&format!("  {:<8}{}\n", tool.name, tool.about()));
    }
    text.push_str("\nA link with the name of a tool is that tool. SHELL is one of bash, fish, zsh.\n");
    text
}
