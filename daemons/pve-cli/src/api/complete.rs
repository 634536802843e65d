//! What a shell offers after the words so far: verbs, options, and values – those that the contract lists, and users,
//! groups, roles, realms, pools, storages and nodes as they are now.

use pve_contract::MethodId;
use pve_contract::id;
use pve_schema::schema::{Format, Kind, Schema, Suffix};
use serde_json::Value;

use super::Local;
use super::arguments::{Arguments, COMMON, Common, Expected, Options};
use super::run::{leading_options, local};
use super::usage::option_name;
use super::verbs::{Entry, Found, Positional, Program, Verb};
use crate::output::{FORMATS, Screen};

/// The hidden verb that the scripts call with the words so far; the last one is being typed.
pub(crate) const VERB: &str = "__complete";

/// What is looked up: the format of a value, the method that lists what there is, and the key of its rows.
const LISTS: [(&str, MethodId, &str); 8] = [
    ("pve-groupid", id::GET_ACCESS_GROUPS, "groupid"),
    ("pve-node", id::GET_NODES, "node"),
    ("pve-poolid", id::GET_POOLS, "poolid"),
    ("pve-realm", id::GET_ACCESS_DOMAINS, "realm"),
    ("pve-roleid", id::GET_ACCESS_ROLES, "roleid"),
    ("pve-storage-id", id::GET_STORAGE, "storage"),
    ("pve-userid", id::GET_ACCESS_USERS, "userid"),
    ("pve-vmid", id::GET_CLUSTER_RESOURCES, "vmid"),
];

/// A script that completes a tool's command line, for the shells that have one.
pub(crate) fn script(name: &str, shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(BASH.replace("NAME", name)),
        "fish" => Some(FISH.replace("NAME", name)),
        "zsh" => Some(ZSH.replace("NAME", name)),
        _ => None,
    }
}

