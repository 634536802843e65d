//! Regular expressions of the contract: compiled once each, when first needed.
//!
//! The engine runs in linear time, so no pattern can be driven into exponential work by what a client sends.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// Most bytes one compiled pattern may take. The default of the engine (10 MiB) is too small for the network `alias`
/// pattern, up to 256 Unicode word characters.
const SIZE_LIMIT: usize = 64 << 20;

/// A regular expression that is compiled when first needed.
pub struct Pattern {
    source: &'static str,
    anchored: bool,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// A schema's pattern: compiled as the text `^` + pattern + `$` without a group, so that of the alternatives
    /// `A|B` the first is tied to the start only and the last to the end only (reference 03 §2.6).
    pub const fn new(source: &'static str) -> Self {
        Self {
            source,
            anchored: false,
            compiled: OnceLock::new(),
        }
    }

    /// A pattern that brings its own anchors.
    pub const fn anchored(source: &'static str) -> Self {
        Self {
            source,
            anchored: true,
            compiled: OnceLock::new(),
        }
    }

    /// The pattern as the contract has it.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// Whether a text matches. A pattern that does not compile matches nothing; a test sees to it that all of the
    /// contract's do.
    pub fn matches(&self, text: &str) -> bool {
        self.regex().is_some_and(|regex| regex.is_match(text))
    }

    /// The compiled pattern, `None` if it is no regular expression.
    pub fn regex(&self) -> Option<&Regex> {
        self.compiled
            .get_or_init(|| {
                let text = if self.anchored {
                    self.source.to_owned()
                } else {
                    format!("^{}$", self.source)
                };
                RegexBuilder::new(&text).size_limit(SIZE_LIMIT).build().ok()
            })
            .as_ref()
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_are_not_grouped() {
        let pattern = Pattern::new(r"/dev/parport\d+|/dev/usb/lp\d+");
        assert!(pattern.matches("/dev/parport0;x"));
        assert!(pattern.matches("x/dev/usb/lp0"));
        assert!(!pattern.matches("x/dev/parport0"));
    }

    #[test]
    fn what_is_no_pattern_matches_nothing() {
        assert!(!Pattern::new("(").matches("("));
    }
}
