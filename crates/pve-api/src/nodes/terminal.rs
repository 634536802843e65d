//! `POST /nodes/{node}/termproxy`, `…/vncshell` and `…/spiceshell`, and what they share with the consoles of guests
//! (reference 01 §4.5, 09 §19).

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use pve_access::AccessControl;
use pve_cfs::{Cfs, Datacenter};
use pve_contract::id;
use pve_node::console::{self, is_listening, ports};
use pve_node::terminal::screen::{DEFAULT_SIDES, Display};
use pve_node::terminal::{Errand, Pass, Place, Shell, ShellScreen, ShellSpice, shell};
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use pve_schema::ids::{AuthId, NodeName};
use pve_task::{Kinds, Task};
use serde_json::json;

use super::viewer::Viewer;
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
    registry.bind(id::POST_NODES_NODE_VNCSHELL, |call| {
        Box::pin(blocking(move || vnc_shell(&call)))
    });
    registry.bind(id::POST_NODES_NODE_SPICESHELL, |call| {
        Box::pin(blocking(move || spice_shell(&call)))
    });
}

/// Adds the kinds of task that this file starts.
pub(super) fn register_tasks(kinds: &mut Kinds) {
    shell::register_tasks(kinds);
}

/// A shell of the node, for xterm.js.
fn term_proxy(call: &Call) -> ApiResult {
    let command = command(call)?;
    let pass = pass(call, &path(call), "Sys.Console")?;
    let task = Shell {
        pass: pass.clone(),
        command,
    };
    answer(call, "vncshell", String::new(), &pass, &task)
}

/// A shell of the node, for noVNC.
fn vnc_shell(call: &Call) -> ApiResult {
    check_caller(call)?;
    check_websocket(call)?;
    let command = command(call)?;
    let side = |name: &str, default: u16| {
        call.params
            .integer(name)
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(default)
    };
    let display = Display {
        pass: pass(call, &path(call), "Sys.Console")?,
        password: random_password()?,
        width: side("width", DEFAULT_SIDES.0),
        height: side("height", DEFAULT_SIDES.1),
        name: shell_name(call),
    };
    let task = ShellScreen {
        display: display.clone(),
        command,
    };
    answer_display(call, "vncshell", String::new(), &display, &task)
}

/// What a ticket for the node's shell is good for: the node as the caller names it.
fn path(call: &Call) -> String {
    format!("/nodes/{}", call.params.required("node"))
}

/// The command behind a shell of the node that the call names: these methods run where they are called, and reach other
/// nodes by ssh (reference 09 §19.1).
fn command(call: &Call) -> Result<Vec<String>, ApiError> {
    let errand: Errand = call.params.text("cmd").unwrap_or("login").parse()?;
    let options = call.params.text("cmd-opts").unwrap_or_default();
    Ok(shell::command_line(&place(call)?, &call.auth_id(), errand, options))
}

fn place(call: &Call) -> Result<Place, ApiError> {
    Ok(match other_node(call)? {
        None => Place::Here,
        Some(node) => Place::There(Cfs::new(&call.context).peer(&node)?),
    })
}

/// The node that the call names, if it is another one.
pub(super) fn other_node(call: &Call) -> Result<Option<NodeName>, ApiError> {
    if call.is_for_this_node() {
        return Ok(None);
    }
    let name = call.params.required("node");
    let node = name.parse();
    node.map(Some)
        .map_err(|_| ApiError::plain(format!("no such node '{name}'")))
}

/// A shell of the node, for remote-viewer. The call was brought to its node.
fn spice_shell(call: &Call) -> ApiResult {
    check_caller(call)?;
    let command = command(call)?;
    let display = Display {
        pass: pass_for(call, &path(call), "Sys.Console", ports::SPICE)?,
        password: console::spice_password().map_err(no_random)?,
        width: DEFAULT_SIDES.0,
        height: DEFAULT_SIDES.1,
        name: shell_name(call),
    };
    let task = ShellSpice {
        display: display.clone(),
        layout: keyboard(call)?,
        command,
    };
    task::start(call, "spiceshell", String::new(), &task)?;
    wait_until_listening(call, display.pass.port)?;
    let viewer = Viewer {
        title: &display.name,
        vmid: 0,
        port: display.pass.port,
        password: &display.password,
    };
    viewer.answer(call)
}

/// The layout of the cluster's keyboards.
fn keyboard(call: &Call) -> Result<Option<String>, ApiError> {
    let options = Datacenter::read(&Cfs::new(&call.context))?;
    Ok(options.text("keyboard").map(str::to_owned))
}

/// What a viewer's window is called.
fn shell_name(call: &Call) -> String {
    format!("Shell on '{}'", call.params.required("node"))
}

/// Refuses API tokens, which are no users, and errands that are root's (reference 09 §19.1).
fn check_caller(call: &Call) -> Result<(), ApiError> {
    if let AuthId::Token(token) = call.auth_id() {
        let text = format!("value '{token}' does not look like a valid user name");
        return Err(ApiError::plain(text));
    }
    if call.params.text("cmd").is_some_and(|errand| errand != "login") && !call.is_root() {
        return Err(ApiError::permission("user != root@pam"));
    }
    Ok(())
}

/// Refuses viewers that connect by themselves: VNC with TLS of its own is not served.
pub(super) fn check_websocket(call: &Call) -> Result<(), ApiError> {
    if call.params.is_set("websocket") {
        return Ok(());
    }
    let text = "VNC without a websocket is not supported by this build yet: call with websocket=1\n";
    Err(ApiError::status(501, text))
}

/// A display's password.
pub(super) fn random_password() -> Result<String, ApiError> {
    console::random_password().map_err(no_random)
}

fn no_random(error: std::io::Error) -> ApiError {
    ApiError::plain(format!("no random bytes - {error}"))
}

/// A port and a ticket for it, for the caller alone.
pub(super) fn pass(call: &Call, path: &str, privilege: &str) -> Result<Pass, ApiError> {
    pass_for(call, path, privilege, ports::VNC)
}

/// As [`pass`], for a port of a range.
fn pass_for(call: &Call, path: &str, privilege: &str, range: RangeInclusive<u16>) -> Result<Pass, ApiError> {
    let port = ports::reserve(&call.context, range)?;
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

/// The same for a VNC display.
pub(super) fn answer_display<T: Task>(
    call: &Call,
    worker_type: &str,
    id: String,
    display: &Display,
    task: &T,
) -> ApiResult {
    let Display { pass, password, .. } = display;
    let upid = task::start(call, worker_type, id, task)?;
    wait_until_listening(call, pass.port)?;
    let certificate = Cfs::new(&call.context).read_text("pve-root-ca.pem")?;
    let reply = json!({
        "user": pass.user,
        // Old clients send the whole ticket as password, of which VNC takes the first eight characters.
        "ticket": format!("{password}:{}", pass.ticket),
        "port": pass.port,
        "upid": upid.to_string(),
        "cert": certificate.unwrap_or_default(),
        "password": password,
    });
    Ok(reply.into())
}

/// Waits until a task listens on a port of the site's address.
fn wait_until_listening(call: &Call, port: u16) -> Result<(), ApiError> {
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
