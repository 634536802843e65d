//! A command line: what is to be done with which path.

use pve_contract::Verb;

use crate::api::CallError;
use crate::api::arguments::{boolean, flag};
use crate::api::connect::Connection;

/// What there is.
pub(super) const USAGE: &str = "\
USAGE: pvesh <COMMAND> <api_path> [OPTIONS]

       pvesh get <api_path> [OPTIONS]
       pvesh create <api_path> [OPTIONS]
       pvesh set <api_path> [OPTIONS]
       pvesh delete <api_path> [OPTIONS]
       pvesh ls <api_path> [OPTIONS]
       pvesh usage <api_path> [--verbose] [--returns] [--command <get | set | create | delete>]
       pvesh help

  Options are the method's parameters, and
  --output-format <text | json | json-pretty | yaml> (default = text)
  --human-readable <boolean> (default = 1)    show sizes, times and headers for people
  --noborder, --noheader <boolean>            tables without lines around them, without a header
  --quiet <boolean>                           print no result
  --root DIR                                  all built-in paths are below DIR: the directory of a lab

  Before the command, to call another node's methods, as whoever has a token may
  --remote https://HOST[:PORT]                which node; its port is 8006 unless it is told
  --token-file FILE                           holds USER@REALM!TOKENID=SECRET; else the environment has it, as PVE_API_TOKEN
  --ca-file FILE                              the certificate of the authority that vouches for the node
  --fingerprint SHA256                        of the node's own certificate, instead
  --insecure                                  believe any node
";

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Call a method.
    Call(Verb),
    /// List what is below a path.
    Ls,
    /// Tell what a path's methods take.
    Usage,
    /// Tell what there is.
    Help,
    /// Tell the tool's version; an option alone, as with the other tools.
    Version,
}

/// The commands by their names, for unique prefixes.
pub(super) const COMMANDS: [(&str, Command); 7] = [
    ("create", Command::Call(Verb::Post)),
    ("delete", Command::Call(Verb::Delete)),
    ("get", Command::Call(Verb::Get)),
    ("help", Command::Help),
    ("ls", Command::Ls),
    ("set", Command::Call(Verb::Put)),
    ("usage", Command::Usage),
];

impl Command {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        let found = COMMANDS.iter().find(|(_, command)| *command == self);
        found.map_or("", |(name, _)| name)
    }

    /// What it does to a resource.
    pub(super) fn verb(self) -> Option<Verb> {
        match self {
            Self::Call(verb) => Some(verb),
            _ => None,
        }
    }

    pub(super) fn find(word: &str) -> Option<Self> {
        let exact = COMMANDS.iter().find(|(name, _)| *name == word);
        let mut beginning = COMMANDS
            .iter()
            .filter(|(name, _)| !word.is_empty() && name.starts_with(word));
        let found = exact.or_else(|| match (beginning.next(), beginning.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        });
        found.map(|(_, command)| *command)
    }
}

/// A command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) command: Command,
    /// The path, with a slash before it.
    pub(super) path: String,
    /// All words but command and path.
    pub(super) words: Vec<String>,
    /// Whether the result is not wanted.
    pub(super) without_output: bool,
    /// Which node is asked.
    pub(super) connection: Connection,
}

/// What stands before the command, in any order.
#[derive(Debug, Default)]
pub(super) struct Leading {
    without_output: bool,
    /// The directory of a lab, as the other tools have it.
    pub(super) root: Vec<String>,
    pub(super) connection: Connection,
    /// What is told instead of doing what a command says.
    told: Option<Command>,
}

impl Leading {
    /// Takes the options; the words behind them.
    pub(super) fn take<'a>(&mut self, mut words: &'a [String]) -> Result<&'a [String], String> {
        while let Some((word, rest)) = words.split_first() {
            let Some(option) = word.strip_prefix('-') else { break };
            let option = option.strip_prefix('-').unwrap_or(option);
            let (name, attached) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option, None),
            };
            words = rest;
            let unusable = |error: CallError| format!("{error}\n{USAGE}");
            let is_set = || flag(attached.as_deref()).map_err(unusable);
            match name {
                "nooutput" => self.without_output = is_set()?,
                // Calls for other nodes are not passed on in any case.
                "noproxy" => {
                    is_set()?;
                }
                "help" | "h" | "?" if is_set()? => {
                    self.told = Some(Command::Help);
                    break;
                }
                "version" | "V" if is_set()? => {
                    self.told = Some(Command::Version);
                    break;
                }
                "help" | "version" => {}
                _ => {
                    let known = Connection::OPTIONS.iter().find(|(known, _)| *known == name);
                    let takes_value = match (name, known) {
                        ("root", _) => true,
                        (_, Some((_, takes_value))) => *takes_value,
                        _ => return Err(unusable(CallError::UnknownOption(name.to_owned()))),
                    };
                    let value = match (takes_value, attached, rest.split_first()) {
                        (false, attached, _) => boolean(attached.as_deref()).map_err(unusable)?.to_owned(),
                        (true, Some(value), _) => value,
                        (true, None, Some((value, rest))) => {
                            words = rest;
                            value.clone()
                        }
                        (true, None, None) => return Err(unusable(CallError::MissingValue(name.to_owned()))),
                    };
                    if name == "root" {
                        self.root = vec!["--root".to_owned(), value];
                    } else {
                        self.connection.set(name, value);
                    }
                }
            }
        }
        Ok(words)
    }
}

