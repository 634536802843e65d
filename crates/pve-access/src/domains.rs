//! `domains.cfg`: the realms (reference 02 §5.3). Reading alone; realms are changed once LDAP, AD and OpenID are here.

use std::collections::BTreeMap;

use pve_cfs::Cfs;
use pve_schema::text;
use serde_json::{Map, Value, json};

use crate::error::AccessError;
use crate::store::{self, DOMAINS_CFG};

/// Where the passwords of a realm are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RealmKind {
    /// The machine's own users.
    Pam,
    /// `priv/shadow.cfg`.
    Pve,
    /// An LDAP server.
    Ldap,
    /// An Active Directory.
    Ad,
    /// An OpenID Connect provider.
    OpenId,
}

impl RealmKind {
    /// The section type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pam => "pam",
            Self::Pve => "pve",
            Self::Ldap => "ldap",
            Self::Ad => "ad",
            Self::OpenId => "openid",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Pam, Self::Pve, Self::Ldap, Self::Ad, Self::OpenId];
        all.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text))
    }
}

/// A realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// Its type.
    pub kind: RealmKind,
    /// Its options as they stand in the file, the comment decoded.
    pub options: BTreeMap<String, String>,
}

/// The realms, `pam` and `pve` always among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domains {
    realms: BTreeMap<String, Realm>,
    digest: String,
}

/// Options that are booleans, and those that are numbers.
const BOOLEANS: [&str; 9] = [
    "default",
    "secure",
    "verify",
    "case-sensitive",
    "autocreate",
    "groups-autocreate",
    "groups-overwrite",
    "query-userinfo",
    "check-connection",
];
const NUMBERS: [&str; 1] = ["port"];

impl Domains {
    /// Loads the realms.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(cfs: &Cfs) -> Result<std::sync::Arc<Self>, AccessError> {
        let made = store::cached(cfs, DOMAINS_CFG, "domains", |bytes, _| {
            Self::parse(bytes.unwrap_or_default())
        })?;
        Ok(made)
    }

    /// Reads the file's content.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut realms = BTreeMap::new();
        let mut section: Option<(String, Realm)> = None;
        let mut skipping = false;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() {
                realms.extend(section.take());
                skipping = false;
            } else if line.trim_start().starts_with('#') || skipping {
            } else if let Some((_, realm)) = &mut section {
                option(realm, line, index + 1);
            } else {
                section = header(line);
                if section.is_none() {
                    log::warn!("file {DOMAINS_CFG} line {} - ignore config line: {line}", index + 1);
                    skipping = true;
                }
            }
        }
        realms.extend(section);
        let mut domains = Self {
            realms,
            digest: pve_schema::digest::of(bytes),
        };
        domains.complete();
        domains
    }

    /// Adds what is always there.
    fn complete(&mut self) {
        for (name, kind, comment) in [
            ("pve", RealmKind::Pve, "Proxmox VE authentication server"),
            ("pam", RealmKind::Pam, "Linux PAM standard authentication"),
        ] {
            let realm = self.realms.entry(name.to_owned()).or_insert_with(|| Realm {
                kind,
                options: BTreeMap::new(),
            });
            realm.kind = kind;
            realm
                .options
                .entry("comment".to_owned())
                .or_insert_with(|| comment.to_owned());
            if kind == RealmKind::Pam {
                realm.options.insert("plugin".to_owned(), "PVE::Auth::PAM".to_owned());
            }
        }
        let mut is_taken = false;
        for realm in self.realms.values_mut() {
            let is_default = realm.options.get("default").is_some_and(|value| value == "1");
            if is_default && is_taken {
                realm.options.remove("default");
            }
            is_taken |= is_default;
        }
    }

    /// A realm.
    pub fn get(&self, realm: &str) -> Option<&Realm> {
        self.realms.get(realm)
    }

    /// A realm that must exist, for a password check.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn require(&self, realm: &str) -> Result<&Realm, AccessError> {
        self.get(realm)
            .ok_or_else(|| AccessError::NoSuchRealm(realm.to_owned()))
    }

    /// All realms, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Realm)> {
        self.realms.iter().map(|(name, realm)| (name.as_str(), realm))
    }

    /// The file's digest.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl Realm {
    /// Whether `Alice` and `alice` are two users.
    pub fn is_case_sensitive(&self) -> bool {
        self.options.get("case-sensitive").is_none_or(|value| value != "0")
    }

    /// The second factor that all users of the realm must have: the word after `type=`.
    pub fn required_factor(&self) -> Option<&str> {
        let tfa = self.options.get("tfa")?;
        tfa.split(',').find_map(|part| part.trim().strip_prefix("type="))
    }

    /// All options with their JSON types.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, text) in &self.options {
            let is_number = BOOLEANS.contains(&key.as_str()) || NUMBERS.contains(&key.as_str());
            let value = match text.parse::<i64>() {
                Ok(number) if is_number => json!(number),
                _ => json!(text),
            };
            object.insert(key.clone(), value);
        }
        object.insert("type".to_owned(), json!(self.kind.as_str()));
        object
    }
}

