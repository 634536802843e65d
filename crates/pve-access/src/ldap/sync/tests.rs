//! What becomes of users and groups: one table per rule of reference 02 §13.2.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ldap3::SearchEntry;
use proptest::prelude::*;
use pve_schema::ids::UserId;

use super::found::{Found, Given};
use super::merge::Merge;
use super::options::{Scope, SyncOptions, Vanished};
use super::plan::{Field, Plan};
use crate::domains::{Domains, Realm, RealmKind};
use crate::user_config::UserConfig;

const BEFORE: &str = "\
user:alice@corp:0:7:Old:Name:old@example.org:theirs:x:
token:alice@corp!ci:0:1::
user:gone@corp:1:0::::::
token:gone@corp!ci:0:1::
user:local@pve:1:0::::::

group:admins-corp:gone@corp,local@pve:by hand:
group:left-corp:alice@corp::
group:local:alice@corp,gone@corp::
group:left-x-corp:local@pve::

acl:1:/:@left-corp,@left-x-corp,gone@corp,gone@corp!ci,old@corp:PVEAuditor:
acl:1:/vms:alice@corp,local@pve:PVEVMUser:
";

/// Two realms whose names end alike; `options` are the first one's.
fn domains(options: &str) -> Domains {
    let directory = "\tserver1 a\n\tbase_dn dc=a\n\tuser_attr uid\n";
    Domains::parse(format!("ldap: corp\n{directory}{options}\nldap: x-corp\n{directory}\n").as_bytes())
}

fn found() -> Found {
    let user = |name: &str, given: &[(Field, &str)]| {
        let given: Given = given.iter().map(|(field, text)| (*field, text.to_string())).collect();
        (name.parse().unwrap(), given)
    };
    Found {
        users: BTreeMap::from([
            user("alice@corp", &[(Field::FirstName, "Alice"), (Field::Expire, "0")]),
            user("new@corp", &[(Field::Email, "new@example.org")]),
        ]),
        groups: BTreeMap::from([
            (
                "admins-corp".to_owned(),
                BTreeSet::from(["alice@corp".parse().unwrap(), "new@corp".parse().unwrap()]),
            ),
            ("empty-corp".to_owned(), BTreeSet::new()),
        ]),
        ..Found::default()
    }
}

fn synced(scope: Scope, vanished: &str, enable_new: bool) -> (String, Vec<String>) {
    let mut config = UserConfig::parse(BEFORE);
    let mut lines = Vec::new();
    let merge = Merge {
        realm: "corp",
        domains: &domains(""),
        found: &found(),
        options: SyncOptions {
            scope,
            vanished: Vanished {
                acl: vanished.contains('a'),
                entry: vanished.contains('e'),
                properties: vanished.contains('p'),
            },
            enable_new,
        },
    };
    merge.apply(&mut config, &mut |line| lines.push(line.to_owned()));
    (config.print(), lines)
}

const ALICE_MERGED: &str = "user:alice@corp:0:0:Alice:Name:old@example.org:theirs:x:\ntoken:alice@corp!ci:0:1::\n";
const ALICE_REPLACED: &str = "user:alice@corp:0:0:Alice::::x:\ntoken:alice@corp!ci:0:1::\n";
const ALICE_OLD: &str = "user:alice@corp:0:7:Old:Name:old@example.org:theirs:x:\ntoken:alice@corp!ci:0:1::\n";
const GONE: &str = "user:gone@corp:1:0::::::\ntoken:gone@corp!ci:0:1::\n";
const NEW: &str = "user:new@corp:1:0:::new@example.org:::\n";

/// The file's parts that a table asks about: its users, its groups, its rights.
fn parts(text: &str) -> [String; 3] {
    let mut parts = [String::new(), String::new(), String::new()];
    for line in text
        .lines()
        .filter(|line| !line.contains("root@pam") && !line.contains("@pve:1:0"))
    {
        let at = match line.split(':').next() {
            Some("user" | "token") => 0,
            Some("group") => 1,
            Some("acl") => 2,
            _ => continue,
        };
        parts[at] += &format!("{line}\n");
    }
    parts
}

