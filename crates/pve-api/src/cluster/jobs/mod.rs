//! `/cluster/jobs` (reference 05 §3); backup jobs are in `backup`.

mod realm_sync;

use jiff::tz::TimeZone;
use pve_contract::id;
use pve_jobs::calendar::{Event, upcoming, utc_text};
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use serde_json::{Value, json};

/// How many times are told if the caller does not say.
const ITERATIONS: usize = 10;

/// Binds the handlers below this folder.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER_JOBS, |call| Box::pin(index(call)));
    registry.bind(id::GET_CLUSTER_JOBS_SCHEDULE_ANALYZE, |call| Box::pin(analyze(call)));
    realm_sync::register(registry);
}

/// `GET /cluster/jobs`
async fn index(_call: Call) -> ApiResult {
    Ok(json!([{ "subdir": "schedule-analyze" }, { "subdir": "realm-sync" }]).into())
}

/// `GET /cluster/jobs/schedule-analyze`
async fn analyze(call: Call) -> ApiResult {
    // An event that never comes is looked for through centuries.
    blocking(move || {
        let event: Event = call
            .params
            .required("schedule")
            .parse()
            .map_err(|error: pve_jobs::calendar::InvalidEvent| ApiError::parameter("schedule", error.to_string()))?;
        let start = call.params.integer("starttime").unwrap_or_else(|| call.context.now());
        let count = call
            .params
            .integer("iterations")
            .and_then(|count| count.try_into().ok());
        let times = upcoming(&event, &TimeZone::system(), start, count.unwrap_or(ITERATIONS));
        let row = |time: i64| json!({ "timestamp": time, "utc": utc_text(time) });
        Ok::<_, ApiError>(Value::from_iter(times.into_iter().map(row)).into())
    })
    .await
}
