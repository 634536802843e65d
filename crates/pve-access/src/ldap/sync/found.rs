//! What a directory told, as users and groups of ours (reference 02 §13.2).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ldap3::SearchEntry;
use pve_schema::ids::{InvalidUserId, UserId};

use super::plan::{Field, Plan};
use super::ranges;
use crate::ldap::client::values;
use crate::user_config::is_name;

/// Where groups tell their members; the first that is there counts.
pub(super) const MEMBERS: [&str; 2] = ["member", "uniqueMember"];

/// What a directory told of a user.
pub(super) type Given = BTreeMap<Field, String>;

/// What a directory told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Its users.
    pub(super) users: BTreeMap<UserId, Given>,
    /// Its groups with those of their members that are among its users.
    pub(super) groups: BTreeMap<String, BTreeSet<UserId>>,
    /// Those of its groups whose members it told in part, or by names that cannot be read.
    pub(super) half_told: BTreeSet<String>,
    /// Its users by the lower-cased name of their entry.
    pub(super) by_dn: HashMap<String, UserId>,
}

impl Found {
    /// Takes entries as users; `warn` hears of those that cannot be any.
    pub(super) fn add_users(&mut self, realm: &str, plan: &Plan, entries: &[SearchEntry], warn: &mut dyn FnMut(&str)) {
        for entry in entries {
            // An entry without name is of some other kind.
            let Some(name) = values(entry, &plan.user_attr).first() else {
                continue;
            };
            let name = format!("{name}@{realm}");
            let id: UserId = match name.parse() {
                Ok(id) => id,
                Err(error) => {
                    let error: InvalidUserId = error;
                    warn(&format!(
                        "skipping user '{}' - {}",
                        printable(&name),
                        printable(&error.to_string())
                    ));
                    continue;
                }
            };
            self.by_dn.insert(entry.dn.to_lowercase(), id.clone());
            let given = given(&id, plan, entry, warn);
            self.users.insert(id, given);
        }
    }

    /// Takes entries as groups.
    pub(super) fn add_groups(&mut self, realm: &str, plan: &Plan, entries: &[SearchEntry], warn: &mut dyn FnMut(&str)) {
        for entry in entries {
            let name = match &plan.group_name {
                Some(attribute) => values(entry, attribute).first().cloned(),
                None => first_value(&entry.dn),
            };
            let Some(name) = name.filter(|name| !name.is_empty()) else {
                warn(&format!("skipping group '{}' - it has no name", printable(&entry.dn)));
                continue;
            };
            let name = format!("{name}-{realm}");
            if !is_name(&name) {
                warn(&format!("skipping group '{}' - invalid name", printable(&name)));
                continue;
            }
            let members = MEMBERS.into_iter().map(|attribute| values(entry, attribute));
            let members = members.into_iter().find(|members| !members.is_empty());
            let members = members.into_iter().flatten();
            let known = members.filter_map(|dn| self.by_dn.get(&dn.to_lowercase()).cloned());
            self.groups.entry(name.clone()).or_default().extend(known);
            if is_half_told(entry) {
                warn(&format!(
                    "group '{name}' keeps the members that it has - not all could be read"
                ));
                self.half_told.insert(name);
            }
        }
    }
}

/// Whether members of a group are missing: parts of the list, or names that are no text.
fn is_half_told(entry: &SearchEntry) -> bool {
    let is_of = |name: &str| MEMBERS.iter().any(|member| name.eq_ignore_ascii_case(member));
    let is_part = |key: &String| ranges::attribute_of(key).is_some_and(is_of);
    let is_unreadable = |key: &String| key.split(';').next().is_some_and(is_of);
    entry.attrs.keys().any(is_part) || entry.bin_attrs.keys().any(is_unreadable)
}

/// What is told of a user: the first value of each attribute, if it can be one.
fn given(id: &UserId, plan: &Plan, entry: &SearchEntry, warn: &mut dyn FnMut(&str)) -> Given {
    let mut given = Given::new();
    for (attribute, field) in &plan.fields {
        let Some(value) = values(entry, attribute).first() else {
            continue;
        };
        if given.contains_key(field) {
            continue;
        }
        match field.read(value) {
            Ok(value) => {
                given.insert(*field, value);
            }
            Err(reason) => warn(&format!(
                "skipping attribute '{attribute}' of user '{id}' - {}",
                printable(reason.trim_end())
            )),
        }
    }
    given
}

/// The value of the first part of an entry's place: `cn=Admins,ou=x` → `Admins` (RFC 4514).
fn first_value(dn: &str) -> Option<String> {
    let (_, rest) = dn.split_once('=')?;
    let mut value = Vec::new();
    let mut rest = rest.as_bytes();
    loop {
        rest = match rest {
            [] | [b',' | b'+' | b';', ..] => break,
            // Two digits are a byte; whatever else follows means nothing but itself.
            [b'\\', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                value.extend(hex::decode([*high, *low]).unwrap_or_default());
                rest
            }
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                value.push(*byte);
                rest
            }
        };
    }
    // What is no text is no name either: that is for whoever checks names.
    Some(String::from_utf8_lossy(&value).trim().to_owned())
}

