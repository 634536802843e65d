//! `pve-lab`: a whole node of the suite in a directory, beside others on the same machine, without systemd.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`root`] | the directory: where it may be, its lock, its address and mark |
//! | [`tree`] | what is below it before the first daemon starts |
//! | [`supervisor`] | the daemons as children: readiness, restarts, end |
//! | [`output`] | their lines on one terminal |
//! | [`accounts`] | the first user, passwords, tickets |
//! | [`guests`] | ending guests with the lab |
//! | [`http`] | the few calls that the lab makes itself |
//!
//! What the daemons do is in the daemons: this program only starts them.

mod accounts;
mod cli;
mod commands;
mod error;
mod guests;
mod http;
mod output;
mod root;
mod supervisor;
mod tree;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pve-lab: {error}");
            ExitCode::FAILURE
        }
    }
}
