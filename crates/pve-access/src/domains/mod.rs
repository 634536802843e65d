//! `domains.cfg`: the realms (reference 02 §5.3). Changing them is in [`edit`]; what
//! connects to a directory is in [`crate::ldap`].

pub mod edit;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pve_cfs::Cfs;
use pve_contract::{id, method};
use pve_schema::check;
use pve_schema::ids::UserId;
use pve_schema::schema::Kind;
use pve_schema::section_config::{self, Header, Row, Section, SectionFile, SectionFormat, Use};
use serde_json::{Map, Value, json};

use crate::error::AccessError;
use crate::store::DOMAINS_CFG;

/// The option that asks for a second factor.
const TFA: &str = "tfa";

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
    /// All of them.
    const ALL: [Self; 5] = [Self::Pam, Self::Pve, Self::Ldap, Self::Ad, Self::OpenId];

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

    /// The type of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
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

use RealmKind::{Ad, Ldap, OpenId, Pam, Pve};

/// The realms that are always there: name, type, comment unless another is set.
const BUILTIN: [(&str, RealmKind, &str); 2] = [
    ("pve", Pve, "Proxmox VE authentication server"),
    ("pam", Pam, "Linux PAM standard authentication"),
];

const DIRECTORIES: &[RealmKind] = &[Ldap, Ad];

