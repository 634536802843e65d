//! What the suites of handlers share: running one as a daemon's worker does, and what came of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold")]
#![allow(dead_code, reason = "not every suite starts tasks or is refused")]

use std::fs;

use pve_contract::Method;
use pve_rest::{ApiError, ApiResult, Call, Registry};
use pve_schema::ids::{AuthId, Upid};
use pve_schema::{Context, Params};
use pve_task::{TaskList, process, status};
use pve_testing::wait_for;

/// Runs a method's handler with parameters that are checked already.
pub(crate) fn run(
    context: &Context,
    registry: &Registry,
    method: &'static Method,
    caller: Option<AuthId>,
    params: Params,
) -> ApiResult {
    let call = Call {
        context: context.clone(),
        method,
        params,
        caller,
        client: pve_rest::call::Client::default(),
        request_id: "r1".into(),
    };
    let handler = registry.get(method.id).expect("a handler is bound");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(handler(call))
}

/// The status of a refusal, and its text: of the first parameter at fault, if there is one.
pub(crate) fn refusal(result: ApiResult) -> (u16, String) {
    let ApiError {
        status,
        message,
        errors,
    } = result.unwrap_err();
    match errors.into_iter().next() {
        Some((name, text)) => (status, format!("{name}: {text}")),
        None => (status, message),
    }
}

/// Waits for a task's end; its log and status.
pub(crate) fn ended(context: &Context, upid: &Upid) -> (String, String) {
    wait_for("the task's end", || !process::is_running(upid));
    let path = TaskList::new(context).log_path(upid);
    (fs::read_to_string(&path).unwrap(), status::of_log(&path))
}
