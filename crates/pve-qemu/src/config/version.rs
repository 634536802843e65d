//! Versions of QEMU and of machine types.

use std::fmt;

/// A version, `10.0` or `10.0.2`; the patch level does not count in comparisons of machine types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub micro: u32,
}

impl Version {
    /// A version without a patch level.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, micro: 0 }
    }

    /// Reads `10.0`, `10.0.2`, or more numbers, of which three count.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten()
        });
        let major = numbers.next()??;
        let minor = numbers.next()??;
        let micro = match numbers.next() {
            Some(number) => number?,
            None => 0,
        };
        numbers
            .all(|number| number.is_some())
            .then_some(Self { major, minor, micro })
    }

    /// Whether this is at least that release.
    pub fn at_least(self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.micro > 0 {
            write!(f, ".{}", self.micro)?;
        }
        Ok(())
    }
}
