//! What is on a storage, and new disks.

use pve_access::AccessControl;
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_storage::{AllocRequest, ImageFormat, Storages};
use serde_json::Value;

use crate::storage::storage_id;

/// `GET /nodes/{node}/storage/{storage}/content`: what the caller may not read is left out.
pub(super) async fn list(call: Call) -> ApiResult {
    blocking(move || {
        let rights = AccessControl::load(&call.context)?;
        let storages = Storages::open(&call.context)?;
        let caller = call.auth_id();
        let content = call.params.parse("content").unwrap_or_default();
        let vmid = call.params.parse("vmid").unwrap_or_default();
        let mut rows = Vec::new();
        for row in storages.list(&storage_id(&call)?, content, vmid)? {
            let readable = storages.check_volume_access(&rights, &caller, &row.volid, None, None);
            if readable.is_ok() {
                rows.push(serde_json::to_value(row).map_err(|error| ApiError::plain(error.to_string()))?);
            }
        }
        Ok::<_, ApiError>(Value::from(rows).into())
    })
    .await
}

/// `POST /nodes/{node}/storage/{storage}/content`: makes a disk.
pub(super) async fn create(call: Call) -> ApiResult {
    blocking(move || {
        let name = call.params.required("filename");
        let vmid = call.params.required("vmid").parse();
        let vmid =
            vmid.map_err(|error: pve_schema::ids::InvalidVmId| ApiError::parameter("vmid", error.to_string()))?;
        let request = AllocRequest {
            storage: storage_id(&call)?,
            vmid,
            format: format_of(name, call.params.text("format"))?,
            // Without one the storage chooses.
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            size_kib: size_in_kib(call.params.required("size"))?,
        };
        let volume = Storages::open(&call.context)?.alloc(&request)?;
        Ok::<_, ApiError>(Value::from(volume.to_string()).into())
    })
    .await
}

/// The format that name and parameter agree on.
fn format_of(name: &str, given: Option<&str>) -> Result<Option<ImageFormat>, ApiError> {
    let by_name = ImageFormat::of_file_name(name).map(|(_, format)| format);
    let given: Option<ImageFormat> = given.and_then(|given| given.parse().ok());
    match (given, by_name) {
        (Some(given), Some(by_name)) if given != by_name => Err(ApiError::parameter(
            "format",
            format!("different storage formats ({given} != {by_name})"),
        )),
        (given, by_name) => Ok(given.or(by_name)),
    }
}

/// `123`, `4M`, `5G`
fn size_in_kib(text: &str) -> Result<u64, ApiError> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'M') => (text.strip_suffix('M'), 1024),
        Some(b'G') => (text.strip_suffix('G'), 1024 * 1024),
        _ => (Some(text), 1),
    };
    let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    let size = number.and_then(|number| number.checked_mul(factor));
    size.ok_or_else(|| ApiError::plain(format!("unable to parse size '{text}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_kib() {
        for (text, expected) in [("7", 7), ("2M", 2048), ("1G", 1 << 20)] {
            assert_eq!(size_in_kib(text).unwrap(), expected);
        }
        for text in ["", "M", "1T", "99999999999999999999", "99999999999999999G"] {
            let error = size_in_kib(text).unwrap_err();
            assert_eq!(error.message, format!("unable to parse size '{text}'\n"));
        }
    }
}
