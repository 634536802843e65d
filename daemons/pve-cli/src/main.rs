//! `pve-cli`: the command lines, in one binary. It is the tool whose name it is called by – a link `qm` or `vma` to it –
//! or the one that its first argument names.
//!
//! | module | tool |
//! |---|---|
//! | [`pvecm`] | directories, keys and certificates of this node |
//! | [`pvenode`] | this node |
//! | [`pvesh`] | the API by its paths |
//! | [`pvesm`] | storages and what is on them |
//! | [`pveum`] | users, rights and realms |
//! | [`pveversion`] | which release this is |
//! | [`qm`] | virtual machines |
//! | [`startall_delay`] | no tool, but what a unit calls: the wait before guests are started |
//! | [`vma`] | looks into, unpacks and makes archives of VM backups |
//! | [`vzdump`] | backups, now |
//!
//! Tools that call methods of the API are tables of verbs on one base, [`api`]; [`output`] prints what they answer.

mod api;
mod output;
mod pvecm;
mod pvenode;
mod pvesh;
mod pvesm;
mod pveum;
mod pveversion;
mod qm;
mod startall_delay;
mod vma;
mod vzdump;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _, Parser};
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

const TOOLS: [Tool; 9] = [
    verbs(&pvecm::PROGRAM),
    verbs(&pvenode::PROGRAM),
    Tool {
        name: "pvesh",
        kind: Kind::Paths,
    },
    verbs(&pvesm::PROGRAM),
    verbs(&pveum::PROGRAM),
    verbs(&pveversion::PROGRAM),
    verbs(&qm::PROGRAM),
    Tool {
        name: "vma",
        kind: Kind::Own(vma::Cli::command, vma::main),
    },
    verbs(&vzdump::PROGRAM),
];

const fn verbs(program: &'static api::Program) -> Tool {
    Tool {
        name: program.name,
        kind: Kind::Verbs(program),
    }
}

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
            Kind::Paths => api::complete::script(self.name, shell).map(String::into_bytes),
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
        // For the unit that starts guests at boot.
        Some(startall_delay::NAME) => startall_delay::main(rest),
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

/// Understands a command line of its own; says what is wrong with it, or what help and version are, and how to exit then.
fn parse<C: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<C, ExitCode> {
    C::try_parse_from(words).map_err(|error| {
        // Nothing is left to say if that fails.
        let _ = error.print();
        match error.exit_code() {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::from(FAILURE),
        }
    })
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
        text.push_str(&format!("  {:<12}{}\n", tool.name, tool.about()));
    }
    text.push_str("\nA link with the name of a tool is that tool. SHELL is one of bash, fish, zsh.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Entry, Verb};

    fn verbs_of(entries: &'static [Entry], path: &str, into: &mut Vec<(String, &'static Verb)>) {
        for entry in entries {
            match entry {
                Entry::Verb(verb) => into.push((format!("{path} {}", verb.name), verb)),
                Entry::Group(name, entries) => verbs_of(entries, &format!("{path} {name}"), into),
                Entry::Alias(..) => {}
            }
        }
    }

    #[test]
    fn tables_name_parameters_that_there_are() {
        let mut all = Vec::new();
        for tool in &TOOLS {
            let Kind::Verbs(program) = tool.kind else { continue };
            verbs_of(program.entries, program.name, &mut all);
            all.extend(program.only.map(|verb| (program.name.to_owned(), verb)));
            for entry in program.entries {
                if let Entry::Alias(name, words) = entry {
                    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
                    assert!(program.find(&words).is_ok(), "{} {name}", program.name);
                }
            }
        }
        assert!(all.len() > 100, "{}", all.len());
        for (path, verb) in all {
            // That is the chipset in `--machine`; what is meant is a VM, or a node.
            assert!(!verb.about.contains("machine"), "{path}: {}", verb.about);
            let fixed = verb.fixed.iter().chain(verb.defaults).map(|(name, _)| *name);
            let names = verb.positional.iter().map(|word| word.name()).chain(fixed);
            let names = names
                .chain(verb.hidden.iter().copied())
                .chain(verb.optional.iter().copied());
            let names = names.chain(verb.files.iter().copied());
            for name in names.chain(verb.secrets.iter().map(|secret| secret.parameter)) {
                let is_there = verb.parameter(name).is_some();
                // Servers of some kinds ask for no password, and work of its own may take words of its own.
                let is_scan = path.starts_with("pvesm scan ") && name == "password";
                let is_own = matches!(verb.action, api::Action::Run(_));
                assert!(is_there || is_scan || is_own, "{path}: {name}");
            }
            // What a path has and nobody types must be set.
            for parameter in verb.parameters().iter().filter(|parameter| parameter.in_path) {
                let is_set = verb.fixed.iter().any(|(name, _)| *name == parameter.name);
                let is_word = verb.positional.iter().any(|word| word.name() == parameter.name);
                let is_optional = parameter.schema.optional || verb.optional.contains(&parameter.name);
                assert!(is_set || is_word || is_optional, "{path}: {}", parameter.name);
            }
            assert!(verb.parameters().is_sorted_by_key(|parameter| parameter.name), "{path}");
        }
    }
}
