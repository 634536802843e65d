//! `/access/acl` (reference 02 §12.7).

use pve_access::acl::{self, AclChange};
use pve_access::paths::AclPath;
use pve_access::user_config::{AclEntry, RoleFlags};
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use serde_json::{Value, json};

use super::{answer, list};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_ACL, |call| Box::pin(all(call)));
    registry.bind(id::PUT_ACCESS_ACL, |call| Box::pin(update(call)));
}

async fn all(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let caller = call.auth_id();
        let sees_all = access.has(&caller, "/access", &["Sys.Audit"]);
        let rows = access
            .acls
            .iter()
            .filter(|(path, _)| sees_all || access.require_perm_modify(&caller, Some(path)).is_ok())
            .flat_map(|(path, entry)| entry_rows(path, entry));
        Ok(rows.collect())
    })
    .await
}

/// One row per member and role.
fn entry_rows(path: &AclPath, entry: &AclEntry) -> Vec<Value> {
    let groups = entry.groups.iter().map(|(id, flags)| ("group", id.clone(), flags));
    let users = entry.users.iter().map(|(id, flags)| ("user", id.to_string(), flags));
    let tokens = entry.tokens.iter().map(|(id, flags)| ("token", id.to_string(), flags));
    let rows = |(kind, member, flags): (&str, String, &RoleFlags)| {
        let row = |(role, propagate): (&String, &bool)| {
            json!({
                "path": path.as_str(),
                "type": kind,
                "ugid": member,
                "roleid": role,
                "propagate": u8::from(*propagate),
            })
        };
        flags.iter().map(row).collect::<Vec<_>>()
    };
    groups.chain(users).chain(tokens).flat_map(rows).collect()
}

async fn update(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let change = AclChange {
            path: call.params.required("path"),
            roles: list(call, "roles"),
            groups: list(call, "groups"),
            users: list(call, "users"),
            tokens: list(call, "tokens"),
            propagate: call.params.flag("propagate").unwrap_or(true),
            delete: call.params.is_set("delete"),
        };
        acl::update(&call.context, &call.auth_id(), &change)?;
        Ok(Value::Null)
    })
    .await
}
