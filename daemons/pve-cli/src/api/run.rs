//! One command line, from its words to its exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use log::LevelFilter;
use pve_contract::MethodId;
use pve_daemon::cli::{self, Options as SiteOptions};
use pve_daemon::logging::{self, Target};
use pve_rest::ApiError;
use pve_schema::check;
use pve_task::status;
use serde_json::Value;

use super::arguments::{Arguments, Options, take_positional};
use super::verbs::{Action, Found, LOCALHOST, Program, Secret, Shown, Verb};
use super::{CallError, Local, complete, follow, local, password, signals, usage};
use crate::output::{Screen, for_terminal};
use crate::{FAILURE, set_umask};

/// Whether a method has a handler.
pub(crate) fn is_built(method: MethodId) -> bool {
    local::is_built(method)
}

/// What ends a program: its exit code, and before that what is said.
pub(crate) struct Failed(pub(crate) String);

/// Runs a tool.
pub(crate) fn main(program: &'static Program, arguments: Vec<OsString>) -> ExitCode {
    let words: Result<Vec<String>, _> = arguments.into_iter().map(OsString::into_string).collect();
    let result = match words {
        Ok(words) => dispatch(program, &words),
        Err(_) => Err(Failed(format!("{}\n", CallError::Encoding))),
    };
    end(result)
}

/// Says what failed.
pub(crate) fn end(result: Result<ExitCode, Failed>) -> ExitCode {
    result.unwrap_or_else(|Failed(text)| {
        if io::stderr().is_terminal() {
            eprint!("{}", for_terminal(&text));
        } else {
            eprint!("{text}");
        }
        ExitCode::from(FAILURE)
    })
}

/// Prints what was asked for. Whoever has read enough of it (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<ExitCode, CallError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn dispatch(program: &'static Program, words: &[String]) -> Result<ExitCode, Failed> {
    if let Some((first, rest)) = words.split_first() {
        match first.as_str() {
            complete::VERB => return said(print(&complete::offer(program, rest))),
            "--version" | "-V" => return said(print(&version(program))),
            _ => {}
        }
    }
    let mut arguments = Arguments::new(Screen::of_stdout());
    if let Some(verb) = program.only {
        return match words {
            [word] if word == "help" => said(print(&usage::help(program, &[], verb))),
            _ => run(program, verb, &[], words, arguments),
        };
    }
    let begin = leading_options(words, &mut arguments).map_err(|error| Failed(format!("{error}\n")))?;
    if arguments.help {
        return said(print(&usage::whole(program)));
    }
    let words = words.get(begin..).unwrap_or_default();
    if let Some(("help", rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return help(program, rest);
    }
    let end = words
        .iter()
        .position(|word| word.starts_with('-'))
        .unwrap_or(words.len());
    let named = words.get(..end).unwrap_or_default();
    let found = program.find(named);
    let (found, used) = found.map_err(|unknown| Failed(usage::unknown_verb(program, &unknown.words)))?;
    let rest = words.get(used..).unwrap_or_default();
    match found {
        Found::Verb(verb, path) => run(program, verb, &path, rest, arguments),
        Found::Group(entries, path) => {
            let block = usage::block(program, entries, &path);
            match rest.first().map(String::as_str) {
                Some("--help" | "-help" | "-h" | "-?") => said(print(&block)),
                _ => Err(Failed(format!("ERROR: no command specified\n{block}"))),
            }
        }
    }
}

fn version(program: &Program) -> String {
    format!("{} {}\n", program.name, env!("CARGO_PKG_VERSION"))
}

fn said(result: Result<ExitCode, CallError>) -> Result<ExitCode, Failed> {
    result.map_err(|error| Failed(format!("{error}\n")))
}

/// Options before the verb; how many words they are.
pub(crate) fn leading_options(words: &[String], into: &mut Arguments) -> Result<usize, CallError> {
    let options = Options {
        method: None,
        verb: None,
    };
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-') && *word != "--") {
        // What is behind an option that can do without a value is the verb.
        let end = if options.takes_next(word)? { at + 2 } else { at + 1 };
        let end = end.min(words.len());
        options.read(words.get(at..end).unwrap_or_default(), into)?;
        at = end;
    }
    Ok(at)
}

fn help(program: &'static Program, words: &[String]) -> Result<ExitCode, Failed> {
    let is_option = |word: &&String| word.starts_with('-');
    let verbose = words.iter().filter(is_option).any(|word| {
        let name = word.trim_start_matches('-');
        !name.is_empty() && "verbose".starts_with(name)
    });
    let words: Vec<String> = words.iter().filter(|word| !is_option(word)).cloned().collect();
    let text = usage::help_of(program, &words, verbose).map_err(Failed)?;
    said(print(&text))
}

