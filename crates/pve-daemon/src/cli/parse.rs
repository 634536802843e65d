//! From words to a verb and its options.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use pve_schema::ids::NodeName;
use pve_schema::site::Instance;

use super::{Verb, usage};
use crate::service::Program;

/// What the options of a verb say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Stay in the foreground and log everything to standard output.
    pub debug: bool,
    /// Stay in the foreground and log to standard error.
    pub foreground: bool,
    /// The lab's directory; `None` is the machine's own instance.
    pub root: Option<PathBuf>,
    /// The lab's mark.
    pub instance: Option<Instance>,
    /// The lab's loopback address.
    pub address: Option<IpAddr>,
    /// The node's name.
    pub node: Option<NodeName>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Print this.
    Help(String),
    /// Do that.
    Run(Verb, Options),
}

/// The option names, for unique prefixes.
pub(super) const OPTIONS: [&str; 6] = ["address", "debug", "foreground", "instance", "node", "root"];
/// The verbs by name, for unique prefixes.
pub(super) const VERBS: [(&str, Verb); 6] = [
    ("check", Verb::Check),
    ("help", Verb::Help),
    ("restart", Verb::Restart),
    ("start", Verb::Start),
    ("status", Verb::Status),
    ("stop", Verb::Stop),
];

/// Understands a command line; the error is all that goes to standard error.
pub(super) fn command(program: &Program, arguments: &[OsString]) -> Result<Command, String> {
    let words: Vec<String> = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let Some((first, rest)) = words.split_first() else {
        return Err(format!("ERROR: no command specified\n{}", usage::block(program)));
    };
    match first.as_str() {
        "--help" | "-help" | "-h" | "-?" => return Ok(Command::Help(usage::text(program))),
        "--version" | "-version" | "-V" => {
            return Ok(Command::Help(format!("{} {}\n", program.name, program.version)));
        }
        _ => {}
    }
    // An option in many programs, and so in many fingers.
    let first = if first == "--check" { "check" } else { first };
    let Some(verb) = verb(first) else {
        return Err(format!(
            "ERROR: unknown command '{} {first}'\n{}",
            program.name,
            usage::block(program)
        ));
    };
    if rest.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        return Ok(Command::Help(usage::text(program)));
    }
    if verb == Verb::Help {
        return help(program, rest).map(Command::Help);
    }
    match options(verb, rest) {
        Ok(options) => Ok(Command::Run(verb, options)),
        Err(text) => Err(format!("{text}\n{}\n", usage::line(program, verb))),
    }
}

/// A verb by its name or a unique prefix of it.
fn verb(word: &str) -> Option<Verb> {
    unique(VERBS.iter().copied(), word)
}

