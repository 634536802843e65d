//! Words to parameters: `--name value`, `--name=value`, `-name value`, in any order among the words without a name.
//!
//! What an option's value may be is the contract's business, and checked with the call. Here only what a word is needs to
//! be known: a boolean may stand without a value, lists may be repeated.

use std::path::PathBuf;

use pve_contract::Method;
use pve_schema::check;
use pve_schema::schema::{Kind, Parameter, Schema, find_parameter};
use serde_json::{Map, Value};

use super::CallError;
use super::verbs::{Positional, Prompt, Verb};
use crate::output::{FORMATS, Format, Screen, Style};

/// What the options of a command line say.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// The method's parameters.
    pub(crate) params: Map<String, Value>,
    /// Secrets that are to be asked for: their options have no value.
    pub(crate) asked_for: Vec<&'static str>,
    /// How the result is printed.
    pub(crate) style: Style,
    /// The lab's directory; `None` is the machine's own instance.
    pub(crate) root: Option<PathBuf>,
    /// Whether the usage is wanted and nothing else.
    pub(crate) help: bool,
    /// The words without a name.
    pub(crate) words: Vec<String>,
}

impl Arguments {
    /// Nothing yet.
    pub(crate) fn new(screen: Screen) -> Self {
        Self {
            params: Map::new(),
            asked_for: Vec::new(),
            style: Style::new(screen),
            root: None,
            help: false,
            words: Vec::new(),
        }
    }
}

/// An option that is no parameter of the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Common {
    /// `--help`
    Help,
    /// `--human-readable`
    HumanReadable,
    /// `--noborder`
    NoBorder,
    /// `--noheader`
    NoHeader,
    /// `--output-format`
    OutputFormat,
    /// `--quiet`
    Quiet,
    /// `--root`
    Root,
}

/// The options that every verb has, sorted by name.
pub(crate) const COMMON: [(&str, Common); 7] = [
    ("help", Common::Help),
    ("human-readable", Common::HumanReadable),
    ("noborder", Common::NoBorder),
    ("noheader", Common::NoHeader),
    ("output-format", Common::OutputFormat),
    ("quiet", Common::Quiet),
    ("root", Common::Root),
];

/// What options a command line may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// The method, where one is known.
    pub(crate) method: Option<&'static Method>,
    /// The verb, where one narrows the method's parameters.
    pub(crate) verb: Option<&'static Verb>,
}

/// What an option's name means.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    Common(Common),
    Parameter(&'static Parameter),
}

/// What a word behind an option is the value of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// A parameter.
    Parameter(&'static Parameter),
    /// An option that every verb has.
    Common(Common),
}

