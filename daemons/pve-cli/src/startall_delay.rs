//! `pve-cli startall-delay`: what `pve-guests.service` runs before it starts guests at boot. It waits for as long as the
//! node's `startall-onboot-delay` says (reference 09 §20), for storages and networks that are up later than the node.
//!
//! What is wrong with that setting goes to standard error, which the unit has in the journal: guests are started all the same.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use log::LevelFilter;
use pve_cfs::Cfs;
use pve_daemon::cli::{self, Options};
use pve_daemon::logging::{self, Target};
use pve_node::config::NodeConfig;
use pve_schema::Context;

use crate::{FAILURE, parse};

/// How it is called.
pub(crate) const NAME: &str = "startall-delay";

/// Wait for as long as this node is to wait at its boot before it starts guests
#[derive(Debug, Parser)]
#[command(name = "pve-cli startall-delay", bin_name = "pve-cli startall-delay")]
struct Cli {
    /// The directory of a lab; / is the machine's own instance
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Waits.
pub(crate) fn main(words: &[OsString]) -> ExitCode {
    let named = std::iter::once(OsString::from(NAME)).chain(words.iter().cloned());
    let cli: Cli = match parse(named) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    logging::init(NAME, Target::Stderr, LevelFilter::Info);
    match wait(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(FAILURE)
        }
    }
}

fn wait(cli: Cli) -> Result<(), String> {
    let options = Options {
        root: cli.root,
        ..Options::default()
    };
    let site = cli::site(&options).map_err(|error| error.to_string())?;
    let context = Context::new(site);
    let config = NodeConfig::read(&Cfs::new(&context), &context.site.node).map_err(|error| error.to_string())?;
    let delay = config.startall_delay();
    if !delay.is_zero() {
        println!("waiting {} seconds before guests are started", delay.as_secs());
        std::thread::sleep(delay);
    }
    Ok(())
}