impl Line {
    /// Understands a command line; the error is all that goes to standard error.
    pub(super) fn read(words: &[String]) -> Result<Self, String> {
        let mut leading = Leading::default();
        let words = leading.take(words)?;
        let Leading {
            without_output,
            root,
            connection,
            told,
        } = leading;
        if let Some(command) = told {
            return Ok(Self {
                command,
                path: "/".to_owned(),
                words: Vec::new(),
                without_output,
                connection,
            });
        }
        let Some((word, rest)) = words.split_first() else {
            return Err(format!("ERROR: no command specified\n{USAGE}"));
        };
        let command = Command::find(word).ok_or_else(|| format!("ERROR: unknown command 'pvesh {word}'\n{USAGE}"))?;
        let mut words = rest.to_vec();
        let path = match (path(&words), command) {
            (Some(at), _) => words.remove(at),
            (None, Command::Help) => String::new(),
            (None, _) => {
                let name = command.name();
                return Err(format!("400 not enough arguments\npvesh {name} <api_path> [OPTIONS]\n"));
            }
        };
        Ok(Self {
            command,
            path: format!("/{}", path.trim_start_matches('/')),
            words: [root, words].concat(),
            without_output,
            connection,
        })
    }
}

/// Where the path is among the words: the first that is neither an option nor behind one, or else the first that begins as
/// paths do. What an option takes is not known before the method is.
fn path(words: &[String]) -> Option<usize> {
    let is_option = |word: &str| word.starts_with('-');
    let takes_next = |word: &str| is_option(word) && !word.contains('=') && word != "--";
    let is_free = |at: usize| {
        at.checked_sub(1)
            .and_then(|before| words.get(before))
            .is_none_or(|word| !takes_next(word))
    };
    let all = || words.iter().enumerate();
    let free = all().find(|(at, word)| !is_option(word) && is_free(*at));
    let is_root = |at: usize| {
        at.checked_sub(1)
            .and_then(|before| words.get(before))
            .is_some_and(|word| word.trim_start_matches('-') == "root")
    };
    let found = free.or_else(|| all().find(|(at, word)| word.starts_with('/') && !is_root(*at)));
    found.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Command, String, String), String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Line::read(&words).map(|line| (line.command, line.path, line.words.join(" ")))
    }

    #[test]
    fn options_and_path_stand_in_any_order() {
        let get = Command::Call(Verb::Get);
        for (text, command, path, words) in [
            ("get /nodes", get, "/nodes", ""),
            ("g nodes", get, "/nodes", ""),
            ("get --output-format json /nodes", get, "/nodes", "--output-format json"),
            ("get --noborder /nodes", get, "/nodes", "--noborder"),
            ("get --noborder 1 /nodes --x", get, "/nodes", "--noborder 1 --x"),
            (
                "get --path=/vms access/permissions",
                get,
                "/access/permissions",
                "--path=/vms",
            ),
            (
                "get --path /vms /access/permissions",
                get,
                "/access/permissions",
                "--path /vms",
            ),
            (
                "--noproxy --nooutput set /pools --poolid x",
                Command::Call(Verb::Put),
                "/pools",
                "--poolid x",
            ),
            ("--root /srv ls /", Command::Ls, "/", "--root /srv"),
            (
                "get --root /srv --noborder /nodes",
                get,
                "/nodes",
                "--root /srv --noborder",
            ),
            ("help", Command::Help, "/", ""),
            ("--help", Command::Help, "/", ""),
            ("--remote n1 --help", Command::Help, "/", ""),
            ("-h --nosuch get /version", Command::Help, "/", ""),
            ("-?", Command::Help, "/", ""),
            ("--root /srv --version", Command::Version, "/", ""),
            ("-V", Command::Version, "/", ""),
            ("--help=0 get /version", get, "/version", ""),
        ] {
            assert_eq!(read(text), Ok((command, path.to_owned(), words.to_owned())), "{text}");
        }
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let line = Line::read(&words(
            "--remote=n1 -root /r --nooutput --insecure get /nodes --fingerprint x",
        ))
        .unwrap();
        let expected = Connection {
            remote: Some("n1".to_owned()),
            insecure: true,
            ..Connection::default()
        };
        assert_eq!((line.connection, line.without_output), (expected, true));
        for (text, insecure, without_output) in [
            ("--insecure=1 --nooutput=yes get /", true, true),
            ("--insecure=0 --nooutput=no get /", false, false),
            ("--insecure --insecure=off --noproxy=on get /", false, false),
        ] {
            let line = Line::read(&words(text)).unwrap();
            let found = (line.connection.insecure, line.without_output);
            assert_eq!(found, (insecure, without_output), "{text}");
        }
        for text in [
            "--insecure=junk get /",
            "--insecure= get /",
            "--nooutput=2 get /",
            "--noproxy=junk get /",
            "--help=junk",
        ] {
            let said = Line::read(&words(text)).unwrap_err();
            assert!(
                said.starts_with("400 unable to parse boolean option\nUSAGE: pvesh "),
                "{text}: {said}"
            );
        }
        // Behind the command a name is the method's.
        assert_eq!(line.words, words("--root /r --fingerprint x"));
        assert!(
            Line::read(&words("--remote"))
                .unwrap_err()
                .starts_with("Option remote requires an argument\n")
        );
        assert!(
            Line::read(&words("--secret x get /"))
                .unwrap_err()
                .starts_with("Unknown option: secret\n")
        );
        assert!(
            read("")
                .unwrap_err()
                .starts_with("ERROR: no command specified\nUSAGE: pvesh ")
        );
        assert!(
            read("foo /x")
                .unwrap_err()
                .starts_with("ERROR: unknown command 'pvesh foo'\nUSAGE: pvesh ")
        );
        assert_eq!(
            read("get").unwrap_err(),
            "400 not enough arguments\npvesh get <api_path> [OPTIONS]\n"
        );
    }
}