#[test]
fn users_are_added_merged_replaced_and_removed() {
    for (scope, vanished, users) in [
        (Scope::Users, "", format!("{ALICE_MERGED}{GONE}{NEW}")),
        (Scope::Users, "a", format!("{ALICE_MERGED}{GONE}{NEW}")),
        (Scope::Users, "e", format!("{ALICE_MERGED}{NEW}")),
        (Scope::Users, "p", format!("{ALICE_REPLACED}{GONE}{NEW}")),
        (Scope::Both, "aep", format!("{ALICE_REPLACED}{NEW}")),
        (Scope::Groups, "aep", format!("{ALICE_OLD}{GONE}")),
    ] {
        let (text, _) = synced(scope, vanished, true);
        assert_eq!(parts(&text)[0], users, "{scope:?} {vanished}");
    }
    let (text, _) = synced(Scope::Users, "", false);
    assert!(text.contains("user:new@corp:0:0:::new@example.org:::\n"), "{text}");
}

#[test]
fn groups_are_added_merged_replaced_and_removed() {
    const OTHERS: &str = "group:local:alice@corp,gone@corp::\n";
    const LEFT_X: &str = "group:left-x-corp:local@pve::\n";
    const LEFT: &str = "group:left-corp:alice@corp::\n";
    const EMPTY: &str = "group:empty-corp:::\n";
    for (scope, vanished, groups) in [
        (
            Scope::Both,
            "",
            format!("group:admins-corp:alice@corp,new@corp:by hand:\n{EMPTY}{LEFT}{LEFT_X}{OTHERS}"),
        ),
        (
            Scope::Both,
            "p",
            format!("group:admins-corp:alice@corp,new@corp::\n{EMPTY}{LEFT}{LEFT_X}{OTHERS}"),
        ),
        // Of two realms whose names end alike each has its own; memberships elsewhere stay.
        (
            Scope::Both,
            "e",
            format!("group:admins-corp:alice@corp,new@corp:by hand:\n{EMPTY}{LEFT_X}{OTHERS}"),
        ),
        // Who is no user yet is no member.
        (
            Scope::Groups,
            "a",
            format!("group:admins-corp:alice@corp:by hand:\n{EMPTY}{LEFT}{LEFT_X}{OTHERS}"),
        ),
        (
            Scope::Users,
            "aep",
            format!("group:admins-corp:gone@corp,local@pve:by hand:\n{LEFT}{LEFT_X}{OTHERS}"),
        ),
    ] {
        let (text, _) = synced(scope, vanished, true);
        assert_eq!(parts(&text)[1], groups, "{scope:?} {vanished}");
    }
}

#[test]
fn rights_go_where_it_was_said() {
    const KEPT: &str = "acl:1:/vms:alice@corp,local@pve:PVEVMUser:\n";
    for (scope, vanished, members) in [
        (
            Scope::Both,
            "",
            "@left-corp,@left-x-corp,gone@corp,gone@corp!ci,old@corp",
        ),
        (Scope::Both, "a", "@left-x-corp"),
        (Scope::Both, "ae", "@left-x-corp"),
        (Scope::Users, "a", "@left-corp,@left-x-corp"),
        (Scope::Groups, "a", "@left-x-corp,gone@corp,gone@corp!ci,old@corp"),
    ] {
        let (text, _) = synced(scope, vanished, true);
        let expected = format!("acl:1:/:{members}:PVEAuditor:\n{KEPT}");
        assert_eq!(parts(&text)[2], expected, "{scope:?} {vanished}");
    }
}

