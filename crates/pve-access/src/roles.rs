//! The roles that always exist (reference 02 §10.2).

use crate::privileges::{Privilege, PrivilegeSet};

/// Holds every privilege.
pub const ADMINISTRATOR: &str = "Administrator";
/// Takes away whatever else a subject has on a path.
pub const NO_ACCESS: &str = "NoAccess";

/// The privileges of a built-in role; `None` for a name that is no built-in role.
pub fn builtin(role: &str) -> Option<PrivilegeSet> {
    let category = PrivilegeSet::category;
    let users = || category("User").union(category("Group")).union(category("Realm"));
    let set = match role {
        ADMINISTRATOR => PrivilegeSet::all(),
        NO_ACCESS => PrivilegeSet::EMPTY,
        "PVEAdmin" => PrivilegeSet::admins()
            .iter()
            .filter(|privilege| privilege.name() != "Mapping.Modify")
            .collect(),
        "PVEAuditor" => PrivilegeSet::auditors(),
        "PVEVMAdmin" => category("VM"),
        "PVEVMUser" => category("VM").intersection(PrivilegeSet::users()),
        "PVETemplateUser" => named(&["VM.Audit", "VM.Clone"]),
        "PVEDatastoreAdmin" => category("Datastore"),
        "PVEDatastoreUser" => category("Datastore").intersection(PrivilegeSet::users()),
        "PVESysAdmin" => category("Sys").intersection(PrivilegeSet::admins()),
        "PVEUserAdmin" => users().intersection(PrivilegeSet::admins()),
        "PVEPoolAdmin" => category("Pool"),
        "PVEPoolUser" => category("Pool").intersection(PrivilegeSet::users()),
        "PVESDNAdmin" => category("SDN"),
        "PVESDNUser" => category("SDN").intersection(PrivilegeSet::users()),
        "PVEMappingAdmin" => category("Mapping"),
        "PVEMappingUser" => category("Mapping").intersection(PrivilegeSet::users()),
        _ => return None,
    };
    Some(set)
}

/// The names of the built-in roles, sorted.
pub const BUILTIN: [&str; 17] = [
    ADMINISTRATOR,
    NO_ACCESS,
    "PVEAdmin",
    "PVEAuditor",
    "PVEDatastoreAdmin",
    "PVEDatastoreUser",
    "PVEMappingAdmin",
    "PVEMappingUser",
    "PVEPoolAdmin",
    "PVEPoolUser",
    "PVESDNAdmin",
    "PVESDNUser",
    "PVESysAdmin",
    "PVETemplateUser",
    "PVEUserAdmin",
    "PVEVMAdmin",
    "PVEVMUser",
];

/// Whether a role is built in.
pub fn is_builtin(role: &str) -> bool {
    BUILTIN.contains(&role)
}

fn named(names: &[&str]) -> PrivilegeSet {
    names.iter().filter_map(|name| name.parse::<Privilege>().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of reference 02 §10.2, spelt out where it is short enough.
    #[test]
    fn built_in_roles_hold_what_the_table_says() {
        for (role, privileges) in [
            ("NoAccess", ""),
            (
                "PVEAuditor",
                "Datastore.Audit,Mapping.Audit,Pool.Audit,SDN.Audit,Sys.Audit,VM.Audit,VM.GuestAgent.Audit",
            ),
            (
                "PVEVMUser",
                "VM.Audit,VM.Backup,VM.Config.CDROM,VM.Config.Cloudinit,VM.Console,VM.GuestAgent.Audit,\
                 VM.GuestAgent.FileRead,VM.GuestAgent.FileSystemMgmt,VM.GuestAgent.FileWrite,VM.PowerMgmt",
            ),
            ("PVETemplateUser", "VM.Audit,VM.Clone"),
            (
                "PVEDatastoreAdmin",
                "Datastore.Allocate,Datastore.AllocateSpace,Datastore.AllocateTemplate,Datastore.Audit",
            ),
            ("PVEDatastoreUser", "Datastore.AllocateSpace,Datastore.Audit"),
            ("PVESysAdmin", "Sys.Audit,Sys.Console,Sys.Syslog"),
            ("PVEUserAdmin", "Group.Allocate,Realm.AllocateUser,User.Modify"),
            ("PVEPoolAdmin", "Pool.Allocate,Pool.Audit"),
            ("PVEPoolUser", "Pool.Audit"),
            ("PVESDNAdmin", "SDN.Allocate,SDN.Audit,SDN.Use"),
            ("PVESDNUser", "SDN.Audit,SDN.Use"),
            ("PVEMappingAdmin", "Mapping.Audit,Mapping.Modify,Mapping.Use"),
            ("PVEMappingUser", "Mapping.Audit,Mapping.Use"),
        ] {
            assert_eq!(builtin(role).unwrap().to_string(), privileges, "{role}");
        }
        assert_eq!(builtin("Administrator").unwrap().len(), 47);
        assert_eq!(builtin("PVEVMAdmin").unwrap().len(), 23);
        let admin = builtin("PVEAdmin").unwrap();
        let missing: Vec<&str> = Privilege::all()
            .filter(|p| !admin.contains(*p))
            .map(Privilege::name)
            .collect();
        assert_eq!(
            missing,
            [
                "Mapping.Modify",
                "Permissions.Modify",
                "Realm.Allocate",
                "Sys.AccessNetwork",
                "Sys.Incoming",
                "Sys.Modify",
                "Sys.PowerMgmt"
            ]
        );
        assert!(BUILTIN.iter().all(|role| builtin(role).is_some()));
        assert!(BUILTIN.is_sorted());
        assert!(builtin("PVESysUser").is_none());
    }
}
