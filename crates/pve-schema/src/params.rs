//! The checked parameters of a call.
//!
//! After validation every scalar is text: JSON `true` is `1`, numbers keep the spelling they were sent in
//! (reference 03 §2.5). Handlers read them through the typed accessors here.

use std::collections::BTreeMap;
use std::str::FromStr;

/// One checked parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Param {
    /// Any scalar, as text.
    Text(String),
    /// A parameter of type array.
    List(Vec<Param>),
    /// A parameter of type object.
    Map(BTreeMap<String, Param>),
}

/// The checked parameters of a call, path parameters included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, Param>);

impl Params {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a parameter.
    pub fn insert(&mut self, name: impl Into<String>, value: Param) {
        self.0.insert(name.into(), value);
    }

    /// Takes a parameter out.
    pub fn remove(&mut self, name: &str) -> Option<Param> {
        self.0.remove(name)
    }

    /// A parameter as it is.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.0.get(name)
    }

    /// Whether the parameter was sent.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A scalar parameter; an absent one, or one that is no scalar, is `None`.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Param::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A scalar that the contract declares as required: validation has seen to it that it is there, and for a
    /// parameter that is optional after all the empty text says "not given".
    pub fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// A scalar read as a type: `Ok(None)` when absent.
    ///
    /// # Errors
    /// The type's own parse error.
    pub fn parse<T: FromStr>(&self, name: &str) -> Result<Option<T>, T::Err> {
        self.text(name).map(str::parse).transpose()
    }

    /// An integer parameter (`+5` and `007` are integers); `None` when absent or beyond 64 bits.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// A boolean parameter; `None` when absent.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.text(name).map(|text| text == "1")
    }

    /// A boolean parameter that is off unless sent as on.
    pub fn is_set(&self, name: &str) -> bool {
        self.flag(name).unwrap_or(false)
    }

    /// All parameters in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl FromIterator<(String, Param)> for Params {
    fn from_iter<I: IntoIterator<Item = (String, Param)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}
