//! Who may do what where: the evaluation of ACLs (reference 02 §10.4, §10.5).
//!
//! Nothing here fails or knows of requests; [`crate::check`] and [`crate::AccessControl`] turn answers into errors.

use std::collections::{BTreeMap, BTreeSet};

use pve_schema::ids::{AuthId, UserId};

use crate::paths::AclPath;
use crate::privileges::{Privilege, PrivilegeSet};
use crate::roles::{ADMINISTRATOR, NO_ACCESS};
use crate::user_config::{AclEntry, RoleFlags, UserConfig};

/// The privileges that a subject has on a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privileges {
    /// What it holds there.
    pub held: PrivilegeSet,
    /// What of it also holds below.
    pub propagated: PrivilegeSet,
}

impl Privileges {
    /// Every privilege, here and below.
    fn all() -> Self {
        Self {
            held: PrivilegeSet::all(),
            propagated: PrivilegeSet::all(),
        }
    }

    /// Whether a privilege is held, whatever its flag. A name that is no privilege is held by nobody.
    pub fn has(&self, privilege: &str) -> bool {
        match privilege.parse::<Privilege>() {
            Ok(privilege) => self.held.contains(privilege),
            Err(error) => {
                log::error!("permission check: {error}");
                false
            }
        }
    }

    /// Name and propagate flag of each, sorted by name.
    pub fn iter(self) -> impl Iterator<Item = (&'static str, bool)> {
        self.held
            .iter()
            .map(move |privilege| (privilege.name(), self.propagated.contains(privilege)))
    }

    fn add_role(&mut self, privileges: PrivilegeSet, propagate: bool) {
        self.held = self.held.union(privileges);
        if propagate {
            self.propagated = self.propagated.union(privileges);
        }
    }

    fn intersection(self, other: Self) -> Self {
        Self {
            held: self.held.intersection(other.held),
            propagated: self.propagated.intersection(other.propagated),
        }
    }
}

/// The prefixes of a path from `/` down to itself.
fn levels(path: &str) -> Vec<AclPath> {
    let mut levels = vec![AclPath::root()];
    let mut prefix = String::new();
    for component in path.split('/').filter(|component| !component.is_empty()) {
        prefix.push('/');
        prefix.push_str(component);
        match AclPath::normalise(&prefix) {
            Some(level) => levels.push(level),
            // Nothing can be granted on such a path, but it inherits: an empty level in its place keeps "last" right.
            None => levels.push(AclPath::nowhere(&prefix)),
        }
    }
    levels
}

impl UserConfig {
    /// The roles of a user or token on a path, with their propagate flags (reference 02 §10.4).
    pub fn roles_on(&self, who: &AuthId, path: &str) -> RoleFlags {
        if who.is_root() {
            return RoleFlags::from([(ADMINISTRATOR.to_owned(), true)]);
        }
        if let AuthId::Token(id) = who {
            match self.token(id) {
                None => return RoleFlags::new(),
                Some(token) if !token.privsep => return self.roles_on(&AuthId::User(id.user.clone()), path),
                Some(_) => {}
            }
        }
        let levels = levels(path);
        let mut roles = RoleFlags::new();
        for (index, level) in levels.iter().enumerate() {
            let Some(entry) = self.acls.get(level) else { continue };
            let last = index + 1 == levels.len();
            if let Some(found) = self.granted_at(entry, who, last) {
                roles = found;
            }
        }
        if roles.contains_key(NO_ACCESS) {
            roles.retain(|role, _| role == NO_ACCESS);
        }
        roles
    }

    /// What one level grants: the first of token, user and groups that has a role to give.
    fn granted_at(&self, entry: &AclEntry, who: &AuthId, last: bool) -> Option<RoleFlags> {
        let keep = |flags: &RoleFlags| -> Option<RoleFlags> {
            let kept: RoleFlags = flags
                .iter()
                .filter(|(_, propagate)| **propagate || last)
                .map(|(role, propagate)| (role.clone(), *propagate))
                .collect();
            (!kept.is_empty()).then_some(kept)
        };
        match who {
            AuthId::Token(token) => entry.tokens.get(token).and_then(keep),
            AuthId::User(user) => entry
                .users
                .get(user)
                .and_then(keep)
                .or_else(|| keep(&self.granted_to_groups(entry, user))),
        }
    }