fn run(
    program: &'static Program,
    verb: &'static Verb,
    path: &[&'static str],
    words: &[String],
    mut arguments: Arguments,
) -> Result<ExitCode, Failed> {
    let options = Options {
        method: verb.method(),
        verb: Some(verb),
    };
    let result = options.read(words, &mut arguments).and_then(|()| {
        if arguments.help {
            return print(&usage::help(program, path, verb));
        }
        take_positional(verb.positional, &mut arguments)?;
        call(program, verb, arguments)
    });
    result.map_err(|error| {
        let usage = if error.is_about_usage() {
            format!("{}\n", usage::line(program, path, verb))
        } else {
            String::new()
        };
        Failed(format!("{error}\n{usage}"))
    })
}

/// Sets up the calls: as root, on the site that was asked for, with a log.
pub(crate) fn local(name: &'static str, arguments: &Arguments) -> Result<Local, CallError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(CallError::NotRoot);
    }
    local_for_everybody(name, arguments)
}

/// The same as whoever calls.
fn local_for_everybody(name: &'static str, arguments: &Arguments) -> Result<Local, CallError> {
    set_umask();
    signals::install()?;
    logging::init(name, Target::Syslog, LevelFilter::Info);
    pve_cfs::set_service_name(name);
    Local::new(cli::site(&SiteOptions {
        root: arguments.root.clone(),
        ..SiteOptions::default()
    })?)
}

fn call(program: &'static Program, verb: &'static Verb, mut arguments: Arguments) -> Result<ExitCode, CallError> {
    let local = match verb.everybody {
        true => local_for_everybody(program.name, &arguments)?,
        false => local(program.name, &arguments)?,
    };
    ask_secrets(verb, &mut arguments)?;
    let style = &arguments.style;
    let mut params = arguments.params;
    for (name, value) in verb.fixed {
        // Handlers that write it down are told the name by which others know this node.
        let value = match *value {
            LOCALHOST => local.context().site.node.as_str(),
            value => value,
        };
        params.insert((*name).to_owned(), Value::from(value));
    }
    for (name, value) in verb.defaults {
        params.entry(*name).or_insert_with(|| Value::from(*value));
    }
    for name in verb.files {
        if let Some(Value::String(path)) = params.get_mut(*name) {
            *path = std::fs::read_to_string(&*path).map_err(|error| CallError::File {
                path: path.clone(),
                error,
            })?;
        }
    }
    let shown = match (verb.action, verb.method()) {
        (Action::Run(work), method) => {
            if method.is_none() {
                check::parameters(verb.parameters(), false, params.clone()).map_err(ApiError::from)?;
            }
            work(&local, params, style)?
        }
        (_, None) => Shown::Text(String::new()),
        (action, Some(method)) => {
            let reply = local.call(method, params)?;
            if let Some(upid) = follow::task(local.context(), &reply.data) {
                let ended = follow::follow(local.context(), &upid, style.quiet)?;
                let code = if status::is_error(&ended) { FAILURE } else { 0 };
                return Ok(ExitCode::from(code));
            }
            match action {
                Action::CallAndShow(show) => show(reply.data, style),
                _ => Shown::Data(reply.data, method.returns),
            }
        }
    };
    match shown {
        Shown::Data(data, schema) => print(&style.print(&data, schema)),
        Shown::Text(_) if style.quiet => Ok(ExitCode::SUCCESS),
        Shown::Text(text) => print(&text),
    }
}

/// Asks for the secrets that have no value yet and are wanted, in the order of their options.
fn ask_secrets(verb: &'static Verb, arguments: &mut Arguments) -> Result<(), CallError> {
    let mut wanted: Vec<&Secret> = Vec::new();
    let asked_for = arguments.asked_for.iter().filter_map(|name| verb.secret(name));
    let missing = verb.secrets.iter().filter(|secret| {
        let is_given = arguments.params.contains_key(secret.parameter);
        secret.always && !is_given
    });
    for secret in asked_for.chain(missing) {
        if !wanted.iter().any(|known| known.parameter == secret.parameter) {
            wanted.push(secret);
        }
    }
    let values = password::ask(&wanted)?;
    for (secret, value) in wanted.iter().zip(values) {
        arguments
            .params
            .insert(secret.parameter.to_owned(), Value::String(value));
    }
    Ok(())
}
