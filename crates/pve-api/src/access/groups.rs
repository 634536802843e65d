//! `/access/groups` (reference 02 §12.5).

use pve_access::edit;
use pve_access::error::AccessError;
use pve_access::user_config::Group;
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use serde_json::{Value, json};

use super::{answer, non_empty};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_GROUPS, |call| Box::pin(all(call)));
    registry.bind(id::POST_ACCESS_GROUPS, |call| Box::pin(create(call)));
    registry.bind(id::GET_ACCESS_GROUPS_GROUPID, |call| Box::pin(one(call)));
    registry.bind(id::PUT_ACCESS_GROUPS_GROUPID, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_ACCESS_GROUPS_GROUPID, |call| Box::pin(delete(call)));
}

/// One of these on a group shows it.
const SEE_GROUP: [&str; 3] = ["User.Modify", "Sys.Audit", "Group.Allocate"];

fn missing(name: &str) -> AccessError {
    AccessError::plain(format!("group '{name}' does not exist"))
}

fn members(group: &Group) -> Vec<&str> {
    group.members.iter().map(|id| id.as_str()).collect()
}

async fn all(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let caller = call.auth_id();
        let rows = access.visible_groups(&caller, &SEE_GROUP).filter_map(|name| {
            let group = access.groups.get(name)?;
            let mut row = json!({ "groupid": name, "users": members(group).join(",") });
            if let Some(comment) = &group.comment {
                row["comment"] = json!(comment);
            }
            Some(row)
        });
        Ok(rows.collect())
    })
    .await
}

async fn one(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let name = call.params.required("groupid");
        let group = access.groups.get(name).ok_or_else(|| missing(name))?;
        let mut object = json!({ "members": members(group) });
        if let Some(comment) = &group.comment {
            object["comment"] = json!(comment);
        }
        Ok(object)
    })
    .await
}

async fn create(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let name = call.params.required("groupid");
        edit::edit(&call.context, "create group failed", |config| {
            if config.groups.contains_key(name) {
                return Err(AccessError::plain(format!("group '{name}' already exists")));
            }
            let group = Group {
                comment: non_empty(call, "comment"),
                ..Group::default()
            };
            config.groups.insert(name.to_owned(), group);
            Ok(Value::Null)
        })
    })
    .await
}

async fn update(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let name = call.params.required("groupid");
        edit::edit(&call.context, "update group failed", |config| {
            let group = config.groups.get_mut(name).ok_or_else(|| missing(name))?;
            if call.params.has("comment") {
                group.comment = non_empty(call, "comment");
            }
            Ok(Value::Null)
        })
    })
    .await
}

async fn delete(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let name = call.params.required("groupid");
        edit::edit(&call.context, "delete group failed", |config| {
            config.groups.remove(name).ok_or_else(|| missing(name))?;
            config.remove_group_acls(name);
            Ok(Value::Null)
        })
    })
    .await
}
