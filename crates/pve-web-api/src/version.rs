//! `GET /version` (reference 10c, "version")

use std::sync::LazyLock;

use pve_cfs::{Cfs, Datacenter};
use pve_contract::version::{build_id, short_release};
use pve_contract::{RELEASE, id};
use pve_rest::{ApiResult, Call, Registry};
use serde_json::json;

/// Binds the handler. It runs where it is called: it looks at one file, as every request's authentication does, and to
/// hand that to another thread would cost more than all the rest.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_VERSION, |call| Box::pin(async move { version(&call) }));
}

/// The build; the release is clear text already.
static BUILD: LazyLock<String> = LazyLock::new(build_id);

/// The release whose contract is spoken; clients read it as dotted numbers.
fn version(call: &Call) -> ApiResult {
    let mut answer = json!({
        "version": RELEASE,
        "release": short_release(),
        "repoid": *BUILD,
    });
    // Which console the web interface opens.
    if let Some(console) = Datacenter::read(&Cfs::new(&call.context))?.text("console") {
        answer["console"] = console.into();
    }
    Ok(answer.into())
}

/// The release and the build as one text, as the status of a node shows it: `pve-manager/9.2.3/302e312e30`.
pub fn manager_version() -> String {
    format!("pve-manager/{RELEASE}/{}", build_id())
}