impl Options {
    /// The names of all options, families without their index.
    pub(crate) fn parameters(self) -> impl Iterator<Item = &'static Parameter> {
        self.all().iter().filter(move |parameter| match self.verb {
            Some(verb) => verb.is_option(parameter.name),
            None => !parameter.in_path,
        })
    }

    /// All parameters, also those that are no options.
    fn all(self) -> &'static [Parameter] {
        match (self.verb, self.method) {
            (Some(verb), _) => verb.parameters(),
            (None, Some(method)) => method.parameters,
            (None, None) => &[],
        }
    }

    /// A parameter, also one that is no option.
    pub(crate) fn parameter(self, name: &str) -> Option<&'static Parameter> {
        find_parameter(self.all(), name)
    }

    /// The option of that name, or the only one whose name begins so; and its whole name.
    fn meaning(self, name: &str) -> Result<(String, Meaning), CallError> {
        let all: Vec<&Parameter> = self.parameters().collect();
        let parameter = self.parameter(name);
        if let Some(parameter) = parameter.filter(|found| all.iter().any(|known| std::ptr::eq(*known, *found))) {
            return Ok((name.to_owned(), Meaning::Parameter(parameter)));
        }
        if let Some((_, common)) = COMMON.iter().find(|(known, _)| *known == name) {
            return Ok((name.to_owned(), Meaning::Common(*common)));
        }
        let parameters = all.iter().filter(|parameter| parameter.index_max.is_none());
        let parameters = parameters.map(|parameter| (parameter.name, Meaning::Parameter(parameter)));
        let common = COMMON.iter().map(|(known, common)| (*known, Meaning::Common(*common)));
        let common = common.filter(|(known, _)| !all.iter().any(|parameter| parameter.name == *known));
        let matching: Vec<_> = parameters
            .chain(common)
            .filter(|(known, _)| known.starts_with(name))
            .collect();
        match &matching[..] {
            [(known, meaning)] => Ok(((*known).to_owned(), *meaning)),
            [] => Err(CallError::UnknownOption(name.to_owned())),
            several => {
                let names: Vec<&str> = several.iter().map(|(known, _)| *known).collect();
                Err(CallError::AmbiguousOption(name.to_owned(), names.join(", ")))
            }
        }
    }

    /// Reads the words behind a verb.
    ///
    /// # Errors
    /// A word that cannot be understood.
    pub(crate) fn read(self, words: &[String], into: &mut Arguments) -> Result<(), CallError> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                into.words.extend(words.by_ref().cloned());
                break;
            }
            let Some(option) = option(word) else {
                into.words.push(word.clone());
                continue;
            };
            if is_short_help(word) {
                into.help = true;
                continue;
            }
            let (name, attached) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option, None),
            };
            let (name, meaning) = self.meaning(name)?;
            let value = match attached {
                Some(value) => Some(value),
                // A value may look like an option, unless the option can do without one.
                None if self.needs_value(meaning) => words.next().cloned(),
                None => {
                    let next = words.as_slice().first();
                    let next = next.filter(|next| option_free(next) || self.is_dashed_value(meaning, next));
                    let next = next.cloned();
                    if next.is_some() {
                        words.next();
                    }
                    next
                }
            };
            match meaning {
                Meaning::Common(common) => set_common(into, common, &name, value)?,
                Meaning::Parameter(parameter) => self.set(into, parameter, &name, value)?,
            }
        }
        Ok(())
    }

    /// Whether a word is an option whose value is the next word, whatever that looks like.
    ///
    /// # Errors
    /// It is no option.
    pub(crate) fn takes_next(self, word: &str) -> Result<bool, CallError> {
        match option(word) {
            Some(name) if !name.contains('=') && !is_short_help(word) => Ok(self.needs_value(self.meaning(name)?.1)),
            _ => Ok(false),
        }
    }

    /// The parameter whose value the next word is, or may be.
    pub(crate) fn expects(self, word: &str) -> Option<Expected> {
        let name = option(word).filter(|name| !name.contains('='))?;
        match self.meaning(name).ok()?.1 {
            Meaning::Parameter(parameter) => Some(Expected::Parameter(parameter)),
            Meaning::Common(Common::Help) => None,
            Meaning::Common(common) => Some(Expected::Common(common)),
        }
    }

    /// Whether an option is nothing without a value.
    fn needs_value(self, meaning: Meaning) -> bool {
        match meaning {
            Meaning::Common(common) => matches!(common, Common::OutputFormat | Common::Root),
            Meaning::Parameter(parameter) => parameter.schema.kind != Kind::Boolean && self.secret(parameter).is_none(),
        }
    }

    /// Whether a word is the value of an option that can do without one, though it begins with a dash: keys that are given
    /// out may, and the word is nothing else.
    fn is_dashed_value(self, meaning: Meaning, word: &str) -> bool {
        let Meaning::Parameter(parameter) = meaning else {
            return false;
        };
        let secret = self.verb.and_then(|verb| verb.secret(parameter.name));
        let name = option(word).map(|name| name.split_once('=').map_or(name, |(name, _)| name));
        let is_unknown = name.is_some_and(|name| matches!(self.meaning(name), Err(CallError::UnknownOption(_))));
        secret.is_some_and(|secret| secret.prompt == Prompt::Known)
            && is_unknown
            && !is_short_help(word)
            && word != "--"
    }

    fn secret(self, parameter: &Parameter) -> Option<&'static str> {
        let secret = self.verb.and_then(|verb| verb.secret(parameter.name))?;
        Some(secret.parameter)
    }

    fn set(
        self,
        into: &mut Arguments,
        parameter: &'static Parameter,
        name: &str,
        value: Option<String>,
    ) -> Result<(), CallError> {
        let value = match (value, self.secret(parameter)) {
            (None, Some(secret)) => {
                into.asked_for.push(secret);
                return Ok(());
            }
            (value, _) if parameter.schema.kind == Kind::Boolean => boolean(value.as_deref())?.to_owned(),
            (Some(value), _) => value,
            (None, None) => return Err(CallError::MissingValue(name.to_owned())),
        };
        let known = into.params.remove(name);
        into.params
            .insert(name.to_owned(), joined(parameter.schema, known, value));
        Ok(())
    }
}

