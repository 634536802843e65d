//! The table of a tool's verbs, and finding a verb in it.

use pve_contract::{Method, MethodId};
use pve_schema::schema::{Kind, Parameter, Schema, find_parameter};
use serde_json::{Map, Value};

use super::local::Local;
use super::{CallError, run};
use crate::output::{Format, Style};

/// A tool.
#[derive(Debug)]
pub(crate) struct Program {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it is for, in a line.
    pub(crate) about: &'static str,
    /// Its verbs.
    pub(crate) entries: &'static [Entry],
    /// What it does, when it has no verbs: its words are this verb's.
    pub(crate) only: Option<&'static Verb>,
}

/// A word of a command line's beginning.
#[derive(Debug)]
pub(crate) enum Entry {
    /// More words follow.
    Group(&'static str, &'static [Entry]),
    /// It is the last of them.
    Verb(Verb),
    /// Another name of the verb with these words. It has no short forms.
    Alias(&'static str, &'static [&'static str]),
}

/// A verb.
#[derive(Debug)]
pub(crate) struct Verb {
    /// The word.
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) about: &'static str,
    /// Whose parameters are its options.
    pub(crate) target: Target,
    /// The parameters that are words without a name, in their order.
    pub(crate) positional: &'static [Positional],
    /// Parameters that the verb sets itself.
    pub(crate) fixed: &'static [(&'static str, &'static str)],
    /// Parameters that the verb sets unless they are given.
    pub(crate) defaults: &'static [(&'static str, &'static str)],
    /// Parameters that are no options of the verb.
    pub(crate) hidden: &'static [&'static str],
    /// Parameters that the method demands and the verb does not.
    pub(crate) optional: &'static [&'static str],
    /// Parameters that may be typed without being seen.
    pub(crate) secrets: &'static [Secret],
    /// Parameters that are the content of files, whose names are typed.
    pub(crate) files: &'static [&'static str],
    /// Whether others than root may.
    pub(crate) everybody: bool,
    /// What is done.
    pub(crate) action: Action,
}

/// Whose parameters a verb's options are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// A method's.
    Method(MethodId),
    /// The verb's own, sorted by name: the API has no such method.
    Own(&'static [Parameter]),
}

/// What verbs set that are about this node.
pub(crate) const HERE: &[(&str, &str)] = &[("node", LOCALHOST)];

/// This node, whatever it is called.
pub(crate) const LOCALHOST: &str = "localhost";

/// A parameter of a verb's own.
pub(crate) const fn parameter(name: &'static str, schema: &'static Schema) -> Parameter {
    Parameter {
        name,
        index_max: None,
        in_path: false,
        schema,
    }
}

/// A boolean parameter of a verb's own: not set unless it is there.
pub(crate) static FLAG: Schema = Schema {
    optional: true,
    default: Some("0"),
    ..Schema::of(Kind::Boolean)
};

/// Anything.
pub(crate) static ANY: Schema = Schema::of(Kind::Any);

/// Whether a boolean parameter is set.
pub(crate) fn is_set(params: &Map<String, Value>, name: &str) -> bool {
    params.get(name).and_then(Value::as_str) == Some("1")
}

/// A parameter that is a word without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positional {
    /// It must be there.
    Required(&'static str),
    /// It may be missing.
    Optional(&'static str),
    /// All words that are left; a list.
    Several(&'static str),
}

impl Positional {
    /// The parameter's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Required(name) | Self::Optional(name) | Self::Several(name) => name,
        }
    }
}

/// A parameter that may be typed without being seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secret {
    /// Its name.
    pub(crate) parameter: &'static str,
    /// What it is called when it is asked for.
    pub(crate) label: &'static str,
    /// How it is asked for.
    pub(crate) prompt: Prompt,
    /// Whether it is asked for even when the option is not there.
    pub(crate) always: bool,
}

/// How a secret is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Twice: it is made now.
    New,
    /// Once: it is known already.
    Known,
}

/// What a verb does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// It calls its method and prints the result as the contract describes it.
    Call,
    /// It calls its method and prints the result in another way.
    CallAndShow(fn(Value, &Style) -> Shown),
    /// It does something of its own.
    Run(Work),
}

/// What a verb of its own does with its parameters.
pub(crate) type Work = fn(&Local, Map<String, Value>, &Style) -> Result<Shown, CallError>;

/// What a verb prints.
#[derive(Debug)]
pub(crate) enum Shown {
    /// A value that looks so.
    Data(Value, &'static Schema),
    /// A text as it is.
    Text(String),
}

#[cfg(test)]
impl Shown {
    /// The text that it is.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Data(data, _) => panic!("no text: {data}"),
        }
    }
}

