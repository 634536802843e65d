//! `GET /cluster/nextid` (reference 04 §8.4)

use pve_cfs::Cfs;
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_schema::ids::VmId;
use pve_schema::property_string;
use serde_json::Value;

/// Where the search begins, unless the datacenter's options say otherwise.
const LOWER: u32 = 100;
/// First number that is not taken into account, unless the options say otherwise.
const UPPER: u32 = 1_000_000;

pub(super) async fn next(call: Call) -> ApiResult {
    blocking(move || {
        let cfs = Cfs::new(&call.context);
        let vmid = match asked(&call)? {
            Some(vmid) if cfs.find_guest(vmid)?.is_some() => {
                return Err(ApiError::parameter("vmid", format!("VM {vmid} already exists")));
            }
            Some(vmid) => vmid,
            None => {
                let options = cfs.read_text("datacenter.cfg")?.unwrap_or_default();
                let (lower, upper) = range(&options);
                cfs.next_free_vmid(lower, upper)?
            }
        };
        // A string, whatever the contract says: clients decode it as one.
        Ok(Value::from(vmid.to_string()).into())
    })
    .await
}

fn asked(call: &Call) -> Result<Option<VmId>, ApiError> {
    let Some(number) = call.params.integer("vmid") else {
        return Ok(None);
    };
    let vmid = u32::try_from(number)
        .ok()
        .and_then(|number| VmId::try_from(number).ok());
    vmid.map(Some)
        .ok_or_else(|| ApiError::parameter("vmid", "value does not look like a valid VM ID"))
}

/// The range of the option `next-id`; an invalid option counts as absent.
fn range(options: &str) -> (u32, u32) {
    let format = pve_contract::property_format("cluster.options.next-id");
    let value = options.lines().find_map(|line| line.strip_prefix("next-id:"));
    let properties = format
        .zip(value)
        .and_then(|(format, value)| property_string::parse(format, value.trim()).ok());
    let bound = |key: &str| {
        let properties = properties.as_ref()?;
        properties.integer(key).and_then(|number| u32::try_from(number).ok())
    };
    (bound("lower").unwrap_or(LOWER), bound("upper").unwrap_or(UPPER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_comes_from_the_options() {
        for (options, expected) in [
            ("", (100, 1_000_000)),
            ("console: html5\nnext-id: lower=200,upper=300\n", (200, 300)),
            ("next-id: upper=300\n", (100, 300)),
            ("next-id: lower=x\n", (100, 1_000_000)),
            ("#next-id: lower=7\n", (100, 1_000_000)),
        ] {
            assert_eq!(range(options), expected, "{options:?}");
        }
    }
}