/// The one entry with this name, or the only one whose name begins so.
fn unique<T: Copy>(entries: impl Iterator<Item = (&'static str, T)> + Clone, word: &str) -> Option<T> {
    if let Some((_, exact)) = entries.clone().find(|(name, _)| *name == word) {
        return Some(exact);
    }
    let mut matches = entries.filter(|(name, _)| !word.is_empty() && name.starts_with(word));
    match (matches.next(), matches.next()) {
        (Some((_, only)), None) => Some(only),
        _ => None,
    }
}

/// The text of `help`, about everything or about one verb.
fn help(program: &Program, rest: &[String]) -> Result<String, String> {
    let mut about = None;
    let mut verbose = false;
    for word in rest {
        match word.trim_start_matches('-') {
            name if !name.is_empty() && name.len() < word.len() && "verbose".starts_with(name) => verbose = true,
            _ if about.is_none() => about = Some(word),
            _ => {
                return Err(format!(
                    "400 too many arguments\n{}\n",
                    usage::line(program, Verb::Help)
                ));
            }
        }
    }
    match about {
        None if verbose => Ok(usage::text(program)),
        None => Ok(usage::block(program)),
        Some(word) => match verb(word) {
            Some(verb) => Ok(format!("USAGE: {}\n", usage::line(program, verb))),
            None => Err(format!(
                "ERROR: unknown command '{} {word}'\n{}",
                program.name,
                usage::block(program)
            )),
        },
    }
}

/// The options behind a verb.
fn options(verb: Verb, rest: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = rest.iter().peekable();
    while let Some(word) = words.next() {
        let Some(option) = word
            .strip_prefix("--")
            .or_else(|| word.strip_prefix('-'))
            .filter(|name| !name.is_empty())
        else {
            return Err("400 too many arguments".to_owned());
        };
        let (name, mut value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        let unknown = || format!("Unknown option: {name}\n400 unable to parse option");
        let name = unique(OPTIONS.iter().map(|name| (*name, *name)), name).ok_or_else(unknown)?;
        if matches!(name, "debug" | "foreground") && verb != Verb::Start {
            return Err(unknown());
        }
        // A value may also be the next word, unless that looks like an option.
        if value.is_none() {
            value = words.next_if(|next| !next.starts_with('-')).cloned();
        }
        set(&mut options, name, value)?;
    }
    Ok(options)
}

fn set(options: &mut Options, name: &str, value: Option<String>) -> Result<(), String> {
    let wrong = |what: &str| format!("400 option '{name}': {what}");
    match (name, value) {
        ("debug", value) => options.debug = boolean(value.as_deref())?,
        ("foreground", value) => options.foreground = boolean(value.as_deref())?,
        (_, None) => return Err(wrong("requires a value")),
        ("root", Some(value)) => options.root = Some(PathBuf::from(value)),
        ("instance", Some(value)) => {
            options.instance = Some(Instance::try_from(value).map_err(|error| wrong(&error.to_string()))?);
        }
        ("address", Some(value)) => {
            options.address = Some(
                value
                    .parse()
                    .map_err(|_| wrong(&format!("'{value}' is no IP address")))?,
            );
        }
        (_, Some(value)) => {
            options.node = Some(
                value
                    .parse()
                    .map_err(|_| wrong(&format!("'{value}' is no node name")))?,
            )
        }
    }
    Ok(())
}

/// Boolean words (reference 01 §1.1); no word is true.
fn boolean(word: Option<&str>) -> Result<bool, String> {
    match word.map(str::to_ascii_lowercase).as_deref() {
        None | Some("1" | "on" | "yes" | "true") => Ok(true),
        Some("0" | "off" | "no" | "false") => Ok(false),
        Some(_) => Err("400 unable to parse boolean option".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{RunAs, Service};

    const PROGRAM: Program = Program {
        name: "pveproxy",
        version: "1.2.3",
        about: "The web side.",
        pid_file: "/run/pveproxy/pveproxy.pid",
        run_as: RunAs::WebUser,
        prepare: |_| Ok(()),
        needs: crate::Needs::nothing,
        init: |_| -> Result<Service, _> { Err("unused".into()) },
        check: crate::check::nothing,
        counters: &[],
        hidden: &[],
    };

    fn parse(line: &str) -> Result<Command, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        command(&PROGRAM, &words)
    }

    fn run(verb: Verb, debug: bool) -> Result<Command, String> {
        let options = Options {
            debug,
            ..Options::default()
        };
        Ok(Command::Run(verb, options))
    }

    #[test]
    fn verbs_may_be_cut_short() {
        assert_eq!(parse("status"), run(Verb::Status, false));
        assert_eq!(parse("stat"), run(Verb::Status, false));
        assert_eq!(parse("r"), run(Verb::Restart, false));
        assert_eq!(parse("stop"), run(Verb::Stop, false));
        assert!(
            parse("sta")
                .unwrap_err()
                .starts_with("ERROR: unknown command 'pveproxy sta'\nUSAGE: ")
        );
    }

    #[test]
    fn options_take_one_dash_or_two_and_boolean_words() {
        for (line, debug) in [
            ("start --debug", true),
            ("start -debug", true),
            ("start --debug 1", true),
            ("start --debug=YES", true),
            ("start --debug=off", false),
            ("start -deb no", false),
            ("start", false),
        ] {
            assert_eq!(parse(line), run(Verb::Start, debug), "{line}");
        }
    }

    #[test]
    fn lab_options_choose_the_site() {
        let expected = Options {
            foreground: true,
            root: Some("/tmp/lab".into()),
            instance: Some("a1".to_owned().try_into().unwrap()),
            address: Some([127, 0, 0, 5].into()),
            node: Some("lab".parse().unwrap()),
            ..Options::default()
        };
        let line = "start --foreground --root /tmp/lab --instance=a1 --address 127.0.0.5 --node lab";
        assert_eq!(parse(line), Ok(Command::Run(Verb::Start, expected)));
    }

    #[test]
    fn mistakes_say_what_upstream_says() {
        for (line, expected) in [
            ("status x", "400 too many arguments\npveproxy status \n"),
            (
                "start --debug=x",
                "400 unable to parse boolean option\npveproxy start  [OPTIONS]\n",
            ),
            (
                "start --foo",
                "Unknown option: foo\n400 unable to parse option\npveproxy start  [OPTIONS]\n",
            ),
            (
                "stop --debug",
                "Unknown option: debug\n400 unable to parse option\npveproxy stop \n",
            ),
            (
                "start --root",
                "400 option 'root': requires a value\npveproxy start  [OPTIONS]\n",
            ),
            (
                "start --address x",
                "400 option 'address': 'x' is no IP address\npveproxy start  [OPTIONS]\n",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err(), expected, "{line}");
        }
        let usage = "\
USAGE: pveproxy <COMMAND> [ARGS] [OPTIONS]

       pveproxy help [<extra-args>] [OPTIONS]

       pveproxy restart 
       pveproxy start  [OPTIONS]
       pveproxy status 
       pveproxy stop 
";
        assert_eq!(parse("").unwrap_err(), format!("ERROR: no command specified\n{usage}"));
        assert_eq!(
            parse("foo").unwrap_err(),
            format!("ERROR: unknown command 'pveproxy foo'\n{usage}")
        );
        assert_eq!(parse("help"), Ok(Command::Help(usage.to_owned())));
    }

    #[test]
    fn help_and_version_are_there() {
        assert_eq!(parse("--version"), Ok(Command::Help("pveproxy 1.2.3\n".to_owned())));
        for line in ["--help", "start --help", "help --verbose"] {
            let Ok(Command::Help(text)) = parse(line) else {
                panic!("{line}")
            };
            assert!(text.contains("--root DIR"), "{text}");
        }
        assert_eq!(
            parse("help start"),
            Ok(Command::Help("USAGE: pveproxy start  [OPTIONS]\n".to_owned()))
        );
        assert!(parse("help foo").is_err());
    }
}
