//! The command line of a daemon (reference 01 §1.1): `start`, `stop`, `restart`, `status`, `help`, and `check`.
//!
//! Kept as upstream has it – unique prefixes, one or two dashes, texts and exit codes – because units, scripts and
//! administrators' fingers rely on it. The options that choose a lab are this project's.

mod completion;
mod parse;
mod usage;
mod verbs;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use pve_schema::ids::NodeName;
use pve_schema::site::Ids;
use pve_schema::{Site, errno_text};

use crate::lab;
use crate::privileges::{self, PrivilegeError};
use crate::process;
use crate::service::Program;

pub use parse::Options;

/// What a command line that makes no sense, and a start that failed, exit with.
const FAILURE: u8 = 255;

/// The name of the user on the web side.
const WEB_USER: &str = "www-data";

/// The verbs, sorted as the usage text has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Check,
    Help,
    Restart,
    Start,
    Status,
    Stop,
}

/// Runs a daemon's command line: the whole of its `main`.
pub fn main(program: &'static Program) -> ExitCode {
    process::image();
    process::reserve_title();
    process::tidy_environment();
    let arguments: Vec<OsString> = process::image().arguments.iter().skip(1).cloned().collect();
    if let Some((verb, rest)) = arguments.split_first() {
        let hidden = program.hidden.iter().find(|(name, _)| verb == name);
        if let Some((_, run)) = hidden {
            return run(rest);
        }
    }
    if let [verb, shell] = arguments.as_slice()
        && verb == "completion"
        && let Some(script) = shell.to_str().and_then(|shell| completion::script(program.name, shell))
    {
        print!("{script}");
        return ExitCode::SUCCESS;
    }
    match parse::command(program, &arguments) {
        Ok(parse::Command::Help(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(parse::Command::Run(verb, options)) => verbs::run(program, verb, &options),
        Err(text) => {
            eprint!("{text}");
            ExitCode::from(FAILURE)
        }
    }
}

/// The options do not make a site.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// There is no such directory.
    #[error("unable to use root directory '{}' - {}", .root.display(), errno_text(.error))]
    Root {
        /// As given.
        root: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The directory's own description is wrong.
    #[error(transparent)]
    Lab(#[from] lab::LabError),
    /// The machine's name is no node name.
    #[error("the host name '{0}' is no node name - use --node")]
    HostName(String),
    /// There is no user for the web side.
    #[error(transparent)]
    WebUser(#[from] PrivilegeError),
}

/// The site that options choose. What they leave open is as the lab's directory says, else as the machine is.
///
/// # Errors
/// When the options, the lab's directory or the machine do not make a site.
pub fn site(options: &Options) -> Result<Site, SiteError> {
    let given = options.root.clone().unwrap_or_else(|| PathBuf::from("/"));
    let root = given
        .canonicalize()
        .map_err(|error| SiteError::Root { root: given, error })?;
    let is_system = root == std::path::Path::new("/");
    let lab = if is_system {
        lab::Lab::default()
    } else {
        lab::read(&root)?
    };
    let instance = options.instance.clone().or(lab.instance);
    let instance = if is_system {
        instance
    } else {
        instance.or_else(|| lab::derived_instance(&root))
    };
    let node = match options.node.clone().or(lab.node) {
        Some(node) => node,
        None => host_node()?,
    };
    Ok(Site {
        instance,
        address: options.address.or(lab.address).unwrap_or_else(crate::loopback::own),
        node,
        root_user: Ids { uid: 0, gid: 0 },
        web_user: privileges::lookup(WEB_USER)?,
        root,
    })
}

/// The machine's name up to the first dot.
fn host_node() -> Result<NodeName, SiteError> {
    let host = nix::unistd::gethostname()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let short = host.split('.').next().unwrap_or_default();
    short.parse().map_err(|_| SiteError::HostName(host.clone()))
}
