//! How a realm's directory is reached, from the realm's options (reference 02 §5.3).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::LdapError;
use crate::domains::{Realm, RealmKind};

/// Where certificates of authorities are unless told otherwise.
const DEFAULT_CA_PATH: &str = "/etc/ssl/certs";
/// The usual port, without TLS and with StartTLS.
const PORT: u16 = 389;
/// The usual port of LDAP inside TLS.
const TLS_PORT: u16 = 636;

/// A realm's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    /// Its servers; the second is asked when the first cannot be reached.
    pub(super) servers: Vec<String>,
    /// Their port.
    pub(super) port: u16,
    /// How it is spoken with.
    pub(super) mode: Mode,
    /// What is demanded of its certificate, and shown of ours.
    pub(super) tls: Tls,
    /// Who searches it.
    pub(super) searcher: Searcher,
}

/// How a directory is spoken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    /// In clear.
    Ldap,
    /// Inside TLS from the first byte.
    Ldaps,
    /// In clear until TLS was agreed upon, before anything else is said.
    StartTls,
}

/// What is demanded of a server's certificate, and shown of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tls {
    /// Whether the server must prove who it is.
    pub(super) verify: bool,
    /// File or directory with the certificates of who may vouch for it.
    pub(super) ca_path: PathBuf,
    /// Certificate and key by which this node proves who it is.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// The only version that is spoken: the option's word. By default any from 1.2 on.
    pub(super) version: Option<String>,
}

/// Who searches a directory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Searcher {
    /// Nobody in particular.
    Anonymous,
    /// Whoever our certificate says: nothing is said about it.
    Certificate,
    /// A user of the directory.
    Named {
        /// Its name.
        dn: String,
        /// Its password.
        password: String,
    },
}

impl std::fmt::Debug for Searcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Certificate => f.write_str("Certificate"),
            Self::Named { dn, .. } => write!(f, "Named({dn})"),
        }
    }
}

impl Directory {
    /// The directory of a realm; `password` is the one that it is searched with.
    ///
    /// # Errors
    /// A name to search with and no password, or no server.
    pub(super) fn of(name: &str, realm: &Realm, password: Option<String>) -> Result<Self, LdapError> {
        let option = |key: &str| realm.option(key).map(str::to_owned);
        let is_set = |key: &str| realm.option(key) == Some("1");
        let mode = match realm.option("mode") {
            Some("ldaps") => Mode::Ldaps,
            Some("ldap+starttls") => Mode::StartTls,
            None if is_set("secure") => Mode::Ldaps,
            _ => Mode::Ldap,
        };
        let usual = if mode == Mode::Ldaps { TLS_PORT } else { PORT };
        let servers: Vec<String> = ["server1", "server2"].into_iter().filter_map(option).collect();
        if servers.is_empty() {
            return Err(LdapError::NoServer(name.to_owned()));
        }
        let identity = option("cert").zip(option("certkey"));
        Ok(Self {
            servers,
            port: option("port").and_then(|port| port.parse().ok()).unwrap_or(usual),
            mode,
            searcher: match (option("bind_dn"), &identity) {
                (Some(dn), _) => Searcher::Named {
                    dn,
                    password: password
                        // A bind without password is an anonymous one, whatever the name.
                        .filter(|password| !password.is_empty())
                        .ok_or_else(|| LdapError::NoBindPassword(name.to_owned()))?,
                },
                (None, Some(_)) => Searcher::Certificate,
                (None, None) => Searcher::Anonymous,
            },
            tls: Tls {
                verify: is_set("verify"),
                ca_path: realm.option("capath").unwrap_or(DEFAULT_CA_PATH).into(),
                identity: identity.map(|(cert, key)| (cert.into(), key.into())),
                version: option("sslversion"),
            },
        })
    }
}

/// How a user of a directory proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Proof {
    /// Its entry is looked for, and its name is the one to bind with.
    Entry {
        /// Where to look.
        base: String,
        /// How to tell it.
        filter: String,
    },
    /// The name to bind with is made from the user's.
    Name(String),
}

