//! `GET /cluster/tasks` (reference 03 §5.6, 04 §15.6)

use pve_access::AccessControl;
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_task::TaskList;
use pve_task::list::Published;
use serde_json::Value;

pub(super) async fn list(call: Call) -> ApiResult {
    blocking(move || {
        let caller = call.auth_id();
        let all = AccessControl::load(&call.context)?.has(&caller, "/", &["Sys.Audit"]);
        let caller = caller.to_string();
        let rows = TaskList::new(&call.context).published()?;
        // After the split a token's name is no longer in `user`: a token without the privilege sees nothing.
        let visible = rows
            .into_iter()
            .map(Published::split_token)
            .filter(|row| all || row.user == caller);
        let rows: Result<Vec<Value>, _> = visible.map(serde_json::to_value).collect();
        let rows = rows.map_err(|error| ApiError::plain(error.to_string()))?;
        Ok::<_, ApiError>(Value::from(rows).into())
    })
    .await
}
