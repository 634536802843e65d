//! What a value may look like: the static form of the contract's SCHEMA objects.
//!
//! `pve-contract` builds tables of these at compile time, so every field is `'static` and const-constructible.
//! The rules by which a value is checked against one are reference 03 §2.

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

/// The text format that a string must follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Format {
    /// A format with a name, `-list` or `-opt` suffix included.
    Named(&'static str),
    /// A `key=value,…` text with these keys.
    Properties(&'static PropertyFormat),
}

/// A property-string format: its keys, and the rule that is applied once all keys are fine.
#[derive(Debug, PartialEq)]
pub struct PropertyFormat {
    /// The name in `formats.json`.
    pub name: &'static str,
    /// The keys, sorted by name.
    pub keys: &'static [(&'static str, PropertyKey)],
    /// Name of the whole-value rule, empty for none.
    pub validator: &'static str,
}

/// One key of a property string.
#[derive(Debug, PartialEq)]
pub struct PropertyKey {
    /// What its value may look like.
    pub schema: Schema,
    /// Whether a bare value belongs to this key.
    pub default_key: bool,
    /// The key that this one stands for.
    pub alias: Option<&'static str>,
    /// The key that takes this key's name as its value (`virtio=MAC` sets `model=virtio`).
    pub key_alias: Option<&'static str>,
}

/// What a value may look like.
#[derive(Debug, PartialEq)]
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
    pub pattern: Option<&'static str>,
    /// The text format.
    pub format: Option<Format>,
    /// A parameter that must be sent along.
    pub requires: Option<&'static str>,
    /// What each item of an array may look like.
    pub items: Option<&'static Schema>,
    /// The known members of an object, sorted by name.
    pub properties: &'static [(&'static str, Schema)],
    /// Whether an object may have other members.
    pub open: bool,
    /// The name of the parameter whose value selects among [`Schema::variants`].
    pub type_property: Option<&'static str>,
    /// The values of the type property for which this schema applies; empty for all.
    pub instance_types: &'static [&'static str],
    /// Schemas of which the one whose instance types list the type property's value applies.
    pub variants: &'static [Schema],
    /// What the handler assumes when the value is missing, as text; validation does not insert it.
    pub default: Option<&'static str>,
    /// In an index method's answer: the key of each row that is the child's path component.
    pub child_key: Option<&'static str>,
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
            type_property: None,
            instance_types: &[],
            variants: &[],
            default: None,
            child_key: None,
        }
    }
}
