//! `datacenter.cfg`: the options that hold for all nodes (reference 04 §8.1). Every crate above asks for some of them,
//! so they are read here, once; what an option means is the affair of the crate that asks.

use std::sync::Arc;

use pve_contract::id;
use pve_schema::digest;
use pve_schema::property_string::{self, Properties};
use pve_schema::schema::{Format, PropertyFormat, find_parameter};
use pve_schema::simple_config::{SimpleConfig, SimpleFormat};

use crate::{Cfs, CfsError};

/// The file, below `/etc/pve`.
pub const FILE: &str = "datacenter.cfg";

/// How the file is laid out: its keys are the parameters of the method that sets them.
pub fn format() -> SimpleFormat {
    SimpleFormat {
        file: FILE,
        keys: pve_contract::method(id::PUT_CLUSTER_OPTIONS).parameters,
        blank_after_description: false,
    }
}

/// Reads the file's text. A line `crs:` without a value, which some releases wrote, counts as none.
pub fn parse(text: &str) -> SimpleConfig {
    let is_empty_crs = |line: &&str| {
        let pair = line.trim().split_once(':');
        pair.is_some_and(|(key, value)| key.trim_end() == "crs" && value.trim().is_empty())
    };
    if !text.lines().any(|line| is_empty_crs(&line)) {
        return SimpleConfig::parse(&format(), text);
    }
    let others: Vec<&str> = text.lines().filter(|line| !is_empty_crs(line)).collect();
    let mut options = SimpleConfig::parse(&format(), &others.join("\n"));
    options.digest = digest::of(text.as_bytes());
    options.warnings.push(format!("ignoring empty 'crs:' line in {FILE}"));
    options
}

/// The options, as they are now. Lines that are wrong count as absent, and so does a missing file.
#[derive(Debug, Clone, Default)]
pub struct Datacenter {
    options: SimpleConfig,
}

impl Datacenter {
    /// Reads the options, from memory if the file is as it was.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(cfs: &Cfs) -> Result<Arc<Self>, CfsError> {
        cfs.cached(FILE, "options", |bytes, _| {
            let text = String::from_utf8_lossy(bytes.unwrap_or_default());
            let options = parse(&text);
            // Once for each change of the file: as long as it stays as it is, it is not read again.
            for warning in &options.warnings {
                log::warn!("{warning}");
            }
            Self { options }
        })
    }

    /// An option as it is written.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.options.text(key)
    }

    /// An option that is a property string, by the rules that the contract has for it; empty when it is not set or
    /// breaks them.
    pub fn properties(&self, key: &str) -> Properties {
        let parsed = property_format(key)
            .zip(self.text(key))
            .and_then(|(format, text)| property_string::parse(format, text).ok());
        parsed.unwrap_or_default()
    }

    /// All options, the description among them.
    pub fn options(&self) -> &SimpleConfig {
        &self.options
    }
}

/// The rules of an option that is a property string; `None` for any other.
pub fn property_format(key: &str) -> Option<&'static PropertyFormat> {
    match find_parameter(format().keys, key)?.schema.format {
        Some(Format::Properties(format)) => Some(format),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §8.1.
    #[test]
    fn an_empty_crs_line_is_ignored() {
        let text = "#a\nconsole: html5\n crs :  \nlanguage: de\n";
        let options = parse(text);
        assert_eq!(options.warnings, ["ignoring empty 'crs:' line in datacenter.cfg"]);
        assert_eq!(options.digest, digest::of(text.as_bytes()));
        assert_eq!(
            options.write(&format()).unwrap(),
            "#a\nconsole: html5\nlanguage: de\n",
            "it is gone with the next change"
        );
        let options = parse("crs: ha=static\n");
        assert_eq!((options.text("crs"), options.warnings.len()), (Some("ha=static"), 0));
    }

    #[test]
    fn options_are_read_and_those_that_are_wrong_are_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let cfs = Cfs::new(&pve_testing::context(directory.path(), "n1"));
        cfs.ensure_tree().unwrap();
        assert_eq!(Datacenter::read(&cfs).unwrap().text("console"), None);
        let text =
            "console: html5\nkeyboard: martian\nnext-id: lower=200,upper=300\nu2f: bogus=1\nreplication: insecure\n";
        cfs.write(FILE, text.as_bytes()).unwrap();
        let datacenter = Datacenter::read(&cfs).unwrap();
        assert_eq!(datacenter.text("console"), Some("html5"));
        assert_eq!(datacenter.text("keyboard"), None);
        assert_eq!(datacenter.properties("next-id").integer("upper"), Some(300));
        assert_eq!(datacenter.properties("u2f").get("appid"), None);
        assert_eq!(datacenter.properties("migration").get("type"), None);
        assert_eq!(datacenter.properties("replication").get("type"), Some("insecure"));
    }
}
