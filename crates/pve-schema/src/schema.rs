//! What a value may look like: the static form of the contract's SCHEMA objects.
//!
//! `pve-contract` builds tables of these at compile time, so every field is `'static` and const-constructible.
//! The rules by which a value is checked against one are reference 03 §2, and live in [`crate::check`].

use crate::format::NamedFormat;
use crate::pattern::Pattern;
use crate::property_string::Properties;

/// A value's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything goes (`any`, or no type given).
    Any,
    /// Any scalar.
    String,
    /// `1` or `0`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A list.
    Array,
    /// A map.
    Object,
    /// Nothing.
    Null,
}

impl Kind {
    /// The type's name in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Array => "array",
            Self::Object => "object",
            Self::Null => "null",
        }
    }
}

/// The text format that a scalar must follow.
#[derive(Debug, Clone, Copy)]
pub enum Format {
    /// A format with a name.
    Named(&'static NamedFormat, Suffix),
    /// A `key=value,…` text with these keys.
    Properties(&'static PropertyFormat),
}

impl Format {
    /// Whether this is a `-list` format.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Named(_, Suffix::List))
    }
}

/// What a named format is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suffix {
    /// The value.
    None,
    /// `-list`: each element of the value, split by [`crate::list::split`].
    List,
    /// `-opt`: the value, unless it is empty or `0`.
    Optional,
}

/// The rule that is applied to a whole property string once all its keys are fine. It may change the properties; its
/// error is the text of the message without a newline at the end.
pub type Validator = fn(&'static PropertyFormat, &mut Properties) -> Result<(), String>;

/// A property-string format: its keys, and the rule that is applied once all keys are fine.
#[derive(Debug)]
pub struct PropertyFormat {
    /// The name in `formats.json`.
    pub name: &'static str,
    /// The keys, sorted by name.
    pub keys: &'static [PropertyKey],
    /// The whole-value rule.
    pub validator: Option<Validator>,
}

impl PropertyFormat {
    /// A key by its name.
    pub fn key(&self, name: &str) -> Option<&'static PropertyKey> {
        let at = self.keys.binary_search_by(|key| key.name.cmp(name)).ok()?;
        self.keys.get(at)
    }

    /// The key that a bare value belongs to.
    pub fn default_key(&self) -> Option<&'static PropertyKey> {
        self.keys.iter().find(|key| key.default_key)
    }
}

/// One key of a property string.
#[derive(Debug)]
pub struct PropertyKey {
    /// Its name.
    pub name: &'static str,
    /// What its value may look like.
    pub schema: &'static Schema,
    /// Whether a bare value belongs to this key.
    pub default_key: bool,
    /// The key that this one stands for.
    pub alias: Option<&'static str>,
    /// The key that takes this key's name as its value (`virtio=MAC` sets `model=virtio`).
    pub key_alias: Option<&'static str>,
}

/// One declared parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Its name; a family's name without the `[n]`.
    pub name: &'static str,
    /// For a family `name0` … `nameN`: N.
    pub index_max: Option<u16>,
    /// Whether it is a component of the path.
    pub in_path: bool,
    /// What its value may look like.
    pub schema: &'static Schema,
}

