//! The content of `user.cfg` as a value, and the changes that are made to it.

use std::collections::{BTreeMap, BTreeSet};

use pve_schema::ids::{AuthId, TokenId, UserId};

use super::kept::KeptLine;
use crate::paths::AclPath;
use crate::privileges::PrivilegeSet;
use crate::roles;

/// Role name → whether it propagates to what is below.
pub type RoleFlags = BTreeMap<String, bool>;

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Whether it may log in.
    pub enable: bool,
    /// Unix seconds after which it may not; 0 for never.
    pub expire: u64,
    /// First name.
    pub firstname: Option<String>,
    /// Last name.
    pub lastname: Option<String>,
    /// Mail address; present but empty when a later field of the record is set.
    pub email: Option<String>,
    /// Free text.
    pub comment: Option<String>,
    /// `x` for second factors in `tfa.cfg`, else legacy keys.
    pub keys: Option<String>,
    /// Its API tokens by name.
    pub tokens: BTreeMap<String, Token>,
}

/// An API token without its secret, which is in `priv/token.cfg`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Token {
    /// Unix seconds after which it is void; 0 for never.
    pub expire: u64,
    /// Whether it has only rights of its own instead of its owner's.
    pub privsep: bool,
    /// Free text.
    pub comment: Option<String>,
}

/// A group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Its members, some of which may not exist.
    pub members: BTreeSet<UserId>,
    /// Free text.
    pub comment: Option<String>,
}

/// A pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// Its guests; one is in at most one pool.
    pub vms: BTreeSet<u64>,
    /// Its storages; one may be in many pools.
    pub storages: BTreeSet<String>,
    /// Free text.
    pub comment: Option<String>,
}

/// What was granted on one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AclEntry {
    /// To groups.
    pub groups: BTreeMap<String, RoleFlags>,
    /// To users.
    pub users: BTreeMap<UserId, RoleFlags>,
    /// To tokens.
    pub tokens: BTreeMap<TokenId, RoleFlags>,
}

impl AclEntry {
    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.groups.values().all(BTreeMap::is_empty)
            && self.users.values().all(BTreeMap::is_empty)
            && self.tokens.values().all(BTreeMap::is_empty)
    }
}

/// The content of `user.cfg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserConfig {
    /// Users; `root@pam` is always there.
    pub users: BTreeMap<UserId, User>,
    /// Groups.
    pub groups: BTreeMap<String, Group>,
    /// Pools, nested ones by their full name.
    pub pools: BTreeMap<String, Pool>,
    /// Roles that are not built in; see [`UserConfig::role`].
    pub custom_roles: BTreeMap<String, PrivilegeSet>,
    /// ACLs in the order of a walk through the tree.
    pub acls: BTreeMap<AclPath, AclEntry>,
    /// Lines that are kept although nobody understands them.
    pub(super) kept: Vec<KeptLine>,
}

impl Default for UserConfig {
    /// The content of an empty file.
    fn default() -> Self {
        let root = User {
            enable: true,
            ..User::default()
        };
        Self {
            users: BTreeMap::from([(UserId::root(), root)]),
            groups: BTreeMap::new(),
            pools: BTreeMap::new(),
            custom_roles: BTreeMap::new(),
            acls: BTreeMap::new(),
            kept: Vec::new(),
        }
    }
}

impl UserConfig {
    /// The privileges of a role, built in or not.
    pub fn role(&self, name: &str) -> Option<PrivilegeSet> {
        roles::builtin(name).or_else(|| self.custom_roles.get(name).copied())
    }

    /// All roles with their privileges, sorted by name.
    pub fn roles(&self) -> BTreeMap<&str, PrivilegeSet> {
        let builtin = roles::BUILTIN
            .iter()
            .map(|name| (*name, self.role(name).unwrap_or_default()));
        let custom = self.custom_roles.iter().map(|(name, set)| (name.as_str(), *set));
        custom.chain(builtin).collect()
    }

    /// A token of a user.
    pub fn token(&self, id: &TokenId) -> Option<&Token> {
        self.users.get(&id.user)?.tokens.get(&id.name)
    }

