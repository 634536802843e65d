//! Usage and help texts. What an option takes, and what holds without it, is the contract's.

use std::fmt::Write as _;

use pve_contract::Method;
use pve_schema::schema::{Kind, Parameter, Schema};

use super::arguments::Options;
use super::verbs::{Entry, Found, Positional, Program, Verb};

/// One verb's line: `pveum user add <userid> [OPTIONS]`.
pub(crate) fn line(program: &Program, words: &[&str], verb: &'static Verb) -> String {
    let options = Options {
        method: verb.method(),
        verb: Some(verb),
    };
    let mut text = [&[program.name], words].concat().join(" ");
    for word in verb.positional {
        text.push_str(&match word {
            Positional::Required(name) => format!(" <{name}>"),
            Positional::Optional(name) => format!(" [<{name}>]"),
            Positional::Several(name) => format!(" [<{name}> ...]"),
        });
    }
    for parameter in options.parameters().filter(|parameter| is_required(verb, parameter)) {
        let _ = write!(text, " --{} {}", parameter.name, place_holder(parameter.schema));
    }
    text.push_str(" [OPTIONS]");
    text
}

fn is_required(verb: &Verb, parameter: &Parameter) -> bool {
    let is_asked = verb.secret(parameter.name).is_some_and(|secret| secret.always);
    let is_set = verb.defaults.iter().any(|(name, _)| *name == parameter.name);
    !parameter.schema.optional && !is_asked && !is_set && !verb.optional.contains(&parameter.name)
}

/// A verb's whole help.
pub(crate) fn help(program: &Program, words: &[&'static str], verb: &'static Verb) -> String {
    let mut text = format!("USAGE: {}\n\n  {}\n\n", line(program, words, verb), verb.about);
    let options = Options {
        method: verb.method(),
        verb: Some(verb),
    };
    for word in verb.positional {
        let schema = verb.parameter(word.name()).map(|parameter| parameter.schema);
        text.push_str(&option(&format!("<{}>", word.name()), schema, ""));
    }
    for parameter in options.parameters() {
        let remark = match verb.secret(parameter.name) {
            Some(secret) if secret.always => "; asked for, unless it is here",
            Some(_) => "; asked for, where it has no value",
            None if is_required(verb, parameter) => "; required",
            None => "",
        };
        text.push_str(&option(&option_name(parameter), Some(parameter.schema), remark));
    }
    text
}

/// The help of a method that is called by its path.
pub(crate) fn method_help(usage: &str, method: &'static Method) -> String {
    let mut text = format!("USAGE: {usage}\n\n");
    let options = Options {
        method: Some(method),
        verb: None,
    };
    for parameter in options.parameters() {
        let remark = if parameter.schema.optional { "" } else { "; required" };
        text.push_str(&option(&option_name(parameter), Some(parameter.schema), remark));
    }
    text
}

/// A parameter's name as an option.
pub(crate) fn option_name(parameter: &Parameter) -> String {
    match parameter.index_max {
        Some(_) => format!("--{}[n]", parameter.name),
        None => format!("--{}", parameter.name),
    }
}

fn option(name: &str, schema: Option<&'static Schema>, remark: &str) -> String {
    let holder = schema.map_or_else(|| "<string>".to_owned(), place_holder);
    let default = schema.and_then(|schema| schema.default);
    let default = default.map(|value| format!(" (default = {value})")).unwrap_or_default();
    format!("  {name} {holder}{default}{remark}\n")
}

/// What stands for a value in a usage text.
fn place_holder(schema: &Schema) -> String {
    let hints = schema.hints;
    if let Some(text) = hints.and_then(|hints| hints.type_text.or(hints.description)) {
        return if text.starts_with(['<', '(', '[']) {
            text.to_owned()
        } else {
            format!("<{text}>")
        };
    }
    if !schema.words.is_empty() {
        return format!("<{}>", schema.words.join(" | "));
    }
    let range = match (schema.minimum, schema.maximum) {
        (None, None) => String::new(),
        (least, most) => {
            let bound = |bound: Option<f64>| bound.map_or("N".to_owned(), |bound| bound.to_string());
            format!(" ({} - {})", bound(least).replace('N', "-N"), bound(most))
        }
    };
    match schema.kind {
        Kind::Any | Kind::Null => "<any>".to_owned(),
        kind => format!("<{}>{range}", kind.as_str()),
    }
}

/// A line for each verb below these words.
pub(crate) fn block(program: &Program, entries: &'static [Entry], words: &[&'static str]) -> String {
    let mut text = format!(
        "USAGE: {} <COMMAND> [ARGS] [OPTIONS]\n",
        [&[program.name], words].concat().join(" ")
    );
    let mut is_apart = true;
    for entry in entries.iter().filter(|entry| entry.is_built()) {
        // Groups stand apart.
        let is_group = matches!(entry, Entry::Group(..));
        if is_apart || is_group {
            text.push('\n');
        }
        is_apart = is_group;
        lines(program, entry, words, &mut text);
    }
    if words.is_empty() {
        let _ = write!(text, "\n       {} help [<extra-args>] [OPTIONS]\n", program.name);
    }
    text
}

