//! `/access/password` (reference 02 §12.9).

use pve_access::error::AccessError;
use pve_access::password;
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use pve_schema::ids::AuthId;
use serde_json::Value;

use super::answer;
use super::users::user_id;

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::PUT_ACCESS_PASSWORD, |call| Box::pin(change(call)));
}

/// Where the caller's own password is sent.
const CONFIRMATION: &str = "confirmation-password";

async fn change(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let caller = call.auth_id();
        let target = user_id(call)?;
        let is_own = caller == AuthId::User(target.clone());
        access.require_user(&target)?;
        if !caller.is_root() && !is_own && target.realm() == "pam" {
            return Err(AccessError::permission());
        }
        let confirmation = call.params.text(CONFIRMATION);
        access.reauthenticate(&caller, &target, confirmation, CONFIRMATION, call.client.address)?;
        password::set(
            &call.context,
            &*access.domains()?,
            &target,
            call.params.required("password"),
        )?;
        log::info!("changed password for user '{target}'");
        Ok(Value::Null)
    })
    .await
}