/// Reads `TYPE: REALM`; `None` for anything else, for an unknown type and for a name that no realm can have.
fn header(line: &str) -> Option<(String, Realm)> {
    let (kind, name) = line.split_once(':')?;
    let kind = RealmKind::parse(kind)?;
    let name = name.trim();
    // A realm is what may stand behind the `@` of a user.
    format!("x@{name}").parse::<pve_schema::ids::UserId>().ok()?;
    let realm = Realm {
        kind,
        options: BTreeMap::new(),
    };
    Some((name.to_owned(), realm))
}

/// Reads `KEY VALUE` into a section.
fn option(realm: &mut Realm, line: &str, number: usize) {
    if !line.starts_with(char::is_whitespace) {
        log::warn!("file {DOMAINS_CFG} line {number} - ignore config line: {line}");
        return;
    }
    let line = line.trim();
    let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let value = match (key, value.trim()) {
        ("comment", value) => text::decode(value),
        (key, "") if BOOLEANS.contains(&key) => "1".to_owned(),
        (_, value) => value.to_owned(),
    };
    if realm.options.contains_key(key) {
        log::warn!("file {DOMAINS_CFG} line {number} - unable to parse value of '{key}': duplicate attribute");
        return;
    }
    realm.options.insert(key.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_has_the_two_realms_that_always_exist() {
        let domains = Domains::parse(b"");
        let names: Vec<&str> = domains.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["pam", "pve"]);
        // Reference 02 §16, vectors 32 and 90.
        assert_eq!(domains.digest(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(
            Value::Object(domains.get("pam").unwrap().to_json()),
            json!({
                "type": "pam",
                "plugin": "PVE::Auth::PAM",
                "comment": "Linux PAM standard authentication",
            })
        );
    }

    #[test]
    fn sections_end_at_an_empty_line_and_bad_ones_are_skipped() {
        let domains = Domains::parse(
            b"LDAP: corp\n\tcomment Lab%3A main\n\tserver1 10.0.0.1\n\tport 636\n\tport 1\n\tdefault\n\ttfa type=oath\n\
              \tcase-sensitive 0\npam: late\n\nweird: zz\n\tdefault 1\n\nad: 1x\n\npve: pve\n\tdefault 1\n",
        );
        let corp = domains.get("corp").unwrap();
        assert_eq!(corp.to_json()["comment"], "Lab: main");
        assert_eq!(
            (&corp.to_json()["port"], &corp.to_json()["default"]),
            (&json!(636), &json!(1))
        );
        assert_eq!(
            (corp.required_factor(), corp.is_case_sensitive()),
            (Some("oath"), false)
        );
        assert!(domains.get("late").is_none() && domains.get("zz").is_none() && domains.get("1x").is_none());
        assert!(!domains.get("pve").unwrap().options.contains_key("default"));
    }
}
