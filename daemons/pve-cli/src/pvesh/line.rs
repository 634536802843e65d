//! A command line: what is to be done with which path.

use pve_contract::Verb;

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

    fn find(word: &str) -> Option<Self> {
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
}

impl Line {
    /// Understands a command line; the error is all that goes to standard error.
    pub(super) fn read(words: &[String]) -> Result<Self, String> {
        let mut words = words.to_vec();
        let mut first = |name: &str| {
            let is_there = words.first().is_some_and(|word| word == name);
            if is_there {
                words.remove(0);
            }
            is_there
        };
        let mut without_output = first("--nooutput");
        // Calls for other nodes are not passed on in any case.
        first("--noproxy");
        without_output = first("--nooutput") || without_output;
        // The directory of a lab may stand first, as with the other tools.
        let root = if words.first().is_some_and(|word| word == "--root") {
            words.drain(..words.len().min(2)).collect()
        } else {
            Vec::new()
        };
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
        ] {
            assert_eq!(read(text), Ok((command, path.to_owned(), words.to_owned())), "{text}");
        }
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
