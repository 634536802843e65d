//! `corosync.conf`: who belongs to the cluster, as its members' messaging layer is told (reference 04 §5).
//!
//! ```text
//! NAME {          a section; `node` and `interface` may be there several times
//!   KEY: VALUE    one word each; all values are kept as text
//! }
//! ```
//!
//! Not here: changing it. A node that is alone has no such file, and its presence is what makes a cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pve_schema::{Failure, digest};

use crate::{Cfs, CfsError};

/// The file below `/etc/pve`.
pub const FILE: &str = "corosync.conf";
/// Sections that may be there several times.
const REPEATED: [&str; 2] = ["node", "interface"];

/// What a section holds.
pub type Section = BTreeMap<String, Item>;

/// One thing in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A value.
    Text(String),
    /// A section.
    Section(Section),
    /// Sections of one name, by what tells them apart: a node's name, an interface's number.
    Several(BTreeMap<String, Section>),
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorosyncConf {
    /// The sections.
    pub main: Section,
    /// SHA-1 of the file's bytes, in hex.
    pub digest: String,
}

/// What is wrong with a file. The texts are upstream's, spelling included.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorosyncError {
    /// A brace too many.
    #[error("parse error - uncexpected '}}'")]
    Brace,
    /// A word that is neither a key nor a section's name.
    #[error("missing ':' after key '{0}'")]
    Colon(String),
    /// A key at the end of the file.
    #[error("parse error - no value for '{0}'")]
    NoValue(String),
    /// A section that may be there once.
    #[error("section '{0}' already exists and not marked as array!")]
    Repeated(String),
    /// Sections in sections, without end.
    #[error("parse error - too many sections")]
    Depth,
}

impl Failure for CorosyncError {}

/// How deep sections may be nested. Corosync knows four levels.
const MAX_DEPTH: usize = 16;

/// A node of a cluster that is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number; 1 unless given.
    pub id: Option<u32>,
    /// Its votes; 1 unless given.
    pub votes: Option<u32>,
    /// Its address, where no link is given.
    pub address: &'a str,
    /// The links: number, address, priority.
    pub links: &'a [(u8, &'a str, Option<u8>)],
}

impl Cfs {
    /// The cluster's `corosync.conf`; `None` on a node that is alone.
    ///
    /// # Errors
    /// As [`Cfs::read`]; [`CfsError::Corosync`].
    pub fn corosync(&self) -> Result<Option<CorosyncConf>, CfsError> {
        let Some(bytes) = self.read(FILE)? else { return Ok(None) };
        let parsed = CorosyncConf::parse(&bytes)?;
        Ok((!parsed.main.is_empty()).then_some(parsed))
    }
}

impl CorosyncConf {
    /// Takes a file apart. A closing brace that is missing at its end is no error.
    ///
    /// # Errors
    /// [`CorosyncError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CorosyncError> {
        let text = String::from_utf8_lossy(bytes);
        let words: Vec<&str> = text
            .lines()
            .flat_map(|line| line.split('#').next().unwrap_or_default().split_ascii_whitespace())
            .collect();
        let mut words = words.as_slice();
        let mut main = section(&mut words, 0)?;
        name_sections(&mut main, "nodelist", "node", ["name", "ring0_addr"]);
        name_sections(&mut main, "totem", "interface", ["linknumber", "ringnumber"]);
        Ok(Self {
            main,
            digest: digest::of(bytes),
        })
    }

    /// The configuration of a cluster of one node.
    pub fn of_new_cluster(cluster: &str, node: &NewNode<'_>, token_coefficient: u32) -> Self {
        let fallback = [(0, node.address, None)];
        let links = if node.links.is_empty() {
            &fallback[..]
        } else {
            node.links
        };
        let mut own = texts([
            ("name", node.name.to_owned()),
            ("nodeid", node.id.unwrap_or(1).to_string()),
            ("quorum_votes", node.votes.unwrap_or(1).to_string()),
        ]);
        let mut interfaces = BTreeMap::new();
        for (number, address, priority) in links {
            own.insert(format!("ring{number}_addr"), Item::Text((*address).to_owned()));
            let mut interface = texts([("linknumber", number.to_string())]);
            if let Some(priority) = priority {
                interface.insert("knet_link_priority".to_owned(), Item::Text(priority.to_string()));
            }
            interfaces.insert(number.to_string(), interface);
        }
        let mut totem = texts([
            ("cluster_name", cluster.to_owned()),
            ("config_version", "1".to_owned()),
            ("ip_version", "ipv4-6".to_owned()),
            ("link_mode", "passive".to_owned()),
            ("secauth", "on".to_owned()),
            ("token_coefficient", token_coefficient.to_string()),
            ("version", "2".to_owned()),
        ]);
        totem.insert("interface".to_owned(), Item::Several(interfaces));
        let nodes = BTreeMap::from([(node.name.to_owned(), own)]);
        let logging = texts([("debug", "off".to_owned()), ("to_syslog", "yes".to_owned())]);
        let quorum = texts([("provider", "corosync_votequorum".to_owned())]);
        let main = [
            ("logging", logging),
            ("nodelist", Section::from([("node".to_owned(), Item::Several(nodes))])),
            ("quorum", quorum),
            ("totem", totem),
        ];
        let mut conf = Self {
            main: main
                .into_iter()
                .map(|(name, section)| (name.to_owned(), Item::Section(section)))
                .collect(),
            digest: String::new(),
        };
        conf.digest = digest::of(conf.print().as_bytes());
        conf
    }

    /// The file's text: keys sorted, an empty line after each section of the top level.
    pub fn print(&self) -> String {
        let mut out = String::new();
        print(&self.main, 0, &mut out);
        out
    }

    /// A section of the top level.
    pub fn section(&self, name: &str) -> Option<&Section> {
        match self.main.get(name)? {
            Item::Section(section) => Some(section),
            Item::Text(_) | Item::Several(_) => None,
        }
    }

    /// The nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&String, &Section)> {
        let nodes = self.section("nodelist").and_then(|list| match list.get("node")? {
            Item::Several(nodes) => Some(nodes),
            Item::Text(_) | Item::Section(_) => None,
        });
        nodes.into_iter().flatten()
    }
}