    /// What all of a user's groups are granted on one path; where two give the same role, the flag that reaches further.
    fn granted_to_groups(&self, entry: &AclEntry, user: &UserId) -> RoleFlags {
        let mut merged = RoleFlags::new();
        for (name, flags) in &entry.groups {
            if !self.groups.get(name).is_some_and(|group| group.members.contains(user)) {
                continue;
            }
            for (role, propagate) in flags {
                *merged.entry(role.clone()).or_default() |= propagate;
            }
        }
        merged
    }

    /// The roles on a path, with what the pools of a guest or storage add.
    fn roles_with_pools(&self, who: &AuthId, path: &str) -> RoleFlags {
        let mut roles = self.roles_on(who, path);
        if roles.contains_key(NO_ACCESS) {
            return roles;
        }
        let mut derived = BTreeSet::new();
        for pool in self.pools_containing(path) {
            derived.extend(self.roles_on(who, &format!("/pool/{pool}")).into_keys());
        }
        if derived.contains(NO_ACCESS) {
            return RoleFlags::from([(NO_ACCESS.to_owned(), false)]);
        }
        for role in derived {
            roles.entry(role).or_insert(false);
        }
        roles
    }

    /// The pools whose member a path stands for: `/vms/ID` or `/storage/ID`.
    fn pools_containing<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let vmid = path
            .strip_prefix("/vms/")
            .and_then(|id| id.parse::<u64>().ok().filter(|n| n.to_string() == id));
        let storage = path.strip_prefix("/storage/");
        self.pools
            .iter()
            .filter(move |(_, pool)| {
                vmid.is_some_and(|vmid| pool.vms.contains(&vmid))
                    || storage.is_some_and(|storage| pool.storages.contains(storage))
            })
            .map(|(name, _)| name.as_str())
    }

    /// The effective privileges of a user or token on a path (reference 02 §10.5). The path is taken as it is.
    pub fn privileges_on(&self, who: &AuthId, path: &str) -> Privileges {
        if who.is_root() {
            return Privileges::all();
        }
        let mut privileges = Privileges::default();
        for (role, propagate) in self.roles_with_pools(who, path) {
            privileges.add_role(self.role(&role).unwrap_or_default(), propagate);
        }
        match who {
            AuthId::Token(id) if !id.user.is_root() && self.token(id).is_some_and(|token| token.privsep) => {
                privileges.intersection(self.privileges_on(&AuthId::User(id.user.clone()), path))
            }
            _ => privileges,
        }
    }

    /// Every path that occurs in the ACL tree, with the levels above it.
    fn acl_tree_paths(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        for path in self.acls.keys() {
            paths.extend(levels(path.as_str()).iter().map(ToString::to_string));
        }
        paths
    }

    /// What the web interface may show or hide for a subject: category → privileges (reference 02 §10.7).
    pub fn capabilities(&self, who: &AuthId) -> Capabilities {
        let mut capabilities: Capabilities = CATEGORIES.iter().map(|name| (*name, BTreeSet::new())).collect();
        let mut paths = self.acl_tree_paths();
        let always = ["/", "/nodes", "/access/groups", "/vms", "/storage", "/sdn", "/mapping"];
        paths.extend(always.map(str::to_owned));
        for path in paths {
            for (privilege, _) in self.privileges_on(who, &path).iter() {
                for category in categories_of(&path, privilege) {
                    if let Some(set) = capabilities.get_mut(category) {
                        set.insert(privilege);
                    }
                }
            }
        }
        capabilities
    }

    /// The paths that `GET /access/permissions` answers with when it is not asked for one (reference 02 §12.9).
    pub fn permission_paths(&self) -> BTreeSet<String> {
        let mut paths = self.acl_tree_paths();
        let always = [
            "/",
            "/access",
            "/access/groups",
            "/nodes",
            "/pool",
            "/sdn",
            "/storage",
            "/vms",
        ];
        paths.extend(always.map(str::to_owned));
        for pool in self.pools.values() {
            paths.extend(pool.vms.iter().map(|vmid| format!("/vms/{vmid}")));
            paths.extend(pool.storages.iter().map(|storage| format!("/storage/{storage}")));
        }
        paths
    }
}

/// Category → privileges.
pub type Capabilities = BTreeMap<&'static str, BTreeSet<&'static str>>;

/// The keys that a capabilities object always has.
const CATEGORIES: [&str; 7] = ["vms", "access", "storage", "nodes", "sdn", "dc", "mapping"];