// Bash takes some characters of names for the ends of words: what is before the last of them is not offered again.
const BASH: &str = r#"# Completion of NAME for bash, made by 'pve-cli completion NAME bash'.
_NAME() {
    local line="${COMP_LINE:0:COMP_POINT}" words word breaks="" cut="" each
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    word="${words[-1]}"
    for each in @ = :; do [[ "$COMP_WORDBREAKS" == *"$each"* ]] && breaks+="$each"; done
    [ -n "$breaks" ] && cut="${word%"${word##*[$breaks]}"}"
    mapfile -t COMPREPLY < <(NAME __complete "${words[@]:1}" 2>/dev/null)
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -F _NAME NAME
"#;

const FISH: &str = r#"# Completion of NAME for fish, made by 'pve-cli completion NAME fish'.
complete -c NAME -f -a '(NAME __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
"#;

const ZSH: &str = r#"#compdef NAME
# Completion of NAME for zsh, made by 'pve-cli completion NAME zsh'.
_NAME() {
    local -a offered
    offered=(${(f)"$(NAME __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    compadd -a offered
}
compdef _NAME NAME
"#;

/// What goes on from these words, a line each.
pub(crate) fn offer(program: &'static Program, words: &[String]) -> String {
    let Some((typed, before)) = words.split_last() else {
        return String::new();
    };
    begin_so(candidates(program, before, typed), typed)
}

/// Those that begin as what is typed does, a line each.
pub(crate) fn begin_so(mut offered: Vec<String>, typed: &str) -> String {
    offered.retain(|candidate| candidate.starts_with(typed));
    offered.sort();
    offered.dedup();
    offered.iter().map(|candidate| format!("{candidate}\n")).collect()
}

fn candidates(program: &'static Program, before: &[String], typed: &str) -> Vec<String> {
    let mut arguments = Arguments::new(Screen::default());
    if let Some(verb) = program.only {
        return in_verb(program, verb, before, typed, arguments);
    }
    let begin = leading_options(before, &mut arguments).unwrap_or(0);
    let mut named = before.get(begin..).unwrap_or_default();
    let is_help = named.first().is_some_and(|word| word == "help");
    if is_help {
        named = named.get(1..).unwrap_or_default();
    }
    match program.find(named) {
        Ok((Found::Group(entries, path), _)) => {
            let mut names: Vec<String> = if typed.starts_with('-') {
                common()
            } else {
                verbs(entries)
            };
            if path.is_empty() && !is_help {
                names.push("help".to_owned());
            }
            names
        }
        Ok((Found::Verb(verb, _), used)) if !is_help => {
            let rest = named.get(used..).unwrap_or_default();
            in_verb(program, verb, rest, typed, arguments)
        }
        _ => Vec::new(),
    }
}

fn verbs(entries: &'static [Entry]) -> Vec<String> {
    let built = entries.iter().filter(|entry| entry.is_built());
    built.map(|entry| entry.name().to_owned()).collect()
}

fn common() -> Vec<String> {
    COMMON.iter().map(|(name, _)| format!("--{name}")).collect()
}

fn in_verb(
    program: &'static Program,
    verb: &'static Verb,
    before: &[String],
    typed: &str,
    arguments: Arguments,
) -> Vec<String> {
    let options = Options {
        method: verb.method(),
        verb: Some(verb),
    };
    in_options(program.name, options, verb.positional, before, typed, arguments)
}

/// Options, their values, and words without a name.
pub(crate) fn in_options(
    program: &'static str,
    options: Options,
    positional: &[Positional],
    before: &[String],
    typed: &str,
    mut arguments: Arguments,
) -> Vec<String> {
    // What is wrong so far is for the call to say.
    let _ = options.read(before, &mut arguments);
    let last = before.last().map(String::as_str).unwrap_or_default();
    // The value of the option before: where that can do without one, a word with dashes is the next option.
    let expected = options
        .expects(last)
        .filter(|_| !typed.starts_with('-') || options.takes_next(last).unwrap_or(false));
    match expected {
        Some(Expected::Common(Common::OutputFormat)) => {
            return FORMATS.iter().map(|(name, _)| (*name).to_owned()).collect();
        }
        Some(Expected::Common(Common::Root)) => return Vec::new(),
        Some(Expected::Common(_)) => return booleans(),
        Some(Expected::Parameter(parameter)) => return values(program, parameter.schema, typed, &arguments),
        None => {}
    }
    if typed.starts_with('-') {
        let parameters = options.parameters().filter(|parameter| parameter.index_max.is_none());
        return parameters.map(option_name).chain(common()).collect();
    }
    let word = positional.get(arguments.words.len()).or_else(|| {
        let last = positional.last();
        last.filter(|word| matches!(word, Positional::Several(_)))
    });
    let parameter = word.and_then(|word| options.parameter(word.name()));
    if parameter.is_some_and(|parameter| parameter.name == "vmid") {
        return guests(program, &arguments);
    }
    parameter
        .map(|parameter| values(program, parameter.schema, typed, &arguments))
        .unwrap_or_default()
}

/// The numbers of all guests.
fn guests(program: &'static str, arguments: &Arguments) -> Vec<String> {
    let local = local(program, arguments).ok();
    let found = local.and_then(|local| listed(&local, id::GET_CLUSTER_RESOURCES, "vmid"));
    found.unwrap_or_default()
}

fn booleans() -> Vec<String> {
    vec!["0".to_owned(), "1".to_owned()]
}

/// The values that a parameter may have, of which something is known. In a list what is before the last comma stays.
fn values(program: &'static str, schema: &Schema, typed: &str, arguments: &Arguments) -> Vec<String> {
    if !schema.words.is_empty() {
        return schema.words.iter().map(|word| (*word).to_owned()).collect();
    }
    if schema.kind == Kind::Boolean {
        return booleans();
    }
    let Some(Format::Named(format, suffix)) = schema.format else {
        return Vec::new();
    };
    let known: Vec<String> = if format.words.is_empty() {
        let list = LISTS.iter().find(|(name, ..)| *name == format.name);
        let found = list.and_then(|(_, method, key)| listed(&local(program, arguments).ok()?, *method, key));
        found.unwrap_or_default()
    } else {
        format.words.iter().map(|word| (*word).to_owned()).collect()
    };
    let kept = match typed.rfind(',') {
        Some(at) if suffix == Suffix::List => typed.get(..=at).unwrap_or_default(),
        _ => "",
    };
    known.into_iter().map(|value| format!("{kept}{value}")).collect()
}

fn listed(local: &Local, method: MethodId, key: &str) -> Option<Vec<String>> {
    let data = local.data(method, &[]).ok()?;
    let values = data.as_array()?.iter().filter_map(|row| match row.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    Some(values.collect())
}
