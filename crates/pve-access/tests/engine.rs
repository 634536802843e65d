//! The permission engine beside a second one that follows reference 02 §10.4 and §10.5 word for word, on random trees.
//!
//! The second one knows nothing of the first: it works on the records as they were drawn, climbs from the path to the
//! root instead of descending, and has its own table of roles.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use pve_access::UserConfig;

const USERS: [&str; 2] = ["a@x1", "b@x1"];
/// Token and whether it has rights of its own only.
const TOKENS: [(&str, bool); 4] = [
    ("a@x1!sep", true),
    ("a@x1!full", false),
    ("root@pam!sep", true),
    ("b@x1!sep", true),
];
const GROUPS: [&str; 3] = ["g1", "g2", "g3"];
const POOLS: [&str; 3] = ["p", "p/q", "r"];
const PATHS: [&str; 12] = [
    "/",
    "/vms",
    "/vms/100",
    "/vms/101",
    "/vms/100/x",
    "/storage",
    "/storage/s1",
    "/pool",
    "/pool/p",
    "/pool/p/q",
    "/pool/r",
    "/nodes/n1",
];
const ROLES: [(&str, &[&str]); 6] = [
    ("A", &["VM.Audit"]),
    ("P", &["VM.PowerMgmt"]),
    ("C", &["VM.Audit", "VM.Console"]),
    ("D", &["Datastore.Audit"]),
    ("NoAccess", &[]),
    (
        "PVEAuditor",
        &[
            "Datastore.Audit",
            "Mapping.Audit",
            "Pool.Audit",
            "SDN.Audit",
            "Sys.Audit",
            "VM.Audit",
            "VM.GuestAgent.Audit",
        ],
    ),
];

/// One ACL record.
#[derive(Debug, Clone)]
struct Record {
    propagate: bool,
    path: &'static str,
    /// `@GROUP`, a user, or a token.
    member: String,
    role: &'static str,
}

#[derive(Debug, Clone)]
struct World {
    records: Vec<Record>,
    /// Group → members.
    groups: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// Pool → numbers of guests, names of storages.
    pools: BTreeMap<&'static str, (BTreeSet<u64>, BTreeSet<&'static str>)>,
}

fn member() -> impl Strategy<Value = String> {
    let groups = GROUPS.map(|group| format!("@{group}"));
    let subjects = USERS
        .into_iter()
        .chain(TOKENS.map(|(token, _)| token))
        .map(str::to_owned);
    proptest::sample::select(groups.into_iter().chain(subjects).collect::<Vec<_>>())
}

fn record() -> impl Strategy<Value = Record> {
    let role = proptest::sample::select(ROLES.map(|(role, _)| role).to_vec());
    // Half of the records lie where the others do: rules are about what meets.
    let path = prop_oneof![
        proptest::sample::select(PATHS.to_vec()),
        proptest::sample::select(vec!["/vms", "/vms/100", "/pool/p"]),
    ];
    let member = prop_oneof![member(), Just("a@x1".to_owned())];
    (any::<bool>(), path, member, role).prop_map(|(propagate, path, member, role)| Record {
        propagate,
        path,
        member,
        role,
    })
}

fn world() -> impl Strategy<Value = World> {
    let members = proptest::collection::btree_set(proptest::sample::select(USERS.to_vec()), 0..=2);
    let groups = proptest::collection::vec(members, GROUPS.len());
    let guests = proptest::collection::btree_set(proptest::sample::select(vec![100_u64, 101]), 0..=2);
    let storages = proptest::collection::btree_set(proptest::sample::select(vec!["s1", "s2"]), 0..=2);
    let pools = proptest::collection::vec((guests, storages), POOLS.len());
    (proptest::collection::vec(record(), 0..32), groups, pools).prop_map(|(records, groups, mut pools)| {
        // A guest is in one pool: the first that names it.
        let mut seen = BTreeSet::new();
        for (guests, _) in &mut pools {
            guests.retain(|guest| seen.insert(*guest));
        }
        World {
            records,
            groups: GROUPS.into_iter().zip(groups).collect(),
            pools: POOLS.into_iter().zip(pools).collect(),
        }
    })
}

impl World {
    /// The file that says all that.
    fn print(&self) -> String {
        let mut text = String::from("user:root@pam:1:0::::::\n");
        for user in USERS {
            text.push_str(&format!("user:{user}:1:0::::::\n"));
        }
        for (token, privsep) in TOKENS {
            text.push_str(&format!("token:{token}:0:{}::\n", u8::from(privsep)));
        }
        for (group, members) in &self.groups {
            let members: Vec<&str> = members.iter().copied().collect();
            text.push_str(&format!("group:{group}:{}::\n", members.join(",")));
        }
        for (pool, (guests, storages)) in &self.pools {
            let guests: Vec<String> = guests.iter().map(u64::to_string).collect();
            let storages: Vec<&str> = storages.iter().copied().collect();
            text.push_str(&format!("pool:{pool}::{}:{}:\n", guests.join(","), storages.join(",")));
        }
        for (role, privileges) in &ROLES[..4] {
            text.push_str(&format!("role:{role}:{}:\n", privileges.join(",")));
        }
        for record in &self.records {
            let Record {
                propagate,
                path,
                member,
                role,
            } = record;
            text.push_str(&format!("acl:{}:{path}:{member}:{role}:\n", u8::from(*propagate)));
        }
        text
    }