/// Every option, and the types that have it.
const TABLE: &[Row<RealmKind>] = &[
    ("default", &[(&RealmKind::ALL, Use::OPTIONAL)]),
    ("comment", &[(&RealmKind::ALL, Use::OPTIONAL)]),
    ("tfa", &[(&[Ldap, Ad, Pam, Pve], Use::OPTIONAL)]),
    ("server1", &[(DIRECTORIES, Use::REQUIRED)]),
    ("server2", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("port", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("mode", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("secure", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("sslversion", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("verify", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("capath", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("cert", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("certkey", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("base_dn", &[(&[Ldap], Use::REQUIRED), (&[Ad], Use::OPTIONAL)]),
    ("user_attr", &[(&[Ldap], Use::REQUIRED), (&[Ad], Use::OPTIONAL)]),
    ("bind_dn", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("password", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("domain", &[(&[Ad], Use::REQUIRED)]),
    ("filter", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("group_filter", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("sync_attributes", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("user_classes", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("group_classes", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("group_dn", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("group_name_attr", &[(DIRECTORIES, Use::OPTIONAL)]),
    ("sync-defaults-options", &[(DIRECTORIES, Use::OPTIONAL)]),
    // Upstream knows it for directories alone; here every realm with passwords of its own may say so.
    ("case-sensitive", &[(&[Ldap, Ad, Pam, Pve], Use::OPTIONAL)]),
    ("issuer-url", &[(&[OpenId], Use::REQUIRED)]),
    ("client-id", &[(&[OpenId], Use::REQUIRED)]),
    ("client-key", &[(&[OpenId], Use::OPTIONAL)]),
    ("autocreate", &[(&[OpenId], Use::OPTIONAL)]),
    ("username-claim", &[(&[OpenId], Use::FIXED)]),
    ("groups-claim", &[(&[OpenId], Use::OPTIONAL)]),
    ("groups-autocreate", &[(&[OpenId], Use::OPTIONAL)]),
    ("groups-overwrite", &[(&[OpenId], Use::OPTIONAL)]),
    ("prompt", &[(&[OpenId], Use::OPTIONAL)]),
    ("scopes", &[(&[OpenId], Use::OPTIONAL)]),
    ("acr-values", &[(&[OpenId], Use::OPTIONAL)]),
    ("audiences", &[(&[OpenId], Use::OPTIONAL)]),
    ("query-userinfo", &[(&[OpenId], Use::OPTIONAL)]),
];

/// What the file may hold. What values may look like is told by the method that makes realms.
fn format() -> &'static SectionFormat {
    static FORMAT: LazyLock<SectionFormat> = LazyLock::new(|| {
        let mut format = SectionFormat::new(DOMAINS_CFG).escaped_comment();
        format.check_header = check_header;
        format.value = |_, key, schema, text| {
            // A second factor that is spelt wrong is still one that must not be passed by.
            if key != TFA {
                check::text(schema, text, key)?;
            }
            Ok(Some(text.to_owned()))
        };
        format.table(&RealmKind::ALL, RealmKind::as_str, TABLE, |key| {
            Some(method(id::POST_ACCESS_DOMAINS).parameter(key)?.schema)
        })
    });
    &FORMAT
}

/// A realm is what may stand behind the `@` of a user.
fn check_header(header: &mut Header) -> Result<(), String> {
    header.kind = header.kind.to_lowercase();
    let user: Result<UserId, _> = format!("x@{}", header.id).parse();
    user.map(|_| ()).map_err(|error| error.to_string())
}

impl Domains {
    /// Loads the realms.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(cfs: &Cfs) -> Result<std::sync::Arc<Self>, AccessError> {
        let made = cfs.cached(DOMAINS_CFG, "domains", |bytes, _| {
            Self::parse(bytes.unwrap_or_default())
        })?;
        Ok(made)
    }

    /// Reads the file's content. What does not fit is left out, with a warning in the log.
    pub fn parse(bytes: &[u8]) -> Self {
        let file = SectionFile::parse(format(), bytes);
        for warning in &file.warnings {
            log::warn!("{warning}");
        }
        let realms = file
            .sections()
            .filter_map(|section| Some((section.id.clone(), Realm::of(section)?)));
        let mut domains = Self {
            realms: realms.collect(),
            digest: file.digest.clone(),
        };
        domains.complete();
        domains
    }

    /// Adds what is always there.
    fn complete(&mut self) {
        for (name, kind, comment) in BUILTIN {
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

    /// The realm whose groups have names like this: `NAME-REALM`. Of two whose names end alike it is the one with the longer
    /// name: of `corp` and `x-corp`, `admins-x-corp` is the second one's.
    pub fn owner_of_group(&self, group: &str) -> Option<&str> {
        let is_of = |realm: &&str| {
            let name = group.strip_suffix(realm).and_then(|rest| rest.strip_suffix('-'));
            name.is_some_and(|name| !name.is_empty())
        };
        let realms = self.realms.keys().map(String::as_str);
        realms.filter(is_of).max_by_key(|realm| realm.len())
    }

    /// The file's digest.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl Realm {
    /// The realm of a section; `None` if that is of another type.
    fn of(section: &Section) -> Option<Self> {
        let options = section.iter().filter_map(|(key, value)| match value {
            section_config::Value::Text(text) => Some((key.to_owned(), text.clone())),
            // No option of a realm is an array.
            section_config::Value::List(_) => None,
        });
        Some(Self {
            kind: RealmKind::parse(&section.kind)?,
            options: options.collect(),
        })
    }

    /// An option that is set to something.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options
            .get(key)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// Whether `Alice` and `alice` are two users.
    pub fn is_case_sensitive(&self) -> bool {
        self.options.get("case-sensitive").is_none_or(|value| value != "0")
    }

    /// The second factor that all users of the realm must have: the word after `type=`.
    pub fn required_factor(&self) -> Option<&str> {
        self.tfa_option("type")
    }

    /// A word of the option that asks for a second factor.
    pub fn tfa_option(&self, name: &str) -> Option<&str> {
        let parts = self.options.get(TFA)?.split(',');
        let mut pairs = parts.filter_map(|part| part.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All options with their JSON types.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, text) in &self.options {
            let kind = format().schema(key).map(|schema| schema.kind);
            let value = match text.parse::<i64>() {
                Ok(number) if matches!(kind, Some(Kind::Boolean | Kind::Integer)) => json!(number),
                _ => json!(text),
            };
            object.insert(key.clone(), value);
        }
        object.insert("type".to_owned(), json!(self.kind.as_str()));
        object
    }
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
            b"LDAP: corp\n\tcomment Lab%3A main\n\tserver1 10.0.0.1\n\tbase_dn dc=x\n\tuser_attr uid\n\tport 636\n\tport 1\n\tdefault\n\ttfa type=oath\n\
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

    /// Reference 03 §3.2.
    #[test]
    fn what_does_not_fit_a_realm_is_left_out() {
        let domains = Domains::parse(
            b"ldap: half\n\tserver1 10.0.0.1\n\npve: pve\n\tserver1 10.0.0.1\n\tbogus 1\n\tdefault yes\n\ttfa type=oath,x=\n\
              \tcomment a\n\nopenid: sso\n\tissuer-url https://id\n\tclient-id pve\n\tautocreate\n",
        );
        assert!(domains.get("half").is_none());
        let pve = domains.get("pve").unwrap();
        assert_eq!(
            Value::Object(pve.to_json()),
            json!({ "type": "pve", "comment": "a", "tfa": "type=oath,x=" })
        );
        assert_eq!(pve.required_factor(), Some("oath"), "not passed by for a typing error");
        assert_eq!(domains.get("sso").unwrap().to_json()["autocreate"], 1);
    }

    #[test]
    fn a_group_is_the_realms_with_the_longest_name_that_fits() {
        let domains = Domains::parse(
            b"openid: corp\n\tissuer-url https://a\n\tclient-id a\n\nopenid: x-corp\n\tissuer-url https://b\n\tclient-id b\n",
        );
        for (group, owner) in [
            ("admins-corp", Some("corp")),
            ("admins-x-corp", Some("x-corp")),
            ("admins-y-corp", Some("corp")),
            ("x-corp", Some("corp")),
            ("-x-corp", Some("corp")),
            ("-corp", None),
            ("admins-pam", Some("pam")),
            ("admins", None),
            ("adminscorp", None),
        ] {
            assert_eq!(domains.owner_of_group(group), owner, "{group}");
        }
    }

    #[test]
    fn the_contract_declares_every_option() {
        for (key, _) in TABLE {
            assert!(format().schema(key).is_some(), "{key}");
        }
    }
}
