//! How long tasks wait: the kernel's pressure stall information.

use std::path::Path;

/// Per cent of the last ten seconds in which tasks waited; `None` where the kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: Option<f64>,
    /// All tasks waited.
    pub full: Option<f64>,
}

impl Pressure {
    /// Reads one of the machine's files: `cpu`, `io` or `memory`.
    pub fn read(resource: &str) -> Self {
        Self::parse(&super::text(Path::new("/proc/pressure").join(resource)))
    }

    /// The text of such a file.
    pub fn parse(text: &str) -> Self {
        let mut pressure = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let field = match words.next() {
                Some("some") => &mut pressure.some,
                Some("full") => &mut pressure.full,
                _ => continue,
            };
            *field = words.find_map(|word| word.strip_prefix("avg10=")?.parse().ok());
        }
        pressure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §20, vector 10.
    #[test]
    fn the_last_ten_seconds_count() {
        let text =
            "some avg10=1.25 avg60=0.50 avg300=0.10 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        let expected = Pressure {
            some: Some(1.25),
            full: Some(0.0),
        };
        assert_eq!(Pressure::parse(text), expected);
        assert_eq!(Pressure::parse("some avg60=1\n"), Pressure::default());
        assert_eq!(Pressure::read("no-such-resource"), Pressure::default());
    }
}
