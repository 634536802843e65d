//! `/nodes/{node}/tasks/{upid}` (reference 03 §5.6)

use std::io::Read as _;

use flate2::Compression;
use flate2::read::GzEncoder;
use pve_access::AccessControl;
use pve_rest::{ApiError, ApiResult, Call, Content, Download, Reply, blocking};
use pve_schema::errno_text;
use pve_schema::ids::Upid;
use pve_task::{TaskList, log_file, process, status as task_status};
use serde_json::{Value, json};

use super::{is_owner, row};

/// Lines where no number is asked for.
const DEFAULT_LIMIT: u64 = 50;
/// A log of more bytes is sent compressed.
const COMPRESS_FROM: u64 = 1024;
/// The level for what is compressed while somebody waits (reference 12 §4).
const COMPRESSION: Compression = Compression::new(2);

/// `GET …/{upid}`: what is below, whether there is such a task or not.
pub(super) async fn index(_call: Call) -> ApiResult {
    Ok(json!([{ "name": "log" }, { "name": "status" }]).into())
}

/// `GET …/{upid}/status`
pub(super) async fn status(call: Call) -> ApiResult {
    blocking(move || {
        let upid = permitted(&call, "Sys.Audit")?;
        let list = existing(&call, &upid)?;
        let mut row = row(&upid, true);
        if process::is_running(&upid) {
            row.insert("status".to_owned(), "running".into());
        } else {
            row.insert("status".to_owned(), "stopped".into());
            row.insert(
                "exitstatus".to_owned(),
                task_status::of_log(&list.log_path(&upid)).into(),
            );
        }
        Ok::<_, ApiError>(Value::from(row).into())
    })
    .await
}

/// `DELETE …/{upid}`: stops the task; one that has ended is stopped already.
pub(super) async fn stop(call: Call) -> ApiResult {
    blocking(move || {
        let upid = permitted(&call, "Sys.Modify")?;
        existing(&call, &upid)?;
        process::stop(&upid);
        Ok::<_, ApiError>(Reply::null())
    })
    .await
}

/// `GET …/{upid}/log`
pub(super) async fn log(call: Call) -> ApiResult {
    blocking(move || {
        let upid = permitted(&call, "Sys.Audit")?;
        let list = TaskList::new(&call.context);
        let number = |name: &str| call.params.integer(name).and_then(|number| u64::try_from(number).ok());
        let (start, limit) = (number("start"), number("limit"));
        if call.params.is_set("download") {
            if start.is_some() || limit.is_some() {
                let text = "'download' cannot be used together with 'start' or 'limit' parameters";
                return Err(ApiError::plain(text));
            }
            return download(&list, &upid);
        }
        let page = list.read_log(&upid, start.unwrap_or(0), limit.unwrap_or(DEFAULT_LIMIT));
        let lines = page.lines.into_iter().map(|(n, text)| json!({ "n": n, "t": text }));
        Ok(Reply::page(Value::from_iter(lines), page.total))
    })
    .await
}

fn download(list: &TaskList, upid: &Upid) -> ApiResult {
    let failed = |error: std::io::Error| ApiError::plain(format!("unable to open file - {}", errno_text(&error)));
    let (file, length) = list.open_log(upid).map_err(failed)?;
    // The log of a task that still runs grows; what is there now is what is sent.
    let mut log = file.take(length);
    let compress = length > COMPRESS_FROM;
    let content = if compress {
        Content::Stream(Box::new(GzEncoder::new(log, COMPRESSION)))
    } else {
        let mut text = Vec::new();
        log.read_to_end(&mut text).map_err(failed)?;
        Content::Whole(text)
    };
    Ok(Reply {
        download: Some(Download {
            content,
            content_type: "text/plain".to_owned(),
            content_encoding: compress.then(|| "gzip".to_owned()),
            content_disposition: Some(format!("attachment; filename=\"{}\"", log_file::download_name(upid))),
        }),
        ..Reply::default()
    })
}

/// The task that the call is about, if it is the caller's or he holds the privilege.
fn permitted(call: &Call, privilege: &str) -> Result<Upid, ApiError> {
    let upid: Upid = call
        .params
        .required("upid")
        .parse()
        .map_err(|_| ApiError::parameter("upid", "unable to parse worker upid"))?;
    let caller = call.auth_id();
    if !is_owner(&caller, &upid) {
        let path = format!("/nodes/{}", call.params.required("node"));
        AccessControl::load(&call.context)?.require_all(&caller, &path, &[privilege])?;
    }
    Ok(upid)
}

fn existing(call: &Call, upid: &Upid) -> Result<TaskList, ApiError> {
    let list = TaskList::new(&call.context);
    if list.has_log(upid) {
        Ok(list)
    } else {
        Err(ApiError::parameter("upid", "no such task"))
    }
}
