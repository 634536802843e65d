//! What a shell offers after the words so far: commands, paths – those of the contract, and what there is –, and options.

use pve_contract::{paths, route};

use super::NAME;
use super::line::{COMMANDS, Command, Leading};
use super::node::Node;
use super::show::names;
use crate::api::arguments::{Arguments, Options};
use crate::api::complete::{begin_so, in_options};
use crate::api::connect::Connection;
use crate::output::Screen;

/// What goes on from these words, a line each.
pub(super) fn offer(words: &[String]) -> String {
    let Some((typed, before)) = words.split_last() else {
        return String::new();
    };
    begin_so(candidates(before, typed).unwrap_or_default(), typed)
}

fn candidates(before: &[String], typed: &str) -> Option<Vec<String>> {
    let mut leading = Leading::default();
    // An option that waits for its value is none of these words yet: files are the shell's business.
    let rest = leading.take(before).ok()?;
    let mut arguments = Arguments::new(Screen::default());
    arguments.root = leading.root.last().map(Into::into);
    let Some((command, rest)) = rest.split_first() else {
        return Some(match typed.starts_with('-') {
            true => leading_options(),
            false => COMMANDS.iter().map(|(name, _)| (*name).to_owned()).collect(),
        });
    };
    let command = Command::find(command)?;
    let path = rest.iter().find(|word| word.starts_with('/'));
    let Some(path) = path.filter(|_| !typed.starts_with('/')) else {
        return match typed.starts_with('-') {
            true => Some(in_options(NAME, no_method(), &[], rest, typed, arguments)),
            false => Some(below(&leading.connection, &arguments, typed)),
        };
    };
    let method = command
        .verb()
        .and_then(|verb| route(verb, path).ok())
        .map(|route| route.method);
    let options = Options { method, verb: None };
    let rest: Vec<String> = rest.iter().filter(|word| *word != path).cloned().collect();
    Some(in_options(NAME, options, &[], &rest, typed, arguments))
}

fn no_method() -> Options {
    Options {
        method: None,
        verb: None,
    }
}

fn leading_options() -> Vec<String> {
    let connection = Connection::OPTIONS.iter().map(|(name, _)| *name);
    let names = connection.chain(["help", "nooutput", "noproxy", "root", "version"]);
    names.map(|name| format!("--{name}")).collect()
}

/// The paths that begin as the typed one does, one name further; what names there are is asked where the contract does not
/// tell.
fn below(connection: &Connection, arguments: &Arguments, typed: &str) -> Vec<String> {
    let parent = typed.rsplit_once('/').map_or("", |(parent, _)| parent);
    let depth = parent.split('/').filter(|part| !part.is_empty()).count();
    let mut found = Vec::new();
    let mut is_open = false;
    for path in paths() {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let is_there = parts.len() > depth
            && parts
                .iter()
                .zip(parent.split('/').filter(|part| !part.is_empty()))
                .all(|(known, given)| known.starts_with('{') || *known == given);
        match parts.get(depth).filter(|_| is_there) {
            Some(next) if next.starts_with('{') => is_open = true,
            Some(next) => found.push(format!("{parent}/{next}")),
            None => {}
        }
    }
    if is_open {
        let node = Node::named(connection, arguments).ok();
        let parent_path = if parent.is_empty() { "/" } else { parent };
        let there = node.and_then(|node| names(&node, parent_path).ok());
        found.extend(there.into_iter().flatten().map(|name| format!("{parent}/{name}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(text: &str) -> String {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        offer(&words).replace('\n', " ")
    }

    #[test]
    fn commands_paths_and_options_are_offered() {
        assert_eq!(offered("u"), "usage ");
        assert_eq!(offered("--r"), "--remote --root ");
        assert_eq!(offered("get /ac"), "/access ");
        assert_eq!(offered("get /access/u"), "/access/users ");
        assert!(offered("get /nodes/x/").contains("/nodes/x/qemu "));
        assert_eq!(
            offered("create /nodes/x/qemu/100/status/st"),
            "/nodes/x/qemu/100/status/start /nodes/x/qemu/100/status/stop "
        );
        assert_eq!(offered("create /nodes/x/qemu/100/status/start --mac"), "--machine ");
        assert_eq!(offered("get --out"), "--output-format ");
        assert_eq!(offered("get /nodes/x/qemu --output-format j"), "json json-pretty ");
        assert_eq!(offered("nonsense /"), "");
    }
}
