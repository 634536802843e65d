//! Named text formats: `pve-node`, `ipv4`, `pve-storage-id` and their like.
//!
//! The formats themselves are data of the contract (`contract/formats.json`), which `pve-contract` turns into
//! [`NamedFormat`] tables. Those whose rule is a regular expression carry it; the others name a function of
//! [`rules`].

pub mod rules;

use crate::list;
use crate::pattern::Pattern;
use crate::property_string;
use crate::schema::{Format, Suffix};

/// The rule of a format that no regular expression tells: its error is the text after `invalid format - `, without a
/// newline at the end.
pub type Rule = fn(&'static NamedFormat, &str) -> Result<(), String>;

/// A text format with a name.
#[derive(Debug)]
pub struct NamedFormat {
    /// The name in `formats.json`.
    pub name: &'static str,
    /// The error text, with `{v}` in place of the value; several alternatives are separated by ` | `.
    pub error: &'static str,
    /// The words allowed, where the rule is a list of words.
    pub words: &'static [&'static str],
    /// The regular expression, anchors included.
    pub pattern: Option<&'static Pattern>,
    /// Fewest characters, and the error text for fewer.
    pub min_length: Option<(usize, &'static str)>,
    /// The rule, where the regular expression is not the whole truth.
    pub rule: Option<Rule>,
}

impl NamedFormat {
    /// A format that takes everything: the base that tables spread from.
    pub const fn new(name: &'static str, error: &'static str) -> Self {
        Self {
            name,
            error,
            words: &[],
            pattern: None,
            min_length: None,
            rule: None,
        }
    }

    /// Checks a value, without a suffix's rules.
    ///
    /// # Errors
    /// The format's text, without a newline at the end.
    pub fn check(&'static self, value: &str) -> Result<(), String> {
        if let Some(rule) = self.rule {
            return rule(self, value);
        }
        if let Some((fewest, error)) = self.min_length.filter(|(fewest, _)| value.chars().count() < *fewest) {
            debug_assert!(fewest > 0);
            return Err(error.replace("{v}", value));
        }
        match self.pattern {
            Some(pattern) if !pattern.matches(value) => Err(self.refusal(value)),
            _ => Ok(()),
        }
    }

    /// The error text for a value.
    pub fn refusal(&self, value: &str) -> String {
        self.error.replace("{v}", value)
    }
}

impl Format {
    /// Checks a value; `name` is the parameter's name, for the keys of a property string.
    ///
    /// # Errors
    /// The text after `invalid format - `, with the newline at its end.
    pub fn check(self, value: &str, name: &str) -> Result<(), String> {
        let line = |text: String| format!("{text}\n");
        match self {
            Self::Named(format, Suffix::None) => format.check(value).map_err(line),
            Self::Named(format, Suffix::List) => list::split(value)
                .into_iter()
                .try_for_each(|element| format.check(element))
                .map_err(line),
            Self::Named(_, Suffix::Optional) if value.is_empty() || value == "0" => Ok(()),
            Self::Named(format, Suffix::Optional) => format.check(value).map_err(line),
            Self::Properties(format) => property_string::parse(format, value)
                .map(drop)
                .map_err(|error| error.text(name)),
        }
    }
}
