//! What a directory is asked, from the realm's options (reference 02 §13.2).

use pve_contract::{id, method};
use pve_schema::schema::Schema;
use pve_schema::{check, list};

use crate::domains::{Realm, RealmKind};

const USER_CLASSES: &str = "inetorgperson,posixaccount,person,user";
const GROUP_CLASSES: &str = "groupOfNames,group,univentionGroup,ipausergroup";

/// What a directory can tell of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Enable,
    Expire,
    FirstName,
    LastName,
    Email,
    Comment,
    Keys,
}

impl Field {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Enable,
        Self::Expire,
        Self::FirstName,
        Self::LastName,
        Self::Email,
        Self::Comment,
        Self::Keys,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Expire => "expire",
            Self::FirstName => "firstname",
            Self::LastName => "lastname",
            Self::Email => "email",
            Self::Comment => "comment",
            Self::Keys => "keys",
        }
    }

    fn schema(self) -> Option<&'static Schema> {
        Some(method(id::POST_ACCESS_USERS).parameter(self.as_str())?.schema)
    }

    /// A value as it is kept.
    ///
    /// # Errors
    /// It cannot be one.
    pub(super) fn read(self, text: &str) -> Result<String, String> {
        let text = match self {
            Self::Enable => check::boolean_word(text).map(|is_on| if is_on { "1" } else { "0" }),
            _ => None,
        }
        .unwrap_or(text);
        match self.schema() {
            Some(schema) => check::text(schema, text, self.as_str()).map(|()| text.to_owned()),
            None => Err("no such property".to_owned()),
        }
    }
}

/// What a directory is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Where users are; `None`: where the directory says.
    pub(super) base: Option<String>,
    /// Which of the entries are users.
    pub(super) user_filter: String,
    /// What a user's name is.
    pub(super) user_attr: String,
    /// What else is told of a user: the attribute, and what it is here. Of several for one the first counts.
    pub(super) fields: Vec<(String, Field)>,
    /// Where groups are; `None`: where users are.
    pub(super) group_base: Option<String>,
    /// Which of the entries are groups.
    pub(super) group_filter: String,
    /// What a group's name is; `None`: the first part of its place.
    pub(super) group_name: Option<String>,
}

impl Plan {
    /// What the directory of a realm is asked; `warn` hears of what makes no sense.
    pub(super) fn of(realm: &Realm, warn: &mut dyn FnMut(&str)) -> Self {
        let owned = |key: &str| realm.option(key).map(str::to_owned);
        let usual = match realm.kind {
            RealmKind::Ad => "sAMAccountName",
            _ => "uid",
        };
        let user_attr = realm.option("user_attr").unwrap_or(usual).to_owned();
        let mut fields = mapped(realm.option("sync_attributes").unwrap_or_default(), warn);
        fields.extend(Field::ALL.map(|field| (field.as_str().to_owned(), field)));
        let classes = |key: &str, default: &'static str| any("objectclass", realm.option(key).unwrap_or(default));
        let names = attributes(&user_attr, &fields);
        let known: String = names.iter().map(|name| format!("({name}=*)")).collect();
        let users = format!("(&(|{known}){})", classes("user_classes", USER_CLASSES));
        Self {
            base: owned("base_dn"),
            user_filter: both(realm.option("filter"), &users),
            group_base: owned("group_dn"),
            group_filter: both(realm.option("group_filter"), &classes("group_classes", GROUP_CLASSES)),
            group_name: owned("group_name_attr"),
            user_attr,
            fields,
        }
    }

    /// The attributes of users that are asked for.
    pub(super) fn attributes(&self) -> Vec<&str> {
        attributes(&self.user_attr, &self.fields)
    }
}

/// Each attribute once: their names have no case.
fn attributes<'a>(user_attr: &'a str, fields: &'a [(String, Field)]) -> Vec<&'a str> {
    let mut names = vec![user_attr];
    for (name, _) in fields {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name);
        }
    }
    names
}

/// What `sync_attributes` maps: `email=mail,firstname=givenName`.
fn mapped(text: &str, warn: &mut dyn FnMut(&str)) -> Vec<(String, Field)> {
    let mut fields = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, attribute) = part.split_once('=').unwrap_or((part, ""));
        let field = Field::ALL.into_iter().find(|field| field.as_str() == name);
        let attribute = attribute.trim();
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-.;".contains(&b);
        match field {
            Some(field) if !attribute.is_empty() && attribute.bytes().all(is_name) => {
                fields.push((attribute.to_owned(), field));
            }
            _ => warn(&format!("skipping sync attribute '{part}' - not valid")),
        }
    }
    fields
}