/// Finds a parameter by its name as sent: `net3` finds the family `net[n]` if 3 is within its limit and written without
/// leading zeros. The list must be sorted by name, a plain parameter before the family of the same name.
pub fn find_parameter(parameters: &'static [Parameter], name: &str) -> Option<&'static Parameter> {
    if let Some(plain) = find_declared(parameters, name, false) {
        return Some(plain);
    }
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = name.get(stem.len()..)?;
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    let index: u16 = digits.parse().ok()?;
    find_declared(parameters, stem, true).filter(|family| family.index_max.is_some_and(|max| index <= max))
}

/// Finds a declaration: a plain parameter, or a family by its stem.
fn find_declared(parameters: &'static [Parameter], name: &str, family: bool) -> Option<&'static Parameter> {
    let at = parameters
        .binary_search_by(|p| p.name.cmp(name).then(p.index_max.is_some().cmp(&family)))
        .ok()?;
    parameters.get(at)
}

/// What a value may look like.
#[derive(Debug)]
pub struct Schema {
    /// The type.
    pub kind: Kind,
    /// Whether it may be missing.
    pub optional: bool,
    /// The only words allowed; empty for no such limit.
    pub words: &'static [&'static str],
    /// Smallest number, inclusive.
    pub minimum: Option<f64>,
    /// Largest number, inclusive.
    pub maximum: Option<f64>,
    /// Fewest characters.
    pub min_length: Option<usize>,
    /// Most characters.
    pub max_length: Option<usize>,
    /// A regular expression, compiled as `^` + pattern + `$` without a group.
    pub pattern: Option<&'static Pattern>,
    /// The text format.
    pub format: Option<Format>,
    /// A parameter that must be sent along.
    pub requires: Option<&'static str>,
    /// What each item of an array may look like.
    pub items: Option<&'static Schema>,
    /// The known members of an object, sorted by name.
    pub properties: &'static [(&'static str, &'static Schema)],
    /// Whether an object may have other members.
    pub open: bool,
    /// What those other members may look like; `None` for no limit.
    pub additional: Option<&'static Schema>,
    /// The name of the parameter whose value selects among [`Schema::variants`].
    pub type_property: Option<&'static str>,
    /// The values of the type property for which this schema applies; empty for all.
    pub instance_types: &'static [&'static str],
    /// Schemas of which the one whose instance types list the type property's value applies.
    pub variants: &'static [&'static Schema],
    /// What the handler assumes when the value is missing, as text; validation does not insert it.
    pub default: Option<&'static str>,
    /// In an index method's answer: the template of a child's path below this one, `{name}` for one.
    pub child_href: Option<&'static str>,
    /// What command lines show of it to people.
    pub hints: Option<&'static Hints>,
}

/// What the text output and the usage texts of command lines need beyond a value's rules (reference 03 §7).
#[derive(Debug)]
pub struct Hints {
    /// A column's header instead of its name.
    pub title: Option<&'static str>,
    /// How a value is shown.
    pub renderer: Option<Renderer>,
    /// Most characters of a column.
    pub print_width: Option<usize>,
    /// The place-holder of a usage text, where it does not follow from the rules.
    pub type_text: Option<&'static str>,
    /// The word for the value in a usage text.
    pub description: Option<&'static str>,
}

impl Hints {
    /// No hint: the base that tables spread from.
    pub const NONE: Self = Self {
        title: None,
        renderer: None,
        print_width: None,
        type_text: None,
        description: None,
    };
}

/// How a value is shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renderer {
    /// A number of bytes, `1.50 KiB`.
    Bytes,
    /// Seconds, `1d 1h 1m 1s`.
    Duration,
    /// Seconds since 1970, as local time.
    Timestamp,
    /// The same, as universal time.
    TimestampGmt,
    /// A fraction, `12.35%`.
    Percentage,
    /// A nested value, in YAML.
    Yaml,
}

impl Schema {
    /// A required value of a type, without further limits: the base that tables spread from.
    pub const fn of(kind: Kind) -> Self {
        Self {
            kind,
            optional: false,
            words: &[],
            minimum: None,
            maximum: None,
            min_length: None,
            max_length: None,
            pattern: None,
            format: None,
            requires: None,
            items: None,
            properties: &[],
            open: true,
            additional: None,
            type_property: None,
            instance_types: &[],
            variants: &[],
            default: None,
            child_href: None,
            hints: None,
        }
    }

    /// A known member of an object.
    pub fn property(&self, name: &str) -> Option<&'static Schema> {
        let at = self.properties.binary_search_by(|(key, _)| (*key).cmp(name)).ok()?;
        self.properties.get(at).map(|(_, schema)| *schema)
    }

    /// In an index method's answer: the key of each row that names the child's path component.
    pub fn child_key(&self) -> Option<&'static str> {
        let (_, key) = self.child_href?.split_once('{')?;
        key.strip_suffix('}')
    }
}