impl Item {
    /// A value's text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Section(_) | Self::Several(_) => None,
        }
    }
}

fn texts<const N: usize>(values: [(&str, String); N]) -> Section {
    let items = values.map(|(key, value)| (key.to_owned(), Item::Text(value)));
    items.into_iter().collect()
}

/// Reads words up to the end of a section, which may be that of the file.
fn section(words: &mut &[&str], depth: usize) -> Result<Section, CorosyncError> {
    let mut found = Section::new();
    while let Some((word, rest)) = words.split_first() {
        *words = rest;
        if *word == "}" {
            return if depth == 0 {
                Err(CorosyncError::Brace)
            } else {
                Ok(found)
            };
        }
        if rest.first() == Some(&"{") {
            if depth == MAX_DEPTH {
                return Err(CorosyncError::Depth);
            }
            *words = rest.get(1..).unwrap_or_default();
            let inner = section(words, depth + 1)?;
            add(&mut found, word, inner)?;
            continue;
        }
        let key = word
            .strip_suffix(':')
            .filter(|key| !key.is_empty())
            .ok_or_else(|| CorosyncError::Colon((*word).to_owned()))?;
        let (value, rest) = rest
            .split_first()
            .ok_or_else(|| CorosyncError::NoValue(key.to_owned()))?;
        *words = rest;
        found.insert(key.to_owned(), Item::Text((*value).to_owned()));
    }
    Ok(found)
}

/// Adds a section. Those that may be repeated are numbered, until they have names.
fn add(found: &mut Section, name: &str, inner: Section) -> Result<(), CorosyncError> {
    if !REPEATED.contains(&name) {
        return match found.insert(name.to_owned(), Item::Section(inner)) {
            None => Ok(()),
            Some(_) => Err(CorosyncError::Repeated(name.to_owned())),
        };
    }
    match found
        .entry(name.to_owned())
        .or_insert_with(|| Item::Several(BTreeMap::new()))
    {
        Item::Several(several) => {
            several.insert(format!("{:06}", several.len()), inner);
            Ok(())
        }
        Item::Text(_) | Item::Section(_) => Err(CorosyncError::Repeated(name.to_owned())),
    }
}

/// Gives repeated sections their names: the value of the first of these keys that they have. One without is nobody's.
fn name_sections(main: &mut Section, list: &str, name: &str, keys: [&str; 2]) {
    let Some(Item::Section(list)) = main.get_mut(list) else {
        return;
    };
    if let Some(Item::Several(several)) = list.get_mut(name) {
        let named = std::mem::take(several).into_values().filter_map(|section| {
            let name = keys.iter().find_map(|key| section.get(*key)?.text())?.to_owned();
            Some((name, section))
        });
        *several = named.collect();
        if several.is_empty() {
            list.remove(name);
        }
    }
}