    /// What a member is granted on exactly this path: role → flag of the last record.
    fn granted(&self, member: &str, path: &str) -> BTreeMap<&'static str, bool> {
        let records = self
            .records
            .iter()
            .filter(|record| record.member == member && record.path == path);
        records.map(|record| (record.role, record.propagate)).collect()
    }

    /// The roles that reach `path` from `level`, which is the path itself or one above it.
    fn climb(&self, who: &str, level: &str, is_target: bool) -> BTreeMap<&'static str, bool> {
        let reach = |mut roles: BTreeMap<&'static str, bool>| {
            roles.retain(|_, propagate| *propagate || is_target);
            roles
        };
        let own = reach(self.granted(who, level));
        if !own.is_empty() {
            return own;
        }
        let mut of_groups = BTreeMap::new();
        for (group, members) in &self.groups {
            if members.contains(who) {
                for (role, flag) in reach(self.granted(&format!("@{group}"), level)) {
                    let known = of_groups.entry(role).or_insert(false);
                    *known = *known || flag;
                }
            }
        }
        if !of_groups.is_empty() {
            return of_groups;
        }
        match level.rsplit_once('/') {
            Some(("", "")) | None => BTreeMap::new(),
            Some(("", _)) => self.climb(who, "/", false),
            Some((parent, _)) => self.climb(who, parent, false),
        }
    }

    fn roles(&self, who: &str, path: &str) -> BTreeMap<&'static str, bool> {
        let mut roles = self.climb(who, path, true);
        if roles.contains_key("NoAccess") {
            roles.retain(|role, _| *role == "NoAccess");
        }
        roles
    }

    fn with_pools(&self, who: &str, path: &str) -> BTreeMap<&'static str, bool> {
        let own = self.roles(who, path);
        let holds = |(guests, storages): &(BTreeSet<u64>, BTreeSet<&'static str>)| {
            guests.iter().any(|guest| path == format!("/vms/{guest}"))
                || storages.iter().any(|storage| path == format!("/storage/{storage}"))
        };
        if own.contains_key("NoAccess") {
            return own;
        }
        let mut all = own;
        for (pool, members) in &self.pools {
            if !holds(members) {
                continue;
            }
            for role in self.roles(who, &format!("/pool/{pool}")).into_keys() {
                if role == "NoAccess" {
                    return BTreeMap::new();
                }
                all.entry(role).or_insert(false);
            }
        }
        all
    }

    /// Privilege → flag.
    fn privileges(&self, who: &str, path: &str) -> BTreeMap<&'static str, bool> {
        let (owner, subject, privsep) = match who.split_once('!') {
            None => (who, who, false),
            Some((owner, _)) if TOKENS.contains(&(who, false)) => (owner, owner, false),
            Some((owner, _)) if TOKENS.contains(&(who, true)) => (owner, who, true),
            Some(_) => return BTreeMap::new(),
        };
        let mut held = BTreeMap::new();
        for (role, flag) in self.with_pools(subject, path) {
            let (_, privileges) = ROLES.iter().find(|(name, _)| *name == role).unwrap();
            for privilege in *privileges {
                let known = held.entry(*privilege).or_insert(false);
                *known = *known || flag;
            }
        }
        if privsep && owner != "root@pam" {
            let of_owner = self.privileges(owner, path);
            held.retain(|privilege, flag| {
                let theirs = of_owner.get(privilege);
                *flag = *flag && theirs == Some(&true);
                theirs.is_some()
            });
        }
        held
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn both_engines_agree(world in world()) {
        let text = world.print();
        let config = UserConfig::parse(&text);
        // What is written back means the same.
        let again = UserConfig::parse(&config.print());
        let subjects = USERS.into_iter().chain(TOKENS.map(|(token, _)| token)).chain(["a@x1!gone", "zed@x1"]);
        for who in subjects {
            let id = who.parse().unwrap();
            for path in PATHS.into_iter().chain(["/storage/s2", "/pool/p/q/z", "/nodes"]) {
                let expected = world.privileges(who, path);
                let found: BTreeMap<&str, bool> = config.privileges_on(&id, path).iter().collect();
                prop_assert_eq!(&found, &expected, "{} on {} in\n{}", who, path, text);
                let found: BTreeMap<&str, bool> = again.privileges_on(&id, path).iter().collect();
                prop_assert_eq!(&found, &expected, "{} on {}, written back", who, path);
            }
        }
        // root@pam is above it all, and so is its token without rights of its own.
        let root = config.privileges_on(&"root@pam".parse().unwrap(), "/vms/100");
        prop_assert_eq!(root.held.len(), 47);
    }
}
