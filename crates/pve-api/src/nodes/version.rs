//! `GET /nodes/{node}/version` (reference 09 §8): what `GET /version` tells, without the console.

use pve_contract::RELEASE;
use pve_contract::version::{build_id, short_release};
use pve_rest::{ApiResult, Call};
use serde_json::json;

pub(super) async fn version(_call: Call) -> ApiResult {
    let answer = json!({ "version": RELEASE, "release": short_release(), "repoid": build_id() });
    Ok(answer.into())
}