impl Proof {
    /// How a user of a realm proves who it is (reference 02 §7.3).
    pub(super) fn of(realm: &Realm, user: &str) -> Self {
        let option = |key: &str| realm.option(key).unwrap_or_default();
        if realm.kind == RealmKind::Ad {
            return Self::Name(match user.contains('@') {
                true => user.to_owned(),
                false => format!("{user}@{}", option("domain")),
            });
        }
        Self::Entry {
            base: option("base_dn").to_owned(),
            filter: format!("({}={})", option("user_attr"), ldap3::ldap_escape(user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm(kind: RealmKind, options: &[(&str, &str)]) -> Realm {
        let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        Realm {
            kind,
            options: options.collect(),
        }
    }

    #[test]
    fn mode_and_port_follow_from_the_options() {
        for (options, mode, port) in [
            (&[][..], Mode::Ldap, 389),
            (&[("mode", "ldap"), ("secure", "1")], Mode::Ldap, 389),
            (&[("secure", "1")], Mode::Ldaps, 636),
            (&[("secure", "0")], Mode::Ldap, 389),
            (&[("mode", "ldaps")], Mode::Ldaps, 636),
            (&[("mode", "ldaps"), ("port", "1636")], Mode::Ldaps, 1636),
            (&[("mode", "ldap+starttls")], Mode::StartTls, 389),
        ] {
            let all = [&[("server1", "a")], options].concat();
            let directory = Directory::of("corp", &realm(RealmKind::Ldap, &all), None).unwrap();
            assert_eq!((directory.mode, directory.port), (mode, port), "{options:?}");
        }
    }

    #[test]
    fn who_searches_follows_from_the_options() {
        let certificate = [("cert", "/c"), ("certkey", "/k")];
        let named = [("bind_dn", "cn=r")];
        let searcher = |options: &[(&str, &str)], password: Option<&str>| {
            let all = [&[("server1", "a")], options].concat();
            Directory::of("corp", &realm(RealmKind::Ldap, &all), password.map(str::to_owned))
                .map(|directory| directory.searcher)
                .map_err(|error| error.to_string())
        };
        let as_named = Searcher::Named {
            dn: "cn=r".to_owned(),
            password: "p".to_owned(),
        };
        assert_eq!(searcher(&[], Some("unused")), Ok(Searcher::Anonymous));
        assert_eq!(searcher(&certificate[..1], None), Ok(Searcher::Anonymous));
        assert_eq!(searcher(&certificate, None), Ok(Searcher::Certificate));
        assert_eq!(searcher(&named, Some("p")), Ok(as_named.clone()));
        assert_eq!(
            searcher(&[certificate[0], certificate[1], named[0]], Some("p")),
            Ok(as_named.clone())
        );
        let missing = Err("missing password for realm corp".to_owned());
        assert_eq!(searcher(&named, None), missing);
        assert_eq!(searcher(&named, Some("")), missing);
        assert_eq!(
            format!("{as_named:?}"),
            "Named(cn=r)",
            "the password is for nobody's eyes"
        );
    }

    /// RFC 4515 §3.
    #[test]
    fn a_name_cannot_change_the_filter() {
        let corp = realm(RealmKind::Ldap, &[("base_dn", "dc=x"), ("user_attr", "uid")]);
        for (user, filter) in [
            ("alice", "(uid=alice)"),
            ("*", r"(uid=\2a)"),
            ("a)(uid=*", r"(uid=a\29\28uid=\2a)"),
            ("a\\b", r"(uid=a\5cb)"),
            ("jörg", "(uid=jörg)"),
        ] {
            let entry = Proof::Entry {
                base: "dc=x".to_owned(),
                filter: filter.to_owned(),
            };
            assert_eq!(Proof::of(&corp, user), entry);
        }
    }

    #[test]
    fn users_of_a_domain_bind_by_name() {
        let ad = realm(RealmKind::Ad, &[("domain", "lab.example"), ("base_dn", "dc=x")]);
        for (user, name) in [("alice", "alice@lab.example"), ("alice@other", "alice@other")] {
            assert_eq!(Proof::of(&ad, user), Proof::Name(name.to_owned()));
        }
    }
}