fn is_short_help(word: &str) -> bool {
    matches!(word, "-h" | "-?")
}

/// A word that is an option, without its dashes.
fn option(word: &str) -> Option<&str> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    (!name.is_empty()).then_some(name)
}

fn option_free(word: &str) -> bool {
    !word.starts_with('-')
}

/// A value beside those of the same name before it: arrays and lists grow, of everything else the last one counts.
fn joined(schema: &Schema, known: Option<Value>, value: String) -> Value {
    let is_list = schema.format.is_some_and(|format| format.is_list());
    match known {
        _ if schema.kind == Kind::Array => {
            let mut items = match known {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            items.push(Value::String(value));
            Value::Array(items)
        }
        Some(Value::String(before)) if is_list => Value::String(format!("{before},{value}")),
        _ => Value::String(value),
    }
}

fn set_common(into: &mut Arguments, common: Common, name: &str, value: Option<String>) -> Result<(), CallError> {
    let style = &mut into.style;
    match common {
        Common::Help => into.help = flag(value.as_deref())?,
        Common::HumanReadable => style.human_readable = flag(value.as_deref())?,
        Common::NoBorder => style.border = !flag(value.as_deref())?,
        Common::NoHeader => style.header = !flag(value.as_deref())?,
        Common::Quiet => style.quiet = flag(value.as_deref())?,
        Common::OutputFormat => {
            let value = value.ok_or_else(|| CallError::MissingValue(name.to_owned()))?;
            style.format = format(&value).ok_or(CallError::OutputFormat(value))?;
        }
        Common::Root => {
            let value = value.ok_or_else(|| CallError::MissingValue(name.to_owned()))?;
            into.root = Some(PathBuf::from(value));
        }
    }
    Ok(())
}

fn format(name: &str) -> Option<Format> {
    let found = FORMATS.iter().find(|(known, _)| *known == name);
    found.map(|(_, format)| *format)
}

/// A boolean option's value as the API has it; none is true.
///
/// # Errors
/// The value is neither true nor false.
pub(crate) fn boolean(word: Option<&str>) -> Result<&'static str, CallError> {
    Ok(if flag(word)? { "1" } else { "0" })
}

/// Whether a boolean option is set; without a value it is.
///
/// # Errors
/// The value is neither true nor false.
pub(crate) fn flag(word: Option<&str>) -> Result<bool, CallError> {
    word.map_or(Some(true), check::boolean_word).ok_or(CallError::Boolean)
}

/// Gives the words without a name their names.
///
/// # Errors
/// There are too many or too few of them.
pub(crate) fn take_positional(positional: &[Positional], into: &mut Arguments) -> Result<(), CallError> {
    let is_open = matches!(positional.last(), Some(Positional::Several(_)));
    if into.words.len() > positional.len() && !is_open {
        return Err(CallError::TooMany);
    }
    let mut words = std::mem::take(&mut into.words).into_iter();
    for parameter in positional {
        match (words.next(), parameter) {
            (Some(first), Positional::Several(name)) => {
                let list: Vec<String> = [first].into_iter().chain(words.by_ref()).collect();
                into.params.insert((*name).to_owned(), Value::String(list.join(",")));
            }
            (Some(word), _) => {
                into.params.insert(parameter.name().to_owned(), Value::String(word));
            }
            (None, Positional::Required(_)) => return Err(CallError::NotEnough),
            (None, Positional::Optional(_) | Positional::Several(_)) => {}
        }
    }
    Ok(())
}