/// Words for people, the data for programs.
pub(crate) fn for_people(style: &Style, data: Value, text: impl FnOnce(&Value) -> String) -> Shown {
    match style.format {
        Format::Text => Shown::Text(text(&data)),
        _ => Shown::Data(data, &ANY),
    }
}

impl Verb {
    /// A verb that calls a method, with nothing special about it: the base that tables spread from.
    pub(crate) const fn new(name: &'static str, about: &'static str, method: MethodId) -> Self {
        Self::base(name, about, Target::Method(method), Action::Call)
    }

    /// A verb that calls no method.
    pub(crate) const fn own(
        name: &'static str,
        about: &'static str,
        parameters: &'static [Parameter],
        work: Work,
    ) -> Self {
        Self::base(name, about, Target::Own(parameters), Action::Run(work))
    }

    const fn base(name: &'static str, about: &'static str, target: Target, action: Action) -> Self {
        Self {
            name,
            about,
            target,
            positional: &[],
            fixed: &[],
            defaults: &[],
            hidden: &[],
            optional: &[],
            secrets: &[],
            files: &[],
            everybody: false,
            action,
        }
    }

    /// The method that it calls, if it does.
    pub(crate) fn method(&self) -> Option<&'static Method> {
        match self.target {
            Target::Method(id) => Some(pve_contract::method(id)),
            Target::Own(_) => None,
        }
    }

    /// All parameters, as words and as options.
    pub(crate) fn parameters(&self) -> &'static [Parameter] {
        match self.target {
            Target::Method(id) => pve_contract::method(id).parameters,
            Target::Own(parameters) => parameters,
        }
    }

    /// The parameter of that name as it is typed, `net0` of a family.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'static Parameter> {
        find_parameter(self.parameters(), name)
    }

    /// Whether a parameter of the method is an option of the verb.
    pub(crate) fn is_option(&self, name: &str) -> bool {
        let is_set = self.fixed.iter().any(|(fixed, _)| *fixed == name);
        let is_word = self.positional.iter().any(|word| word.name() == name);
        !is_set && !is_word && !self.hidden.contains(&name)
    }

    /// A parameter that may be typed without being seen.
    pub(crate) fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.iter().find(|secret| secret.parameter == name)
    }
}

/// Where the words of a command line lead.
#[derive(Debug)]
pub(crate) enum Found {
    /// To a verb, with all of its words.
    Verb(&'static Verb, Vec<&'static str>),
    /// To a group of verbs, and no further.
    Group(&'static [Entry], Vec<&'static str>),
}

/// There is no such verb, or there are several.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownVerb {
    /// The words up to the one that nothing is called.
    pub(crate) words: Vec<String>,
}

impl Program {
    /// Follows words as far as they name verbs; also tells how many of them do.
    pub(crate) fn find(&self, words: &[String]) -> Result<(Found, usize), UnknownVerb> {
        let mut entries = self.entries;
        let mut path = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let unknown = || UnknownVerb {
                words: path
                    .iter()
                    .map(|word: &&str| (*word).to_owned())
                    .chain([word.clone()])
                    .collect(),
            };
            match entry(entries, word).ok_or_else(unknown)? {
                Entry::Group(name, inner) => {
                    path.push(*name);
                    entries = inner;
                }
                Entry::Verb(verb) => {
                    path.push(verb.name);
                    return Ok((Found::Verb(verb, path), at + 1));
                }
                Entry::Alias(_, words) => {
                    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
                    let (found, _) = self.find(&words)?;
                    return Ok((found, at + 1));
                }
            }
        }
        Ok((Found::Group(entries, path), words.len()))
    }
}

impl Entry {
    /// Its word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Group(name, _) | Self::Alias(name, _) => name,
            Self::Verb(verb) => verb.name,
        }
    }

    /// Whether it leads to a method that there is.
    pub(crate) fn is_built(&self) -> bool {
        match self {
            Self::Group(_, entries) => entries.iter().any(Self::is_built),
            Self::Verb(verb) => verb.method().is_none_or(|method| run::is_built(method.id)),
            Self::Alias(..) => false,
        }
    }
}

/// The entry of that name, or the only one whose name begins so.
fn entry(entries: &'static [Entry], word: &str) -> Option<&'static Entry> {
    if let Some(exact) = entries.iter().find(|entry| entry.name() == word) {
        return Some(exact);
    }
    let begins = |entry: &&Entry| !matches!(entry, Entry::Alias(..)) && entry.name().starts_with(word);
    let mut matching = entries.iter().filter(begins);
    match (matching.next(), matching.next()) {
        (Some(only), None) if !word.is_empty() => Some(only),
        _ => None,
    }
}
