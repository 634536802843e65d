//! What a section file may hold.

use std::collections::BTreeMap;

use super::Section;
use crate::check;
use crate::schema::Schema;
use crate::text;

/// Written escaped where the file says so ([`SectionFormat::escaped_comment`]).
pub(super) const COMMENT: &str = "comment";

/// How a kind of section uses an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Whether every section of the kind needs it.
    pub required: bool,
    /// Whether it cannot be changed once set.
    pub fixed: bool,
}

impl Use {
    /// May be set and changed.
    pub const OPTIONAL: Self = Self {
        required: false,
        fixed: false,
    };
    /// May be set when the section is created, and not be changed.
    pub const FIXED: Self = Self {
        required: false,
        fixed: true,
    };
    /// Must be set, and may be changed.
    pub const REQUIRED: Self = Self {
        required: true,
        fixed: false,
    };
    /// Must be set when the section is created, and not be changed.
    pub const REQUIRED_FIXED: Self = Self {
        required: true,
        fixed: true,
    };
}

/// An option, and which kinds of section use it how.
pub type Row<K> = (&'static str, &'static [(&'static [K], Use)]);

/// A section's kind and name, as the header tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The kind of section.
    pub kind: String,
    /// The section's name.
    pub id: String,
}

impl Header {
    /// Reads `KIND: ID`. Neither holds white space, blanks before the line make it no header; the last `:` that leaves
    /// a name behind it splits.
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end();
        let token = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        line.rmatch_indices(':').find_map(|(at, _)| {
            let (kind, rest) = line.split_at_checked(at)?;
            let id = rest.strip_prefix(':')?.trim_start();
            (token(kind) && token(id)).then(|| Self {
                kind: kind.to_owned(),
                id: id.to_owned(),
            })
        })
    }

    /// Writes `KIND: ID`.
    pub fn print(kind: &str, id: &str) -> String {
        format!("{kind}: {id}")
    }
}

/// Brings a value into its normal form ([`SectionFormat::value`]).
pub type ReadValue = fn(&str, &str, &Schema, &str) -> Result<Option<String>, String>;

/// What a section file may hold and how it is spelt. Built once per file, then shared.
#[derive(Debug, Clone)]
pub struct SectionFormat {
    /// The file's name, for warnings.
    pub file: &'static str,
    pub(super) schemas: BTreeMap<&'static str, &'static Schema>,
    pub(super) kinds: BTreeMap<&'static str, BTreeMap<&'static str, Use>>,
    /// Reads a header; `None` if the line is none.
    pub parse_header: fn(&str) -> Option<Header>,
    /// Writes a header: kind, then name.
    pub print_header: fn(&str, &str) -> String,
    /// Checks a header and may change it, to lower case for one; its error is the reason why the section is skipped.
    pub check_header: fn(&mut Header) -> Result<(), String>,
    /// From the spelling in the file to the text of the value: key, then text. Its error is the reason why the key is
    /// left out.
    pub decode: fn(&str, &str) -> Result<String, String>,
    /// From the value to the spelling in the file: key, then value.
    pub encode: fn(&str, &str) -> String,
    /// From the text of a scalar value to its normal form, `None` if nothing is left of it: kind, key, what the value
    /// may look like, text. Its error is the reason why the key is left out.
    pub value: ReadValue,
    /// Fills in what a section need not say and looks at it as a whole; its error is the reason why it cannot be used.
    pub complete: fn(&mut Section) -> Result<(), String>,
}

impl SectionFormat {
    /// A file in the usual spelling, without any kind of section yet.
    pub fn new(file: &'static str) -> Self {
        Self {
            file,
            schemas: BTreeMap::new(),
            kinds: BTreeMap::new(),
            parse_header: Header::parse,
            print_header: Header::print,
            check_header: |_| Ok(()),
            decode: |_, text| Ok(text.to_owned()),
            encode: |_, value| value.to_owned(),
            value: |_, key, schema, text| {
                check::text(schema, text, key)?;
                Ok(Some(text.to_owned()))
            },
            complete: |_| Ok(()),
        }
    }

    /// Spells `comment` as [`text::encode`] does, so that it may have several lines.
    #[must_use]
    pub fn escaped_comment(mut self) -> Self {
        self.decode = |key, spelt| {
            Ok(match key {
                COMMENT => text::decode(spelt),
                _ => spelt.to_owned(),
            })
        };
        self.encode = |key, value| match key {
            COMMENT => text::encode(value),
            _ => value.to_owned(),
        };
        self
    }

    /// Adds an option and what its value may look like. Whether it is optional is the kinds' affair.
    #[must_use]
    pub fn option(mut self, key: &'static str, schema: &'static Schema) -> Self {
        self.schemas.insert(key, schema);
        self
    }

    /// Adds a kind of section and the options it uses.
    #[must_use]
    pub fn kind(mut self, kind: &'static str, options: &[(&'static str, Use)]) -> Self {
        self.kinds.insert(kind, options.iter().copied().collect());
        self
    }

    /// Adds a table of options. `word` is a kind's name in the file, `schema` tells what an option's value may look
    /// like; an option that it does not know is left out.
    #[must_use]
    pub fn table<K: Copy + PartialEq>(
        mut self,
        kinds: &[K],
        word: fn(K) -> &'static str,
        rows: &[Row<K>],
        schema: impl Fn(&'static str) -> Option<&'static Schema>,
    ) -> Self {
        for (key, uses) in rows {
            let Some(schema) = schema(key) else { continue };
            self.schemas.insert(key, schema);
            for kind in kinds {
                let known = self.kinds.entry(word(*kind)).or_default();
                if let Some((_, usage)) = uses.iter().find(|(users, _)| users.contains(kind)) {
                    known.insert(key, *usage);
                }
            }
        }
        self
    }

    /// Whether there is such a kind of section.
    pub fn has_kind(&self, kind: &str) -> bool {
        self.kinds.contains_key(kind)
    }

    /// The kinds of sections, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.keys().copied()
    }

    /// How a kind uses an option; `None` if it does not know it.
    pub fn usage(&self, kind: &str, key: &str) -> Option<Use> {
        self.kinds.get(kind)?.get(key).copied()
    }

    /// What an option's value may look like.
    pub fn schema(&self, key: &str) -> Option<&'static Schema> {
        self.schemas.get(key).copied()
    }

    /// The options that a kind needs, sorted.
    pub fn required(&self, kind: &str) -> impl Iterator<Item = &'static str> {
        let options = self.kinds.get(kind).into_iter().flatten();
        options.filter(|(_, usage)| usage.required).map(|(key, _)| *key)
    }
}