#[test]
fn every_step_is_told_and_a_second_run_has_nothing_to_do() {
    let (_, lines) = synced(Scope::Both, "aep", true);
    assert_eq!(
        lines,
        [
            "syncing users (remove-vanished: acl;entry;properties)",
            "removing user 'gone@corp'",
            "purging all ACLs of user 'gone@corp'",
            "purging all ACLs of user 'old@corp'",
            "overwriting user 'alice@corp'",
            "adding user 'new@corp'",
            "syncing groups (remove-vanished: acl;entry;properties)",
            "remove group 'left-corp'",
            "purging all ACLs of group 'left-corp'",
            "updating group 'admins-corp'",
            "adding group 'empty-corp'",
        ]
    );
    let (text, _) = synced(Scope::Both, "aep", true);
    let mut config = UserConfig::parse(&text);
    let mut lines = Vec::new();
    let merge = Merge {
        realm: "corp",
        domains: &domains(""),
        found: &found(),
        options: SyncOptions {
            scope: Scope::Users,
            vanished: Vanished {
                acl: true,
                entry: true,
                properties: true,
            },
            enable_new: false,
        },
    };
    merge.apply(&mut config, &mut |line| lines.push(line.to_owned()));
    assert_eq!(config.print(), text);
    assert_eq!(lines.len(), 1, "{lines:?}");
}

/// What becomes of a file when a realm without case is told these users, all in one group, and nobody else is to stay.
fn without_case(before: &str, told: &[&str]) -> (String, Vec<String>) {
    let ids: BTreeSet<UserId> = told.iter().map(|id| id.parse().unwrap()).collect();
    let found = Found {
        users: ids.iter().map(|id| (id.clone(), Given::new())).collect(),
        groups: BTreeMap::from([("all-corp".to_owned(), ids)]),
        ..Found::default()
    };
    let merge = Merge {
        realm: "corp",
        domains: &domains("\tcase-sensitive 0\n"),
        found: &found,
        options: SyncOptions {
            scope: Scope::Both,
            vanished: Vanished {
                acl: true,
                entry: true,
                properties: false,
            },
            enable_new: true,
        },
    };
    let mut config = UserConfig::parse(before);
    let mut lines = Vec::new();
    merge.apply(&mut config, &mut |line| lines.push(line.to_owned()));
    (config.print(), lines)
}

/// Two spellings of one name would lock both out.
#[test]
fn without_case_a_user_keeps_its_spelling() {
    for (before, told, users, members, warnings) in [
        ("alice", &["ALICE@corp"][..], "alice", "alice@corp", 0),
        (
            "Alice",
            &["alice@corp", "bob@corp"],
            "Alice,bob",
            "Alice@corp,bob@corp",
            0,
        ),
        ("gone", &["Alice@corp"], "Alice", "Alice@corp", 0),
        // Who it is nobody can tell: all stay, and nobody comes.
        ("Alice,alice", &["ALICE@corp"], "Alice,alice", "", 1),
        ("alice", &["Alice@corp", "alice@corp"], "alice", "", 2),
        ("", &["Alice@corp", "alice@corp"], "", "", 2),
    ] {
        let names = before.split(',').filter(|name| !name.is_empty());
        let mut text: String = names
            .clone()
            .map(|name| format!("user:{name}@corp:1:0::::::\n"))
            .collect();
        text += &names
            .map(|name| format!("acl:1:/vms:{name}@corp:PVEAuditor:\n"))
            .collect::<String>();
        let (text, lines) = without_case(&text, told);
        let config = UserConfig::parse(&text);
        let found: Vec<&str> = config
            .users
            .keys()
            .filter(|id| id.realm() == "corp")
            .map(UserId::name)
            .collect();
        assert_eq!(found.join(","), users, "{told:?}");
        assert!(
            text.contains(&format!("group:all-corp:{members}::\n")),
            "{told:?}: {text}"
        );
        let granted = config.acls.values().flat_map(|entry| entry.users.keys());
        let kept: Vec<&str> = before
            .split(',')
            .filter(|name| users.split(',').any(|user| user == *name))
            .collect();
        assert_eq!(
            granted.map(UserId::name).collect::<Vec<_>>().join(","),
            kept.join(","),
            "{told:?}"
        );
        let warned = lines.iter().filter(|line| line.starts_with("warning: skipping user "));
        assert_eq!(warned.count(), warnings, "{lines:?}");
    }
    // With case they are two.
    let (text, _) = synced(Scope::Users, "", true);
    assert!(text.contains("user:alice@corp:"));
}

