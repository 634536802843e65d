//! `pvesh`: the API by its paths, as a shell has files by theirs (reference 03 §7).
//!
//! | module | holds |
//! |---|---|
//! | [`line`] | a command line: what is to be done with which path |
//! | [`show`] | `ls` and `usage` |
//!
//! Not here: methods of other nodes, which upstream calls by ssh.

mod line;
mod show;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use pve_contract::{Route, route};
use pve_rest::{Download, Reply};
use serde_json::Value;

use crate::api::arguments::{Arguments, Options};
use crate::api::run::{Failed, end, local, print};
use crate::api::{CallError, Local, follow};
use crate::output::Screen;
use line::{Command, Line, USAGE};

/// What it is for, in a line.
pub(crate) const ABOUT: &str = "The API by its paths: get, create, set, delete, ls, usage";

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
    match words.first().map(String::as_str) {
        Some("--help" | "-h" | "-?") => return print(USAGE).map_err(failed),
        Some("--version" | "-V") => {
            return print(&format!("{NAME} {}\n", env!("CARGO_PKG_VERSION"))).map_err(failed);
        }
        _ => {}
    }
    let line = Line::read(words).map_err(Failed)?;
    match line.command {
        Command::Help => print(USAGE).map_err(failed),
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
    let local = local(NAME, &arguments)?;
    print(&show::children(&local, &line.path, &arguments.style)?)
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
    let local = local(NAME, &arguments)?;
    let style = &mut arguments.style;
    style.quiet = style.quiet || line.without_output;
    let Reply { data, download, .. } = local.call_route(route, arguments.params)?;
    if let Some(download) = download {
        return send(download, style.quiet);
    }
    follow_task(&local, &data, style.quiet)?;
    print(&style.print(&data, method.returns))
}

/// Prints the log of the task that a call started. How it ends is in the log; that it was started is what was asked for.
fn follow_task(local: &Local, data: &Value, quiet: bool) -> Result<(), CallError> {
    if let Some(upid) = follow::task(local.context(), data) {
        follow::follow(local.context(), &upid, quiet)?;
    }
    Ok(())
}

/// Prints a file that is answered instead of data.
fn send(download: Download, quiet: bool) -> Result<ExitCode, CallError> {
    if !quiet {
        let mut stdout = io::stdout().lock();
        io::copy(&mut download.content.into_reader(), &mut stdout)?;
        stdout.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}
