//! The whole of `tables.rs`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::Result;
use crate::emit::{Pool, identifier, literal, members};
use crate::methods::{self, Node, VERBS};
use crate::schemas::Formats;

/// The text of `tables.rs`.
pub(crate) fn tables(contract: &Value, formats: &Value) -> Result<String> {
    let mut pool = Pool::default();
    let mut out = String::new();
    let formats = Formats::emit(formats, &mut pool, &mut out)?;

    let mut ids = String::new();
    let mut known = BTreeSet::new();
    let mut table = Vec::new();
    let mut paths = Vec::new();
    let mut tree = Node::default();
    for (path, verbs) in members(&contract["paths"]) {
        paths.push(literal(path));
        for (verb, _) in VERBS {
            let Some(method) = verbs.get(verb) else { continue };
            let index = table.len();
            let constant = identifier(&format!("{verb}{path}"));
            if !known.insert(constant.clone()) {
                return Err(format!("two methods are called {constant}").into());
            }
            writeln!(
                ids,
                "    /// `{verb} {path}`\n    pub const {constant}: MethodId = MethodId({index});"
            )?;
            tree.insert(path, verb, index, method["tail_param"].is_string())?;
            table.push(methods::method(index, path, verb, method, &formats, &mut pool)?);
        }
    }
    // The index of the whole tree (reference 03 §1.1) is no path of the contract: its place is after all others.
    tree.insert("/", "GET", table.len(), false)?;
    writeln!(
        ids,
        "    /// `GET /`\n    pub const GET: MethodId = MethodId({});",
        table.len()
    )?;
    let root = tree.emit(&mut pool)?;
    writeln!(
        out,
        "/// The methods by verb and path.\npub mod id {{\n    use super::MethodId;\n{ids}}}"
    )?;
    writeln!(
        out,
        "static METHODS: [Method; {}] = [\n{}\n];",
        table.len(),
        table.join(",\n")
    )?;
    writeln!(out, "static PATHS: [&str; {}] = [{}];", paths.len(), paths.join(", "))?;
    writeln!(out, "static ROOT: &Node = &{root};")?;
    writeln!(out, "/// The release whose contract this is.")?;
    writeln!(
        out,
        "pub const RELEASE: &str = {};",
        literal(contract["release"].as_str().unwrap_or_default())
    )?;
    out.push_str(&pool.code);
    Ok(out)
}
