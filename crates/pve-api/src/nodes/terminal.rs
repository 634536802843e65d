//! `POST /nodes/{node}/termproxy`, and what it shares with the consoles of guests (reference 01 §4.5, 09 §19).

use std::time::{Duration, Instant};

use pve_access::AccessControl;
use pve_contract::id;
use pve_node::console::{is_listening, ports};
use pve_node::terminal::{Errand, Pass, Shell, shell};
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use pve_task::{Kinds, Task};
use serde_json::json;

use crate::task;

/// How long the task may take to listen.
const LISTEN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Binds the handlers of this file.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::POST_NODES_NODE_TERMPROXY, |call| {
        Box::pin(blocking(move || term_proxy(&call)))
    });
}

/// Adds the kinds of task that this file starts.
pub(super) fn register_tasks(kinds: &mut Kinds) {
    shell::register_tasks(kinds);
}

/// A shell of the node, for xterm.js.
fn term_proxy(call: &Call) -> ApiResult {
    if !call.is_for_this_node() {
        return Err(ApiError::status(501, "a shell of another node is not built yet\n"));
    }
    let errand: Errand = call.params.text("cmd").unwrap_or("login").parse()?;
    let options = call.params.text("cmd-opts").unwrap_or_default();
    let path = format!("/nodes/{}", call.params.required("node"));
    let pass = pass(call, &path, "Sys.Console")?;
    let task = Shell {
        pass: pass.clone(),
        command: shell::command_line(&call.auth_id(), errand, options),
    };
    answer(call, "vncshell", String::new(), &pass, &task)
}

/// A port and a ticket for it, for the caller alone.
pub(super) fn pass(call: &Call, path: &str, privilege: &str) -> Result<Pass, ApiError> {
    let port = ports::reserve(&call.context, ports::VNC)?;
    let who = call.auth_id();
    Ok(Pass {
        user: who.to_string(),
        ticket: AccessControl::load(&call.context)?.vnc_ticket(&who, path, Some(port))?,
        path: path.to_owned(),
        privilege: privilege.to_owned(),
        port,
    })
}

/// Starts the task that serves a terminal, and tells the caller how to get to it once it listens.
pub(super) fn answer<T: Task>(call: &Call, worker_type: &str, id: String, pass: &Pass, task: &T) -> ApiResult {
    let upid = task::start(call, worker_type, id, task)?;
    wait_until_listening(call, pass.port)?;
    let reply = json!({ "user": pass.user, "ticket": pass.ticket, "port": pass.port, "upid": upid.to_string() });
    Ok(reply.into())
}

/// Waits until a task listens on a port of the site's address.
pub(super) fn wait_until_listening(call: &Call, port: u16) -> Result<(), ApiError> {
    let deadline = Instant::now() + LISTEN;
    while !is_listening(call.context.site.address, port) {
        if Instant::now() >= deadline {
            return Err(ApiError::plain(format!(
                "Timeout while waiting for port '{port}' to get ready!"
            )));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
