//! Turns `contract/pve-9.2.json` and `contract/formats.json` into static tables (`tables.rs` in the output folder), and
//! into the OpenAPI description of the same (`openapi.json.gz`).
//!
//! The tables are plain statics: nothing runs at start-up, and equal lists, patterns and schemas are one static.

use std::io::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;

#[path = "build/contract.rs"]
mod contract;
#[path = "build/emit.rs"]
mod emit;
#[path = "build/methods.rs"]
mod methods;
#[path = "build/openapi.rs"]
mod openapi;
#[path = "build/schemas.rs"]
mod schemas;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../contract");
    let read = |name: &str| -> Result<serde_json::Value> {
        let path = folder.join(name);
        println!("cargo:rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    };
    let contract = read("pve-9.2.json")?;
    let formats = read("formats.json")?;
    for source in ["build.rs", "build"] {
        println!("cargo:rerun-if-changed={source}");
    }
    let tables = contract::tables(&contract, &formats)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("tables.rs"), tables)?;
    let mut description = GzEncoder::new(Vec::new(), Compression::best());
    description.write_all(&serde_json::to_vec(&openapi::describe(&contract)?)?)?;
    fs::write(out.join("openapi.json.gz"), description.finish()?)?;
    Ok(())
}
