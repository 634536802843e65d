//! The project's own checks: `cargo xtask COMMAND`.
//!
//! | command | does |
//! |---|---|
//! | `coverage` | writes `docs/coverage.md`: which methods of the contract have a handler; `--check` only compares |
//! | `rows` | refuses crates that import upward or sideways |
//! | `licences` | refuses dependencies whose licence is not on the list in `deny.toml` |

mod coverage;
mod licences;
mod metadata;
mod rows;

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(message) => {
            println!("{message}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<String> {
    match arguments {
        ["coverage"] => coverage::write(),
        ["coverage", "--check"] => coverage::check(),
        ["rows"] => rows::check(&metadata::load(metadata::Scope::Workspace)?),
        ["licences"] => licences::check(&metadata::load(metadata::Scope::Everything)?),
        _ => bail!("usage: cargo xtask coverage [--check] | rows | licences"),
    }
}
