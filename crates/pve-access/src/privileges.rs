//! The 47 privileges (reference 02 §10.1), and sets of them.

use std::fmt;
use std::str::FromStr;

/// Who a privilege is meant for: the column of the table that the built-in roles are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// Whoever runs the machines.
    Root,
    /// Whoever manages a category.
    Admin,
    /// Whoever uses it.
    User,
    /// Whoever may look.
    Audit,
    /// Both admins and auditors hold it already as a manager's privilege.
    AdminAndAudit,
    /// Both users and auditors.
    UserAndAudit,
}

use Audience::{Admin, AdminAndAudit, Audit, Root, User, UserAndAudit};

/// Name and audience of every privilege, sorted by name: a privilege is its place in this table.
const TABLE: [(&str, Audience); 47] = [
    ("Datastore.Allocate", Admin),
    ("Datastore.AllocateSpace", User),
    ("Datastore.AllocateTemplate", Admin),
    ("Datastore.Audit", Audit),
    ("Group.Allocate", Admin),
    ("Mapping.Audit", Audit),
    ("Mapping.Modify", Admin),
    ("Mapping.Use", User),
    ("Permissions.Modify", Root),
    ("Pool.Allocate", Admin),
    ("Pool.Audit", UserAndAudit),
    ("Realm.Allocate", Root),
    ("Realm.AllocateUser", Admin),
    ("SDN.Allocate", Admin),
    ("SDN.Audit", AdminAndAudit),
    ("SDN.Use", User),
    ("Sys.AccessNetwork", Root),
    ("Sys.Audit", Audit),
    ("Sys.Console", Admin),
    ("Sys.Incoming", Root),
    ("Sys.Modify", Root),
    ("Sys.PowerMgmt", Root),
    ("Sys.Syslog", Admin),
    ("User.Modify", Admin),
    ("VM.Allocate", Admin),
    ("VM.Audit", Audit),
    ("VM.Backup", User),
    ("VM.Clone", Admin),
    ("VM.Config.CDROM", User),
    ("VM.Config.CPU", Admin),
    ("VM.Config.Cloudinit", User),
    ("VM.Config.Disk", Admin),
    ("VM.Config.HWType", Admin),
    ("VM.Config.Memory", Admin),
    ("VM.Config.Network", Admin),
    ("VM.Config.Options", Admin),
    ("VM.Console", User),
    ("VM.GuestAgent.Audit", Audit),
    ("VM.GuestAgent.FileRead", User),
    ("VM.GuestAgent.FileSystemMgmt", User),
    ("VM.GuestAgent.FileWrite", User),
    ("VM.GuestAgent.Unrestricted", Admin),
    ("VM.Migrate", Admin),
    ("VM.PowerMgmt", User),
    ("VM.Replicate", Admin),
    ("VM.Snapshot", Admin),
    ("VM.Snapshot.Rollback", Admin),
];

/// One privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Privilege(u8);

/// A text that names no privilege.
#[derive(Debug, thiserror::Error)]
#[error("invalid privilege '{0}'")]
pub struct InvalidPrivilege(pub String);

impl Privilege {
    /// Its name, `VM.Audit` for one.
    pub fn name(self) -> &'static str {
        TABLE.get(usize::from(self.0)).map_or("", |(name, _)| name)
    }

    /// All of them, sorted by name.
    pub fn all() -> impl Iterator<Item = Self> {
        (0_u8..).zip(TABLE).map(|(index, _)| Self(index))
    }
}

impl FromStr for Privilege {
    type Err = InvalidPrivilege;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let index = TABLE.binary_search_by(|(name, _)| (*name).cmp(text));
        index
            .ok()
            .and_then(|index| u8::try_from(index).ok())
            .map(Self)
            .ok_or_else(|| InvalidPrivilege(text.to_owned()))
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of privileges in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PrivilegeSet(u64);

impl PrivilegeSet {
    /// No privilege.
    pub const EMPTY: Self = Self(0);

    /// Every privilege.
    pub fn all() -> Self {
        Privilege::all().collect()
    }

    /// Adds one.
    pub fn insert(&mut self, privilege: Privilege) {
        self.0 |= 1 << privilege.0;
    }

    /// Whether it holds one.
    pub fn contains(self, privilege: Privilege) -> bool {
        self.0 & (1 << privilege.0) != 0
    }

    /// What is in either.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many it holds.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Its members, sorted by name.
    pub fn iter(self) -> impl Iterator<Item = Privilege> {
        Privilege::all().filter(move |privilege| self.contains(*privilege))
    }

    /// The privileges in a category (`VM`, …) or, with an empty text, in all.
    pub(crate) fn category(category: &str) -> Self {
        Privilege::all()
            .filter(|privilege| privilege.name().split('.').next() == Some(category))
            .collect()
    }

    /// The privileges that admins hold: all but the root-only column.
    pub(crate) fn admins() -> Self {
        Self::of(|audience| audience != Root)
    }

    /// The privileges that users hold.
    pub(crate) fn users() -> Self {
        Self::of(|audience| matches!(audience, User | Audit | UserAndAudit | AdminAndAudit))
    }

    /// The privileges that auditors hold.
    pub(crate) fn auditors() -> Self {
        Self::of(|audience| matches!(audience, Audit | UserAndAudit | AdminAndAudit))
    }

    fn of(select: impl Fn(Audience) -> bool) -> Self {
        Privilege::all()
            .zip(TABLE)
            .filter(|(_, (_, audience))| select(*audience))
            .map(|(privilege, _)| privilege)
            .collect()
    }
}

impl FromIterator<Privilege> for PrivilegeSet {
    fn from_iter<I: IntoIterator<Item = Privilege>>(iter: I) -> Self {
        let mut set = Self::EMPTY;
        for privilege in iter {
            set.insert(privilege);
        }
        set
    }
}

/// The names, sorted, joined with `,`.
impl fmt::Display for PrivilegeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, privilege) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(privilege.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_names_are_found() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for privilege in Privilege::all() {
            assert_eq!(privilege.name().parse::<Privilege>().unwrap(), privilege);
        }
        assert_eq!(PrivilegeSet::all().len(), 47);
        assert_eq!(
            "VM.Bogus".parse::<Privilege>().unwrap_err().to_string(),
            "invalid privilege 'VM.Bogus'"
        );
    }
}
