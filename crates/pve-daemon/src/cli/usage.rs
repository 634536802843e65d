//! The usage texts.

use super::Verb;
use crate::service::Program;

/// One verb's line, with the blanks that upstream's has.
pub(super) fn line(program: &Program, verb: Verb) -> String {
    let rest = match verb {
        Verb::Check => "check ",
        Verb::Help => "help [<extra-args>] [OPTIONS]",
        Verb::Restart => "restart ",
        Verb::Start => "start  [OPTIONS]",
        Verb::Status => "status ",
        Verb::Stop => "stop ",
    };
    format!("{} {rest}", program.name)
}

/// The block that upstream prints: one line per verb.
pub(super) fn block(program: &Program) -> String {
    let verbs = [Verb::Restart, Verb::Start, Verb::Status, Verb::Stop];
    let lines: String = verbs
        .iter()
        .map(|verb| format!("       {}\n", line(program, *verb)))
        .collect();
    format!(
        "USAGE: {} <COMMAND> [ARGS] [OPTIONS]\n\n       {}\n\n{lines}",
        program.name,
        line(program, Verb::Help)
    )
}

/// The whole text, for `--help`.
pub(super) fn text(program: &Program) -> String {
    let Program {
        name, version, about, ..
    } = program;
    format!(
        "{name} {version}
{about}

USAGE: {name} <COMMAND> [OPTIONS]

COMMANDS (a unique prefix will do)
  start     start the daemon; from a shell, ask systemctl to
  stop      end it
  restart   reload it: settings, certificates and program are read anew, no connection is refused
  status    print 'running' or 'stopped'
  check     print what is wrong with the settings and the files that they name; exit status 1 if anything keeps the
            daemon from serving. Changes nothing; the daemon need not run. '--check' does the same
  help      print the usage, or that of one command: help [COMMAND] [--verbose]
  completion SHELL
            print a completion script for bash, fish or zsh

OPTIONS of start
  --foreground      stay in the foreground and log to standard error
  --debug [BOOL]    stay in the foreground and log everything to standard output

OPTIONS of every command, for an instance other than the machine's own
  --root DIR        all built-in paths are below DIR; what DIR/pve-lab.conf says need not be said here
  --instance X      1 to 3 characters that set this instance's names in the kernel apart
  --address ADDR    the loopback address to listen on, 127.0.0.2 for one
  --node NAME       the node's name instead of the host's

{settings}SEE ALSO
  {name}(8)
",
        settings = settings(name)
    )
}

/// Where the settings are, of a daemon that has any.
fn settings(name: &str) -> String {
    let file = match name {
        "spiceproxy" => "pveproxy",
        "pvedaemon" | "pveproxy" => name,
        _ => return String::new(),
    };
    format!("FILES\n  /etc/default/{file}    settings; see {file}.default(5)\n\n")
}
