//! Maps of storages and bridges for migrations: `a1:b2,c3` (reference 03 §8.5, `formats.json` "idmap").

use std::collections::BTreeMap;

use crate::list;

/// Which target each source goes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Targets of single sources.
    pub entries: BTreeMap<String, String>,
    /// The target of all other sources.
    pub default: Option<String>,
    /// Each source goes to the target of the same name.
    pub identity: bool,
}

/// A text that is no map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdMap {
    /// `1` beside others.
    #[error("identity mapping cannot be combined with other mappings")]
    IdentityAndOthers,
    /// Two entries without a source.
    #[error("default target ID can only be provided once")]
    TwoDefaults,
    /// Two entries of one source.
    #[error("duplicate mapping for source '{0}'")]
    Duplicate(String),
}

impl crate::Failure for InvalidIdMap {}

impl IdMap {
    /// Reads a list of `1`, `ID` or `SOURCE:TARGET`. The ids themselves are the format's affair.
    ///
    /// # Errors
    /// The entries contradict each other.
    pub fn parse(text: &str) -> Result<Self, InvalidIdMap> {
        let mut map = Self::default();
        // "0" is a map without entries.
        let entries = if text == "0" { Vec::new() } else { list::split(text) };
        for entry in &entries {
            match entry.split_once(':') {
                Some((source, target)) => {
                    let known = map.entries.insert(source.to_owned(), target.to_owned());
                    if known.is_some() {
                        return Err(InvalidIdMap::Duplicate(source.to_owned()));
                    }
                }
                None if *entry == "1" => map.identity = true,
                None => {
                    if map.default.replace((*entry).to_owned()).is_some() {
                        return Err(InvalidIdMap::TwoDefaults);
                    }
                }
            }
        }
        if map.identity && entries.len() > 1 {
            return Err(InvalidIdMap::IdentityAndOthers);
        }
        Ok(map)
    }

    /// Where a source goes, `None` if the map does not say.
    pub fn target<'a>(&'a self, source: &'a str) -> Option<&'a str> {
        if self.identity {
            return Some(source);
        }
        self.entries.get(source).or(self.default.as_ref()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 03 §8.5, vectors 53 and 54.
    #[test]
    fn maps_are_read() {
        let map = IdMap::parse("a1:b2,c3").unwrap();
        assert_eq!((map.target("a1"), map.target("x")), (Some("b2"), Some("c3")));
        assert_eq!(IdMap::parse("1").unwrap().target("x"), Some("x"));
        assert_eq!(IdMap::parse("").unwrap().target("x"), None);
        for (text, message) in [
            ("1,a1", "identity mapping cannot be combined with other mappings"),
            ("x1,y1", "default target ID can only be provided once"),
            ("a1:b2,a1:c3", "duplicate mapping for source 'a1'"),
        ] {
            assert_eq!(IdMap::parse(text).unwrap_err().to_string(), message);
        }
    }
}
