//! Named text formats: `pve-node`, `ipv4`, `pve-storage-id` and their like.
//!
//! The formats themselves are data of the contract (`contract/formats.json`), which `pve-contract` turns into
//! [`NamedFormat`] tables. Those whose rule is a regular expression carry it; the others name a function of
//! [`rules`].

use crate::pattern::Pattern;

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
