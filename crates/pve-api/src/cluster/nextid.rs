//! `GET /cluster/nextid` (reference 04 §8.4)

use pve_cfs::{Cfs, Datacenter};
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_schema::ids::VmId;
use pve_schema::property_string::Properties;
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
                let (lower, upper) = range(&Datacenter::read(&cfs)?.properties("next-id"));
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

/// The range of the option `next-id`.
fn range(option: &Properties) -> (u32, u32) {
    let bound = |key: &str| option.integer(key).and_then(|number| u32::try_from(number).ok());
    (bound("lower").unwrap_or(LOWER), bound("upper").unwrap_or(UPPER))
}

#[cfg(test)]
mod tests {
    use pve_schema::property_string;

    use super::*;

    #[test]
    fn the_range_comes_from_the_option() {
        let format = pve_contract::property_format("cluster.options.next-id").unwrap();
        for (option, expected) in [
            ("", (100, 1_000_000)),
            ("lower=200,upper=300", (200, 300)),
            ("upper=300", (100, 300)),
        ] {
            let option = property_string::parse(format, option).unwrap();
            assert_eq!(range(&option), expected, "{option:?}");
        }
    }
}