#[test]
fn a_group_of_another_realm_or_told_by_half_keeps_its_members() {
    let mut found = found();
    let members = BTreeSet::from(["alice@corp".parse().unwrap()]);
    found.groups.insert("left-x-corp".to_owned(), members.clone());
    found.groups.insert("new-x-corp".to_owned(), members);
    found.half_told.insert("admins-corp".to_owned());
    let merge = Merge {
        realm: "corp",
        domains: &domains(""),
        found: &found,
        options: SyncOptions {
            scope: Scope::Groups,
            vanished: Vanished {
                acl: true,
                entry: true,
                properties: true,
            },
            enable_new: true,
        },
    };
    let mut config = UserConfig::parse(BEFORE);
    let mut lines = Vec::new();
    merge.apply(&mut config, &mut |line| lines.push(line.to_owned()));
    let text = config.print();
    for group in [
        "group:left-x-corp:local@pve::\n",
        "group:admins-corp:gone@corp,local@pve::\n",
    ] {
        assert!(text.contains(group), "{text}");
    }
    assert!(!config.groups.contains_key("new-x-corp"));
    for name in ["left", "new"] {
        let line = format!("warning: skipping group '{name}-x-corp' - it would be one of realm 'x-corp'");
        assert!(lines.contains(&line), "{lines:?}");
    }
}

proptest! {
    /// What a directory says becomes users and groups, and nothing else: the file is read as what was meant.
    #[test]
    fn no_answer_of_a_directory_breaks_the_file(
        users in prop::collection::vec(("[a-c@!:,;# \n\\PC]{0,6}", "\\PC{0,8}|[:\n%#@]{0,4}|a@b|[01x]"), 0..6),
        groups in prop::collection::vec(("[a-c:,\n= \\PC]{0,6}", "[a-c]"), 0..4),
        remove in any::<bool>(),
    ) {
        let entry = |dn: String, attributes: Vec<(&str, String)>| SearchEntry {
            dn,
            attrs: attributes.into_iter().map(|(name, value)| (name.to_owned(), vec![value])).collect(),
            bin_attrs: HashMap::new(),
        };
        let users: Vec<SearchEntry> = users
            .into_iter()
            .enumerate()
            .map(|(number, (name, value))| {
                let mut attributes: Vec<(&str, String)> = Field::ALL.map(|field| (field.as_str(), value.clone())).into();
                attributes.push(("uid", name));
                entry(format!("uid={}", char::from(b'a' + number as u8)), attributes)
            })
            .collect();
        let groups: Vec<SearchEntry> = groups
            .into_iter()
            .map(|(name, member)| entry(format!("cn={name}"), vec![("member", format!("uid={member}"))]))
            .collect();
        let realm = Realm { kind: RealmKind::Ldap, options: BTreeMap::new() };
        let plan = Plan::of(&realm, &mut |_| ());
        let mut found = Found::default();
        found.add_users("corp", &plan, &users, &mut |_| ());
        found.add_groups("corp", &plan, &groups, &mut |_| ());
        let merge = Merge {
            realm: "corp",
            domains: &domains(""),
            found: &found,
            options: SyncOptions {
                scope: Scope::Both,
                vanished: Vanished { acl: remove, entry: remove, properties: remove },
                enable_new: true,
            },
        };
        let mut config = UserConfig::parse(BEFORE);
        merge.apply(&mut config, &mut |line| assert!(!line.contains('\n'), "{line:?}"));
        let again = UserConfig::parse(&config.print());
        let ids = |config: &UserConfig| config.users.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(ids(&again), ids(&config));
        prop_assert!(again.groups.keys().eq(config.groups.keys()));
        prop_assert_eq!(&again.acls, &config.acls);
        for (id, user) in &config.users {
            prop_assert_eq!(again.users[id].enable, user.enable);
            prop_assert_eq!(again.users[id].expire, user.expire);
        }
        for (name, group) in &again.groups {
            prop_assert!(group.members.is_subset(&config.groups[name].members));
        }
    }
}