fn print(section: &Section, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for (key, item) in section {
        let sections: Vec<&Section> = match item {
            Item::Text(value) => {
                // A String takes all that is written to it.
                let _ = writeln!(out, "{indent}{key}: {value}");
                continue;
            }
            Item::Section(section) => vec![section],
            Item::Several(several) => several.values().collect(),
        };
        for section in sections {
            let _ = writeln!(out, "{indent}{key} {{");
            print(section, depth + 1, out);
            let _ = writeln!(out, "{indent}}}");
            if depth == 0 {
                out.push('\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pve_schema::property_string;

    use super::*;

    const ALONE: &str = "logging {
  debug: off
  to_syslog: yes
}

nodelist {
  node {
    name: pve1
    nodeid: 1
    quorum_votes: 1
    ring0_addr: 192.0.2.10
  }
}

quorum {
  provider: corosync_votequorum
}

totem {
  cluster_name: lab
  config_version: 1
  interface {
    linknumber: 0
  }
  ip_version: ipv4-6
  link_mode: passive
  secauth: on
  token_coefficient: 125
  version: 2
}

";

    fn node<'a>(links: &'a [(u8, &'a str, Option<u8>)]) -> NewNode<'a> {
        NewNode {
            name: "pve1",
            id: None,
            votes: None,
            address: "192.0.2.10",
            links,
        }
    }

    /// Reference 04 §5.2: the exact file.
    #[test]
    fn a_new_clusters_file_is_upstreams_and_survives_parsing() {
        let conf = CorosyncConf::of_new_cluster("lab", &node(&[]), 125);
        assert_eq!(conf.print(), ALONE);
        assert_eq!(CorosyncConf::parse(ALONE.as_bytes()).unwrap(), conf);
    }

    /// Reference 04 §20, vectors 42 to 44.
    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        for (text, error) in [
            ("a b", "missing ':' after key 'a'"),
            ("}", "parse error - uncexpected '}'"),
            ("a:", "parse error - no value for 'a'"),
            ("a { b: c } }", "parse error - uncexpected '}'"),
            (":", "missing ':' after key ':'"),
            (
                "totem { } totem { }",
                "section 'totem' already exists and not marked as array!",
            ),
            (
                "node: x\nnode { }",
                "section 'node' already exists and not marked as array!",
            ),
        ] {
            assert_eq!(
                CorosyncConf::parse(text.as_bytes()).unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
        let deep = "a { ".repeat(10_000);
        assert_eq!(CorosyncConf::parse(deep.as_bytes()), Err(CorosyncError::Depth));
    }

    /// Reference 04 §20, vector 45.
    #[test]
    fn links_become_interfaces_and_addresses() {
        let format = pve_contract::property_format("cluster.config.link").unwrap();
        let links =
            ["10.1.0.1,priority=5", "address=10.2.0.1"].map(|text| property_string::parse(format, text).unwrap());
        let link = |at: usize| {
            let priority = links[at]
                .integer("priority")
                .map(|number| u8::try_from(number).unwrap());
            (u8::try_from(at).unwrap(), links[at].get("address").unwrap(), priority)
        };
        let links = [link(0), link(1)];
        let node = NewNode {
            id: Some(3),
            votes: Some(2),
            ..node(&links)
        };
        let text = CorosyncConf::of_new_cluster("lab", &node, 125).print();
        let interfaces =
            "  interface {\n    knet_link_priority: 5\n    linknumber: 0\n  }\n  interface {\n    linknumber: 1\n  }\n";
        let own = "  node {\n    name: pve1\n    nodeid: 3\n    quorum_votes: 2\n    ring0_addr: 10.1.0.1\n    ring1_addr: 10.2.0.1\n  }\n";
        for part in [interfaces, own, "  config_version: 1\n"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn repeated_sections_have_names_and_values_stay_text() {
        let text =
            "totem { version: 2 # two\n interface { ringnumber: 1 } interface { linknumber: 0 knet_link_priority: 5 } }
            nodelist { node { ring0_addr: b nodeid: 2 } node { name: a ring0_addr: x } node { nodeid: 9 }";
        let conf = CorosyncConf::parse(text.as_bytes()).unwrap();
        let names: Vec<&String> = conf.nodes().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
        let Item::Several(interfaces) = &conf.section("totem").unwrap()["interface"] else {
            panic!("{conf:?}");
        };
        assert_eq!(interfaces.keys().collect::<Vec<_>>(), ["0", "1"]);
        assert_eq!(conf.section("totem").unwrap()["version"].text(), Some("2"));
        assert_eq!(conf.digest, digest::of(text.as_bytes()));
        assert!(CorosyncConf::parse(b"# nothing\n").unwrap().main.is_empty());
    }

    #[test]
    fn sections_of_nobody_leave_nothing_behind() {
        let conf = CorosyncConf::parse(b"nodelist { node { } }").unwrap();
        assert_eq!(
            conf.main,
            Section::from([("nodelist".to_owned(), Item::Section(Section::new()))])
        );
        assert_eq!(CorosyncConf::parse(conf.print().as_bytes()).unwrap().main, conf.main);
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "([a-c:{} \n#]|node \\{ name: |nodelist \\{ ){0,40}") {
            if let Ok(conf) = CorosyncConf::parse(text.as_bytes()) {
                let again = CorosyncConf::parse(conf.print().as_bytes()).unwrap();
                proptest::prop_assert_eq!(again.print(), conf.print());
                proptest::prop_assert_eq!(again.main, conf.main);
            }
        }
    }
}