/// What a directory says, fit for a line of a log.
fn printable(text: &str) -> String {
    crate::access_control::printable(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::{Realm, RealmKind};

    fn entry(dn: &str, attributes: &[(&str, &[&str])]) -> SearchEntry {
        let attributes = attributes.iter().map(|(name, values)| {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            (name.to_string(), values)
        });
        SearchEntry {
            dn: dn.to_owned(),
            attrs: attributes.collect(),
            bin_attrs: HashMap::new(),
        }
    }

    fn plan(options: &[(&str, &str)]) -> Plan {
        let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let realm = Realm {
            kind: RealmKind::Ldap,
            options: options.collect(),
        };
        Plan::of(&realm, &mut |_| ())
    }

    #[test]
    fn entries_become_users_and_groups() {
        let plan = plan(&[("sync_attributes", "email=mail,firstname=givenName")]);
        let mut found = Found::default();
        let mut warnings = Vec::new();
        let mut warn = |text: &str| warnings.push(text.to_owned());
        found.add_users(
            "corp",
            &plan,
            &[
                entry(
                    "uid=Alice,ou=P,dc=x",
                    &[
                        ("UID", &["alice", "second"]),
                        ("mail", &["alice@example.org"]),
                        ("email", &["other@example.org"]),
                        ("givenname", &["Alice"]),
                    ],
                ),
                entry("uid=b b,dc=x", &[("uid", &["b b"])]),
                entry(
                    "uid=bob,dc=x",
                    &[("uid", &["bob"]), ("mail", &["no mail"]), ("expire", &["7"])],
                ),
                entry("cn=nobody,dc=x", &[("mail", &["n@example.org"])]),
            ],
            &mut warn,
        );
        found.add_groups(
            "corp",
            &plan,
            &[
                entry(
                    "cn=Admins,dc=x",
                    &[("member", &["UID=alice,ou=p,DC=x", "uid=gone,dc=x"])],
                ),
                entry("cn=unique,dc=x", &[("uniqueMember", &["uid=bob,dc=x"])]),
                entry("cn=empty,dc=x", &[]),
                entry("cn=with blank,dc=x", &[("member", &["uid=bob,dc=x"])]),
                entry("", &[]),
            ],
            &mut warn,
        );
        let users: Vec<(&str, Vec<(Field, &str)>)> = found
            .users
            .iter()
            .map(|(id, given)| (id.as_str(), given.iter().map(|(f, text)| (*f, text.as_str())).collect()))
            .collect();
        assert_eq!(
            users,
            [
                (
                    "alice@corp",
                    vec![(Field::FirstName, "Alice"), (Field::Email, "alice@example.org")]
                ),
                ("bob@corp", vec![(Field::Expire, "7")]),
            ]
        );
        let groups: Vec<(&str, Vec<&str>)> = found
            .groups
            .iter()
            .map(|(name, members)| (name.as_str(), members.iter().map(UserId::as_str).collect()))
            .collect();
        assert_eq!(
            groups,
            [
                ("Admins-corp", vec!["alice@corp"]),
                ("empty-corp", vec![]),
                ("unique-corp", vec!["bob@corp"])
            ]
        );
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert!(warnings[0].starts_with("skipping user 'b b@corp' - "), "{warnings:?}");
        assert!(warnings[1].starts_with("skipping attribute 'mail' of user 'bob@corp' - "));
        assert_eq!(warnings[2], "skipping group 'with blank-corp' - invalid name");
        assert_eq!(warnings[3], "skipping group '' - it has no name");
    }

    #[test]
    fn members_that_are_not_told_or_no_text_are_missed() {
        let names = |bytes: &[u8]| vec![bytes.to_vec()];
        let mut binary = entry("cn=binary", &[]);
        binary.bin_attrs.insert("member".to_owned(), names(b"cn=\xff"));
        let mut picture = entry("cn=picture", &[("member", &[])]);
        picture.bin_attrs.insert("jpegPhoto".to_owned(), names(b"\xff"));
        let groups = [
            entry("cn=part", &[("member", &[]), ("Member;Range=0-1499", &["uid=a"])]),
            binary,
            picture,
            entry("cn=whole", &[("uniqueMember", &["uid=a"]), ("member;lang-de", &["x"])]),
        ];
        let mut found = Found::default();
        let mut warnings = Vec::new();
        found.add_groups("corp", &plan(&[]), &groups, &mut |text| warnings.push(text.to_owned()));
        let half_told: Vec<&str> = found.half_told.iter().map(String::as_str).collect();
        assert_eq!(half_told, ["binary-corp", "part-corp"]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn a_group_may_have_its_name_elsewhere() {
        let plan = plan(&[("group_name_attr", "displayName")]);
        let mut found = Found::default();
        found.add_groups(
            "corp",
            &plan,
            &[entry("cn=x,dc=x", &[("displayname", &["Staff"])])],
            &mut |text| panic!("{text}"),
        );
        assert_eq!(found.groups.keys().collect::<Vec<_>>(), ["Staff-corp"]);
    }

    /// RFC 4514 §4.
    #[test]
    fn the_first_value_of_a_place() {
        for (dn, value) in [
            ("cn=Admins,ou=x", Some("Admins")),
            ("cn = Admins ,ou=x", Some("Admins")),
            (r"cn=a\,b,ou=x", Some("a,b")),
            (r"cn=a\2cb,ou=x", Some("a,b")),
            (r"cn=\C3\84b,ou=x", Some("Äb")),
            (r"cn=\C3", Some("\u{fffd}")),
            (r"cn=a\2", Some("a2")),
            ("cn=Äb,ou=x", Some("Äb")),
            ("cn=a+sn=b,ou=x", Some("a")),
            ("cn=", Some("")),
            ("nothing", None),
            (r"cn=a\", Some(r"a\")),
        ] {
            assert_eq!(first_value(dn).as_deref(), value, "{dn}");
        }
    }
}
