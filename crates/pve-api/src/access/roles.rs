//! `/access/roles` (reference 02 §12.6).

use pve_access::edit;
use pve_access::error::AccessError;
use pve_access::privileges::{Privilege, PrivilegeSet};
use pve_access::roles::is_builtin;
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use serde_json::{Map, Value, json};

use super::{answer, list};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_ROLES, |call| Box::pin(all(call)));
    registry.bind(id::POST_ACCESS_ROLES, |call| Box::pin(create(call)));
    registry.bind(id::GET_ACCESS_ROLES_ROLEID, |call| Box::pin(one(call)));
    registry.bind(id::PUT_ACCESS_ROLES_ROLEID, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_ACCESS_ROLES_ROLEID, |call| Box::pin(delete(call)));
}

fn missing(name: &str) -> AccessError {
    AccessError::plain(format!("role '{name}' does not exist"))
}

/// The `privs` parameter.
fn privileges(call: &Call) -> Result<PrivilegeSet, AccessError> {
    let parse = |name: &str| name.parse::<Privilege>();
    list(call, "privs")
        .into_iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .map_err(|error| AccessError::parameter("privs", format!("invalid format - {error}")))
}

async fn all(call: Call) -> ApiResult {
    answer(call, |_, access| {
        let rows = access.roles().into_iter().map(|(name, privileges)| {
            json!({ "roleid": name, "privs": privileges.to_string(), "special": u8::from(is_builtin(name)) })
        });
        Ok(rows.collect())
    })
    .await
}

async fn one(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let name = call.params.required("roleid");
        let privileges = access.role(name).ok_or_else(|| missing(name))?;
        let object: Map<String, Value> = privileges
            .iter()
            .map(|privilege| (privilege.name().to_owned(), json!(1)))
            .collect();
        Ok(Value::Object(object))
    })
    .await
}

async fn create(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let name = call.params.required("roleid");
        if name.get(..3).is_some_and(|prefix| prefix.eq_ignore_ascii_case("PVE")) {
            return Err(AccessError::parameter(
                "roleid",
                "cannot use role ID starting with the (case-insensitive) 'PVE' namespace",
            ));
        }
        let privileges = privileges(call)?;
        edit::edit(&call.context, "create role failed", |config| {
            if config.role(name).is_some() {
                return Err(AccessError::plain(format!("role '{name}' already exists")));
            }
            config.custom_roles.insert(name.to_owned(), privileges);
            Ok(Value::Null)
        })
    })
    .await
}

async fn update(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let name = call.params.required("roleid");
        if is_builtin(name) {
            return Err(AccessError::plain(format!(
                "auto-generated role '{name}' cannot be modified"
            )));
        }
        let privileges = privileges(call)?;
        edit::edit(&call.context, "update role failed", |config| {
            let role = config.custom_roles.get_mut(name).ok_or_else(|| missing(name))?;
            *role = if call.params.is_set("append") {
                role.union(privileges)
            } else {
                privileges
            };
            Ok(Value::Null)
        })
    })
    .await
}

async fn delete(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let name = call.params.required("roleid");
        if is_builtin(name) {
            return Err(AccessError::plain(format!(
                "auto-generated role '{name}' cannot be deleted"
            )));
        }
        edit::edit(&call.context, "delete role failed", |config| {
            config.custom_roles.remove(name).ok_or_else(|| missing(name))?;
            Ok(Value::Null)
        })
    })
    .await
}
