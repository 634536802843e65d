//! `ls` and `usage`.

use pve_contract::{Method, Verb, route};
use serde_json::{Map, Value, json};

use super::line::{COMMANDS, Command, Line};
use super::node::{Answer, Node};
use crate::api::run::Failed;
use crate::api::{ANY, CallError, usage};
use crate::output::{Format, Style, TableColumn};

/// What is below a path: what can be done with it, and its name.
pub(super) fn children(node: &Node, path: &str, style: &Style) -> Result<String, CallError> {
    let names = names(node, path)?;
    let path = path.trim_end_matches('/');
    let rows: Vec<[String; 2]> = names
        .into_iter()
        .map(|name| [capabilities(&format!("{path}/{name}")), name])
        .collect();
    if style.quiet || rows.is_empty() {
        return Ok(String::new());
    }
    if style.format == Format::Text {
        let columns = ["capabilities", "name"].map(TableColumn::plain);
        return Ok(style.table(columns.to_vec(), rows.into_iter().map(|row| row.to_vec()).collect()));
    }
    let rows = rows
        .iter()
        .map(|[capabilities, name]| json!({ "capabilities": capabilities, "name": name }));
    Ok(style.print(&rows.collect(), &ANY))
}

/// The names of what is below a path, sorted.
pub(super) fn names(node: &Node, path: &str) -> Result<Vec<String>, CallError> {
    let index = route(Verb::Get, path).ok();
    let key = index.as_ref().and_then(|route| route.method.returns.child_key());
    let (Some(index), Some(key)) = (index, key) else {
        return Err(CallError::NoIndex(path.to_owned()));
    };
    let data = match node.call(index, path, Map::new())? {
        Answer::Data(data) => data,
        Answer::File(_) => Value::Null,
    };
    let rows = data.as_array().into_iter().flatten();
    let mut names: Vec<String> = rows.filter_map(|row| name(row.get(key)?)).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `Dr-c-`: whether there is something below it, and whether it can be read, written, made in, and deleted.
fn capabilities(path: &str) -> String {
    let method = |verb| route(verb, path).ok().map(|route| route.method);
    let has_children = method(Verb::Get).is_some_and(|method| method.returns.child_key().is_some());
    let mut text = String::from(if has_children { "D" } else { "-" });
    for (verb, letter) in [
        (Verb::Get, 'r'),
        (Verb::Put, 'w'),
        (Verb::Post, 'c'),
        (Verb::Delete, 'd'),
    ] {
        text.push(if method(verb).is_some() { letter } else { '-' });
    }
    text
}

/// What the methods of a path take.
pub(super) fn usage(line: &Line) -> Result<String, Failed> {
    let mut verbose = false;
    let mut returns = false;
    let mut wanted = None;
    let mut words = line.words.iter();
    let wrong = |text: String| Failed(format!("{text}\npvesh usage <api_path> [OPTIONS]\n"));
    while let Some(word) = words.next() {
        let name = word.trim_start_matches('-');
        match name.split_once('=').unwrap_or((name, "")) {
            ("verbose" | "v", "") => verbose = true,
            ("returns", "") => returns = true,
            ("root", "") => drop(words.next()),
            ("root", _) => {}
            ("command", "") => wanted = words.next().map(String::as_str),
            ("command", value) => wanted = Some(value),
            _ => return Err(wrong(CallError::UnknownOption(name.to_owned()).to_string())),
        }
    }
    let commands = COMMANDS
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
    let mut text = String::new();
    for (_, command) in commands {
        let Some(found) = command.verb().and_then(|verb| route(verb, &line.path).ok()) else {
            continue;
        };
        if verbose {
            text.push_str(&help(*command, &line.path, found.method));
        } else {
            text.push_str(&format!("USAGE: {}\n", head(*command, &line.path)));
        }
        if returns {
            text.push_str(&format!("\n  Returns: {}\n", found.method.returns.kind.as_str()));
        }
    }
    if text.is_empty() {
        return Err(Failed(format!("No handler defined for '{}'\n", line.path)));
    }
    Ok(text)
}

/// What one method takes.
pub(super) fn help(command: Command, path: &str, method: &'static Method) -> String {
    usage::method_help(&head(command, path), method)
}

fn head(command: Command, path: &str) -> String {
    format!("pvesh {} {path} [OPTIONS]", command.name())
}
