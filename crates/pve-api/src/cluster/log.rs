//! `GET /cluster/log` (reference 03 §6, 04 §15.5)

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_cfs::cluster_log::{DEFAULT_MAX, LogEntry};
use pve_rest::{ApiError, ApiResult, Call, blocking};
use serde_json::{Value, json};

pub(super) async fn read(call: Call) -> ApiResult {
    blocking(move || {
        let caller = call.auth_id();
        let access = AccessControl::load(&call.context)?;
        let max = call.params.integer("max").and_then(|max| usize::try_from(max).ok());
        let own = caller.to_string();
        let only = (!access.has(&caller, "/", &["Sys.Syslog"])).then_some(own.as_str());
        let entries = Cfs::new(&call.context)
            .cluster_log()
            .dump(only, max.unwrap_or(DEFAULT_MAX))?;
        Ok::<_, ApiError>(Value::from_iter(entries.iter().map(row)).into())
    })
    .await
}

fn row(entry: &LogEntry) -> Value {
    json!({
        "uid": entry.uid.to_string(),
        "time": entry.time,
        "pri": entry.pri,
        "tag": entry.tag,
        "pid": entry.pid,
        "node": entry.node,
        "user": entry.user,
        "msg": entry.msg,
        "id": format!("{}:{}", entry.uid, entry.node),
    })
}