/// The categories that a privilege on a path counts for.
fn categories_of(path: &str, privilege: &str) -> Vec<&'static str> {
    let first = path
        .split('/')
        .find(|component| !component.is_empty())
        .unwrap_or_default();
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| privilege.starts_with(prefix));
    let modify = privilege == "Permissions.Modify";
    match first {
        "" if is(&["SDN."]) || matches!(privilege, "Sys.Audit" | "Sys.Modify") => vec!["dc"],
        "vms" if modify || is(&["VM."]) => vec!["vms"],
        "access" if modify || is(&["User.", "Group."]) => vec!["access"],
        "storage" if modify || is(&["Datastore."]) => vec!["storage"],
        "nodes" if modify || is(&["Sys."]) => vec!["nodes"],
        "sdn" if modify || is(&["SDN."]) => vec!["sdn"],
        "mapping" if modify || is(&["Mapping."]) => vec!["mapping"],
        "pool" if modify => vec!["vms", "storage"],
        "pool" if is(&["VM."]) => vec!["vms"],
        "pool" if is(&["Datastore."]) => vec!["storage"],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_d() -> UserConfig {
        UserConfig::parse(include_str!("../tests/data/user-d.cfg"))
    }

    /// Privileges as `A B+`, `+` for propagation.
    fn show(config: &UserConfig, who: &str, path: &str) -> String {
        let list: Vec<String> = config
            .privileges_on(&who.parse().unwrap(), path)
            .iter()
            .map(|(name, propagate)| format!("{name}{}", if propagate { "+" } else { "" }))
            .collect();
        list.join(" ")
    }

    fn role(name: &str, flag: &str) -> String {
        let set = crate::roles::builtin(name).unwrap();
        let list: Vec<String> = set.iter().map(|privilege| format!("{privilege}{flag}")).collect();
        list.join(" ")
    }

    /// Reference 02 §16, vectors 44 to 51.
    #[test]
    fn effective_privileges_on_the_example() {
        let config = config_d();
        let show = |who: &str, path: &str| show(&config, who, path);
        assert_eq!(show("alice@pve", "/"), role("PVEAuditor", "+"));
        assert_eq!(show("bob@pve", "/"), role("PVEAuditor", "+"));
        assert_eq!(show("alice@pve", "/vms/999"), role("PVEVMUser", "+"));
        assert_eq!(show("alice@pve", "/vms/200"), "VM.Console VM.PowerMgmt");
        assert_eq!(show("alice@pve!full", "/vms/200"), "VM.Console VM.PowerMgmt");
        assert_eq!(show("alice@pve", "/vms/300"), "");
        assert_eq!(
            config
                .privileges_on(&"alice@pve".parse().unwrap(), "/vms/100")
                .held
                .len(),
            25
        );
        let ci = config.privileges_on(&"alice@pve!ci".parse().unwrap(), "/vms/100");
        assert_eq!(ci.held, crate::roles::builtin("PVEVMAdmin").unwrap());
        assert_eq!(show("alice@pve!ci", "/vms/200"), "VM.Console VM.PowerMgmt");
        assert_eq!(show("alice@pve!ci", "/vms/999"), role("PVEVMUser", "+"));
        assert_eq!(
            show("bob@pve", "/storage/local"),
            "Datastore.AllocateSpace Datastore.Audit Mapping.Audit Pool.Audit SDN.Audit Sys.Audit VM.Audit \
             VM.GuestAgent.Audit"
        );
        assert_eq!(
            show("bob@pve", "/access/groups/ops"),
            "Group.Allocate+ Realm.AllocateUser+ User.Modify+"
        );
        assert_eq!(show("ghost@corp", "/"), "");
    }

    /// Reference 02 §16, vector 52.
    #[test]
    fn capabilities_of_bob() {
        let capabilities = config_d().capabilities(&"bob@pve".parse().unwrap());
        let list = |category: &str| capabilities[category].iter().copied().collect::<Vec<_>>().join(" ");
        assert_eq!(list("access"), "Group.Allocate User.Modify");
        assert_eq!(list("dc"), "SDN.Audit Sys.Audit");
        assert_eq!(list("mapping"), "Mapping.Audit");
        assert_eq!(list("nodes"), "Sys.Audit");
        assert_eq!(list("sdn"), "SDN.Audit");
        assert_eq!(list("storage"), "Datastore.AllocateSpace Datastore.Audit");
        assert_eq!(list("vms"), "VM.Audit VM.GuestAgent.Audit");
        assert_eq!(capabilities.len(), 7);
    }

    const BASE_E: &str = "\
user:a@x1:1:0::::::
token:a@x1!sep:0:1::
token:a@x1!full:0:0::
user:b@x1:1:0::::::
user:root@pam:1:0::::::
token:root@pam!sep:0:1::
token:root@pam!full:0:0::
group:g1:a@x1,b@x1::
group:g2:a@x1::
role:A:VM.Audit:
role:P:VM.PowerMgmt:
role:C:VM.Console:
role:D:Datastore.Audit:
";

    /// Reference 02 §16, vectors 64 to 75.
    #[test]
    fn role_resolution_in_isolation() {
        type Query<'a> = (&'a str, &'a str, &'a str);
        let cases: &[(&str, &[Query<'_>])] = &[
            (
                "acl:1:/vms:@g1:A:\nacl:1:/vms:@g2:P:",
                &[
                    ("a@x1", "/vms/100", "VM.Audit+ VM.PowerMgmt+"),
                    ("b@x1", "/vms/100", "VM.Audit+"),
                ],
            ),
            (
                "acl:1:/vms:@g1:A:\nacl:1:/vms:a@x1:P:",
                &[("a@x1", "/vms/100", "VM.PowerMgmt+")],
            ),
            (
                "acl:1:/vms:a@x1:P:\nacl:1:/vms/100:@g1:A:",
                &[("a@x1", "/vms/100", "VM.Audit+")],
            ),
            (
                "acl:1:/vms:a@x1:P:\nacl:0:/vms/100:a@x1:A:",
                &[("a@x1", "/vms/100", "VM.Audit")],
            ),
            (
                "acl:1:/vms:a@x1:NoAccess:\nacl:1:/vms/100:a@x1:A:",
                &[("a@x1", "/vms/100", "VM.Audit+"), ("a@x1", "/vms/101", "")],
            ),
            (
                "acl:1:/vms:@g1:NoAccess:\nacl:1:/vms:@g2:A:",
                &[("a@x1", "/vms/100", "")],
            ),
            (
                "acl:0:/vms:a@x1:A:\nacl:1:/vms:@g1:P:",
                &[("a@x1", "/vms", "VM.Audit"), ("a@x1", "/vms/100", "VM.PowerMgmt+")],
            ),
            (
                "pool:p::100:s1:\npool:q:::s1:\nacl:1:/pool/p:a@x1:A:\nacl:1:/vms/100:a@x1:P:\nacl:1:/pool/q:a@x1:D:",
                &[
                    ("a@x1", "/vms/100", "VM.Audit VM.PowerMgmt+"),
                    ("a@x1", "/storage/s1", "Datastore.Audit VM.Audit"),
                    ("a@x1", "/vms/100/x", "VM.PowerMgmt+"),
                ],
            ),
            (
                "pool:p::100::\nacl:1:/pool/p:a@x1:NoAccess:\nacl:1:/vms/100:a@x1:P:",
                &[("a@x1", "/vms/100", "")],
            ),
            (
                "pool:p::100::\nacl:1:/pool/p:a@x1:P:\nacl:1:/vms/100:a@x1:NoAccess:",
                &[("a@x1", "/vms/100", "")],
            ),
            (
                "acl:1:/vms:a@x1:A,P:\nacl:1:/vms/100:a@x1!sep:P,C:",
                &[
                    ("a@x1!sep", "/vms/100", "VM.PowerMgmt+"),
                    ("a@x1!sep", "/vms", ""),
                    ("a@x1!full", "/vms/100", "VM.Audit+ VM.PowerMgmt+"),
                ],
            ),
            (
                "acl:0:/vms/100:a@x1:A:\nacl:1:/vms/100:a@x1!sep:A:",
                &[("a@x1!sep", "/vms/100", "VM.Audit")],
            ),
            (
                "acl:1:/vms:root@pam!sep:A:",
                &[("root@pam!sep", "/vms/100", "VM.Audit+"), ("root@pam!sep", "/", "")],
            ),
        ];
        for (acls, queries) in cases {
            let config = UserConfig::parse(&format!("{BASE_E}{acls}\n"));
            for (who, path, expected) in *queries {
                assert_eq!(show(&config, who, path), *expected, "{who} on {path} with {acls}");
            }
        }
        let config = UserConfig::parse(BASE_E);
        assert_eq!(
            config.privileges_on(&"root@pam!full".parse().unwrap(), "/x").held.len(),
            47
        );
        assert_eq!(show(&config, "root@pam!gone", "/"), "");
    }
}