fn lines(program: &Program, entry: &'static Entry, words: &[&'static str], text: &mut String) {
    let words = [words, &[entry.name()]].concat();
    match entry {
        Entry::Verb(verb) => {
            let _ = writeln!(text, "       {}", line(program, &words, verb));
        }
        Entry::Group(_, entries) => {
            for entry in entries.iter().filter(|entry| entry.is_built()) {
                lines(program, entry, &words, text);
            }
        }
        Entry::Alias(..) => {}
    }
}

/// Everything, for `--help`.
pub(crate) fn whole(program: &Program) -> String {
    let mut text = format!(
        "{} {}\n{}\n\n{}",
        program.name,
        env!("CARGO_PKG_VERSION"),
        program.about,
        block(program, program.entries, &[])
    );
    let aliases = program.entries.iter().filter_map(|entry| match entry {
        Entry::Alias(name, words) => Some(format!("       {name:<10} = {}\n", words.join(" "))),
        _ => None,
    });
    let aliases: String = aliases.collect();
    if !aliases.is_empty() {
        let _ = write!(text, "\nOTHER NAMES\n{aliases}");
    }
    text.push_str(COMMON);
    let _ = write!(text, "\nSEE ALSO\n  {}(1)\n", program.name);
    text
}

/// The options that every verb has.
const COMMON: &str = "
OPTIONS of every command; one dash will do, and so will the beginning of a name
  --output-format <text | json | json-pretty | yaml> (default = text)
  --human-readable <boolean> (default = 1)    show sizes, times and headers for people
  --noborder, --noheader <boolean> (default = 0)
                    tables without lines around them, without a header
  --quiet <boolean> print no result
  --root DIR        all built-in paths are below DIR: the directory of a lab
  --help            print what a command takes
";

/// The text of `help`: about everything, a group or a verb.
pub(crate) fn help_of(program: &Program, words: &[String], verbose: bool) -> Result<String, String> {
    let found = program
        .find(words)
        .map_err(|unknown| unknown_verb(program, &unknown.words))?;
    match found {
        (Found::Verb(verb, path), used) if used == words.len() => Ok(help(program, &path, verb)),
        (Found::Verb(verb, path), _) => Err(format!("400 too many arguments\n{}\n", line(program, &path, verb))),
        (Found::Group(_, path), _) if path.is_empty() && verbose => Ok(whole(program)),
        (Found::Group(entries, path), _) => Ok(block(program, entries, &path)),
    }
}

/// What is said of words that name no verb.
pub(crate) fn unknown_verb(program: &Program, words: &[String]) -> String {
    let words = words.join(" ");
    format!(
        "ERROR: unknown command '{} {words}'\n{}",
        program.name,
        block(program, program.entries, &[])
    )
}
