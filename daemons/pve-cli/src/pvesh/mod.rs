//! `pvesh`: the API by its paths, as a shell has files by theirs (reference 03 §7).
//!
//! | module | holds |
//! |---|---|
//! | [`line`] | a command line: what is to be done with which path |
//! | [`node`] | this node, or another one that is asked through its `pveproxy` |
//! | [`show`] | `ls` and `usage` |
//! | [`complete`] | what a shell offers after the words so far |
//!
//! Not here: methods of other nodes, which upstream calls by ssh; `--remote` reaches them.

mod complete;
mod line;
mod node;
mod show;

use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::process::ExitCode;

use pve_contract::{Route, route};

use crate::api::CallError;
use crate::api::arguments::{Arguments, Options};
use crate::api::run::{Failed, end, print};
use crate::output::Screen;
use line::{Command, Line, USAGE};
use node::{Answer, Node};

/// What it is for, in a line.
pub(crate) const ABOUT: &str = "The API by its paths, here and on other nodes";

/// What the tool is called.
const NAME: &str = "pvesh";

/// The exit code when there is no such method.
const NO_HANDLER: u8 = 1;

/// Runs the tool.
pub(crate) fn main(words: Vec<OsString>) -> ExitCode {
    let words: Result<Vec<String>, _> = words.into_iter().map(OsString::into_string).collect();
    end(match words {
        Ok(words) => dispatch(&words),
        Err(_) => Err(Failed(format!("{}\n", CallError::Encoding))),
    })
}

fn dispatch(words: &[String]) -> Result<ExitCode, Failed> {
    let failed = |error: CallError| Failed(format!("{error}\n"));
    if let Some((crate::api::complete::VERB, rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return print(&complete::offer(rest)).map_err(failed);
    }
    let line = Line::read(words).map_err(Failed)?;
    match line.command {
        Command::Help => print(USAGE).map_err(failed),
        Command::Version => print(&format!("{NAME} {}\n", env!("CARGO_PKG_VERSION"))).map_err(failed),
        Command::Usage => show::usage(&line).and_then(|text| print(&text).map_err(failed)),
        Command::Ls => list(&line).map_err(failed),
        Command::Call(_) => call(&line),
    }
}

fn list(line: &Line) -> Result<ExitCode, CallError> {
    let mut arguments = Arguments::new(Screen::of_stdout());
    arguments.style.border = false;
    arguments.style.header = false;
    let options = Options {
        method: None,
        verb: None,
    };
    options.read(&line.words, &mut arguments)?;
    if !arguments.words.is_empty() {
        return Err(CallError::TooMany);
    }
    let node = Node::of(line, &arguments)?;
    print(&show::children(&node, &line.path, &arguments.style)?)
}

fn call(line: &Line) -> Result<ExitCode, Failed> {
    let name = line.command.name();
    let found = line.command.verb().and_then(|verb| route(verb, &line.path).ok());
    let Some(route) = found else {
        eprintln!("No '{name}' handler defined for '{}'", line.path);
        return Ok(ExitCode::from(NO_HANDLER));
    };
    run(line, route).map_err(|error| {
        let usage = if error.is_about_usage() {
            format!("{NAME} {name} {} [OPTIONS]\n", line.path)
        } else {
            String::new()
        };
        Failed(format!("{error}\n{usage}"))
    })
}

fn run(line: &Line, route: Route) -> Result<ExitCode, CallError> {
    let method = route.method;
    let options = Options {
        method: Some(method),
        verb: None,
    };
    let mut arguments = Arguments::new(Screen::of_stdout());
    options.read(&line.words, &mut arguments)?;
    if arguments.help {
        return print(&show::help(line.command, &line.path, method));
    }
    if !arguments.words.is_empty() {
        return Err(CallError::TooMany);
    }
    let node = Node::of(line, &arguments)?;
    let style = &mut arguments.style;
    style.quiet = style.quiet || line.without_output;
    let data = match node.call(route, &line.path, arguments.params)? {
        Answer::Data(data) => data,
        Answer::File(_) if style.quiet => return Ok(ExitCode::SUCCESS),
        Answer::File(mut content) => return send(&mut content),
    };
    node.follow(&data, style.quiet)?;
    print(&style.print(&data, method.returns))
}

/// Prints a file that is answered instead of data.
fn send(content: &mut dyn Read) -> Result<ExitCode, CallError> {
    let mut stdout = io::stdout().lock();
    io::copy(content, &mut stdout)?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}
