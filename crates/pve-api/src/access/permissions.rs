//! `/access/permissions` (reference 02 §12.9).

use pve_access::error::AccessError;
use pve_access::permissions::Privileges;
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use pve_schema::ids::{AuthId, InvalidUserId};
use serde_json::{Map, Value, json};

use super::answer;

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_PERMISSIONS, |call| Box::pin(effective(call)));
}

async fn effective(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let caller = call.auth_id();
        let subject = match call.params.text("userid") {
            Some(text) => text
                .parse()
                .map_err(|error: InvalidUserId| AccessError::parameter("userid", error.to_string()))?,
            None => caller.clone(),
        };
        if !is_own(&caller, &subject) {
            access.require_all(&caller, "/access", &["Sys.Audit"])?;
        }
        let on = |path: &str| access.privileges_on(&subject, path);
        let object: Map<String, Value> = match call.params.text("path") {
            // Taken as it is, and answered even when there is nothing.
            Some(path) => Map::from_iter([(path.to_owned(), flags(on(path)))]),
            None => access
                .permission_paths()
                .into_iter()
                .map(|path| (on(&path), path))
                .filter(|(privileges, _)| !privileges.held.is_empty())
                .map(|(privileges, path)| (path, flags(privileges)))
                .collect(),
        };
        Ok(Value::Object(object))
    })
    .await
}

/// Whether the subject is the caller, or one of the caller's tokens.
fn is_own(caller: &AuthId, subject: &AuthId) -> bool {
    match (caller, subject) {
        (AuthId::User(user), AuthId::Token(token)) => *user == token.user,
        _ => caller == subject,
    }
}

/// Privilege → whether it propagates.
fn flags(privileges: Privileges) -> Value {
    let object: Map<String, Value> = privileges
        .iter()
        .map(|(name, propagate)| (name.to_owned(), json!(u8::from(propagate))))
        .collect();
    Value::Object(object)
}
