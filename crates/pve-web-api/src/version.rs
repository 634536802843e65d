//! `GET /version` (reference 10c, "version")

use std::sync::LazyLock;

use pve_cfs::{Cfs, Datacenter};
use pve_contract::{RELEASE, id};
use pve_rest::{ApiResult, Call, Registry};
use serde_json::json;

/// Binds the handler. It runs where it is called: it looks at one file, as every request's authentication does, and to
/// hand that to another thread would cost more than all the rest.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_VERSION, |call| Box::pin(async move { version(&call) }));
}

/// The release as most clients compare it, and the build.
static SHORT: LazyLock<String> = LazyLock::new(|| major_and_minor(RELEASE));
static BUILD: LazyLock<String> = LazyLock::new(build_id);

/// The release whose contract is spoken; clients read it as dotted numbers.
fn version(call: &Call) -> ApiResult {
    let mut answer = json!({
        "version": RELEASE,
        "release": *SHORT,
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

fn major_and_minor(version: &str) -> String {
    version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

/// Tells builds apart: this suite's own version, as the hex digits that clients expect.
fn build_id() -> String {
    let version = env!("CARGO_PKG_VERSION").bytes();
    let digits: String = version.map(|byte| format!("{byte:02x}")).collect();
    format!("{digits:0>8}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_can_read_the_version() {
        assert_eq!(major_and_minor("9.2.11"), "9.2");
        assert!(RELEASE.starts_with("9.") && RELEASE.split('.').all(|part| part.parse::<u32>().is_ok()));
        let id = build_id();
        assert!((8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