/// A filter that is true if an attribute has one of the values.
fn any(attribute: &str, values: &str) -> String {
    let all: String = list::split(values)
        .into_iter()
        .map(|value| format!("({attribute}={value})"))
        .collect();
    format!("(|{all})")
}

/// A filter that is true if what is configured and this are.
fn both(configured: Option<&str>, filter: &str) -> String {
    match configured.map(str::trim).filter(|text| !text.is_empty()) {
        None => filter.to_owned(),
        Some(text) if text.starts_with('(') => format!("(&{text}{filter})"),
        Some(text) => format!("(&({text}){filter})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(kind: RealmKind, options: &[(&str, &str)]) -> (Plan, Vec<String>) {
        let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let realm = Realm {
            kind,
            options: options.collect(),
        };
        let mut warnings = Vec::new();
        let plan = Plan::of(&realm, &mut |text| warnings.push(text.to_owned()));
        (plan, warnings)
    }

    const OWN: &str = "(enable=*)(expire=*)(firstname=*)(lastname=*)(email=*)(comment=*)(keys=*)";

    #[test]
    fn filters_follow_from_the_options() {
        let classes = "(|(objectclass=inetorgperson)(objectclass=posixaccount)(objectclass=person)(objectclass=user))";
        for (kind, options, users) in [
            (RealmKind::Ldap, &[][..], format!("(&(|(uid=*){OWN}){classes})")),
            (RealmKind::Ad, &[], format!("(&(|(sAMAccountName=*){OWN}){classes})")),
            (
                RealmKind::Ldap,
                &[("user_attr", "cn"), ("user_classes", "a; b"), ("filter", "ou=x")],
                format!("(&(ou=x)(&(|(cn=*){OWN})(|(objectclass=a)(objectclass=b))))"),
            ),
            (
                RealmKind::Ldap,
                &[
                    ("filter", "(|(ou=x)(ou=y))"),
                    ("user_classes", "a"),
                    ("sync_attributes", "email=mail"),
                ],
                format!("(&(|(ou=x)(ou=y))(&(|(uid=*)(mail=*){OWN})(|(objectclass=a))))"),
            ),
        ] {
            let (plan, _) = plan(kind, options);
            assert_eq!(plan.user_filter, users);
            assert!(ldap3::parse_filter(&plan.user_filter).is_ok(), "{}", plan.user_filter);
        }
        let (plan, _) = plan(
            RealmKind::Ldap,
            &[("group_filter", "cn=pve-*"), ("group_classes", "group")],
        );
        assert_eq!(plan.group_filter, "(&(cn=pve-*)(|(objectclass=group)))");
    }

    #[test]
    fn what_is_mapped_comes_before_what_is_named_alike() {
        let (plan, warnings) = plan(
            RealmKind::Ldap,
            &[(
                "sync_attributes",
                "email=mail, firstname=givenName,shoesize=x,email=UID,comment=a)(b",
            )],
        );
        let firsts: Vec<(&str, Field)> = plan
            .fields
            .iter()
            .take(3)
            .map(|(name, field)| (name.as_str(), *field))
            .collect();
        assert_eq!(
            firsts,
            [
                ("mail", Field::Email),
                ("givenName", Field::FirstName),
                ("UID", Field::Email)
            ]
        );
        assert_eq!(plan.attributes().len(), 1 + 2 + 7, "each once: {:?}", plan.attributes());
        assert_eq!(
            warnings,
            [
                "skipping sync attribute 'shoesize=x' - not valid",
                "skipping sync attribute 'comment=a)(b' - not valid"
            ]
        );
    }

    #[test]
    fn values_must_fit_their_fields() {
        for (field, text, kept) in [
            (Field::Enable, "TRUE", Some("1")),
            (Field::Enable, "off", Some("0")),
            (Field::Enable, "maybe", None),
            (Field::Expire, "1700000000", Some("1700000000")),
            (Field::Expire, "-1", None),
            (Field::Expire, "20260101000000Z", None),
            (Field::Email, "a@example.org", Some("a@example.org")),
            (Field::Email, "a:b@example.org", None),
            (Field::Comment, "zwei\nZeilen: ü", Some("zwei\nZeilen: ü")),
            (Field::Keys, "a b", None),
        ] {
            assert_eq!(field.read(text).ok().as_deref(), kept, "{field:?} {text}");
        }
    }
}