    /// The groups that list a user as member, sorted.
    pub fn groups_of<'a>(&'a self, user: &'a UserId) -> impl Iterator<Item = &'a str> {
        self.groups
            .iter()
            .filter(move |(_, group)| group.members.contains(user))
            .map(|(name, _)| name.as_str())
    }

    /// The pool that holds a guest.
    pub fn pool_of(&self, vmid: u64) -> Option<&str> {
        self.pools
            .iter()
            .find(|(_, pool)| pool.vms.contains(&vmid))
            .map(|(name, _)| name.as_str())
    }

    /// Takes a user out of every group.
    pub fn remove_from_groups(&mut self, user: &UserId) {
        for group in self.groups.values_mut() {
            group.members.remove(user);
        }
    }

    /// Removes what was granted to a user and to its tokens.
    pub fn remove_user_acls(&mut self, user: &UserId) {
        self.remove_acls_of_users(&BTreeSet::from([user.clone()]));
    }

    /// The same for several, in one walk.
    pub fn remove_acls_of_users(&mut self, users: &BTreeSet<UserId>) {
        self.edit_acls(|entry| {
            entry.users.retain(|user, _| !users.contains(user));
            entry.tokens.retain(|token, _| !users.contains(&token.user));
        });
    }

    /// Removes what was granted to a token.
    pub fn remove_token_acls(&mut self, token: &TokenId) {
        self.edit_acls(|entry| {
            entry.tokens.remove(token);
        });
    }

    /// Removes what was granted to a group.
    pub fn remove_group_acls(&mut self, group: &str) {
        self.remove_acls_of_groups(&BTreeSet::from([group.to_owned()]));
    }

    /// The same for several, in one walk.
    pub fn remove_acls_of_groups(&mut self, groups: &BTreeSet<String>) {
        self.edit_acls(|entry| entry.groups.retain(|group, _| !groups.contains(group)));
    }

    /// Removes what was granted on a path and below it.
    pub fn remove_acls_within(&mut self, path: &AclPath) {
        self.acls.retain(|candidate, _| !candidate.is_within(path));
    }

    /// Grants a role, replacing the propagate flag that it had.
    pub fn grant(&mut self, path: &AclPath, member: &AclMember, role: &str, propagate: bool) {
        let entry = self.acls.entry(path.clone()).or_default();
        member.flags_mut(entry).insert(role.to_owned(), propagate);
    }

    /// Takes a role away, whatever its propagate flag; one that was not granted is fine.
    pub fn revoke(&mut self, path: &AclPath, member: &AclMember, role: &str) {
        if let Some(entry) = self.acls.get_mut(path) {
            member.flags_mut(entry).remove(role);
        }
        self.acls.retain(|_, entry| !entry.is_empty());
    }

    fn edit_acls(&mut self, edit: impl Fn(&mut AclEntry)) {
        for entry in self.acls.values_mut() {
            edit(entry);
        }
        self.acls.retain(|_, entry| !entry.is_empty());
    }
}

/// Whom an ACL is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclMember {
    /// A group.
    Group(String),
    /// A user or a token.
    Subject(AuthId),
}

impl AclMember {
    fn flags_mut<'a>(&self, entry: &'a mut AclEntry) -> &'a mut RoleFlags {
        match self {
            Self::Group(group) => entry.groups.entry(group.clone()).or_default(),
            Self::Subject(AuthId::User(user)) => entry.users.entry(user.clone()).or_default(),
            Self::Subject(AuthId::Token(token)) => entry.tokens.entry(token.clone()).or_default(),
        }
    }
}

/// Whether a text may name a group or a role: `[A-Za-z0-9.\-_]+`.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

/// Whether a text may name a pool: up to three names, joined by `/`.
pub fn is_pool_name(text: &str) -> bool {
    text.split('/').count() <= 3 && text.split('/').all(is_name)
}

/// Whether a user or token can stand in a list of the file. What holds a separator would be read as somebody else:
/// `x,admin@pve` as `admin@pve`.
pub(super) fn is_listable(member: &str) -> bool {
    let is_one = !member.contains([',', ';', '\0']);
    if !is_one {
        log::warn!("user config - ignore '{member}' in a list: it holds a separator");
    }
    is_one
}
