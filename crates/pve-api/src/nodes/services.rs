//! `/nodes/{node}/services` (reference 09 §6).

use pve_contract::{Verb, find, id};
use pve_node::services::{self, Command, State, command::Handle};
use pve_rest::{ApiError, ApiResult, Call, Registry};
use pve_task::Kinds;
use serde_json::{Value, json};

use super::guest::{index, run};
use crate::task;

/// What is below a service.
const CHILDREN: [&str; 5] = ["state", "start", "stop", "restart", "reload"];

/// Binds the handlers of this file.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_SERVICES, |call| Box::pin(run(call, list)));
    registry.bind(id::GET_NODES_NODE_SERVICES_SERVICE, |call| {
        Box::pin(run(call, |_| Ok(index(&CHILDREN))))
    });
    registry.bind(id::GET_NODES_NODE_SERVICES_SERVICE_STATE, |call| {
        Box::pin(run(call, state))
    });
    registry.bind(id::POST_NODES_NODE_SERVICES_SERVICE_START, |call| {
        Box::pin(run(call, |call| command(call, Command::Start)))
    });
    registry.bind(id::POST_NODES_NODE_SERVICES_SERVICE_STOP, |call| {
        Box::pin(run(call, |call| command(call, Command::Stop)))
    });
    registry.bind(id::POST_NODES_NODE_SERVICES_SERVICE_RESTART, |call| {
        Box::pin(run(call, |call| command(call, Command::Restart)))
    });
    registry.bind(id::POST_NODES_NODE_SERVICES_SERVICE_RELOAD, |call| {
        Box::pin(run(call, |call| command(call, Command::Reload)))
    });
}

/// Adds the kinds of task that this file starts.
pub(super) fn register_tasks(kinds: &mut Kinds) {
    services::register_tasks(kinds);
}

/// The services that can be asked for: the contract has them, sorted.
fn ids() -> &'static [&'static str] {
    find("/nodes/{node}/services/{service}", Verb::Get)
        .and_then(|method| method.parameter("service"))
        .map_or(&[], |parameter| parameter.schema.words)
}

/// `GET …/services`
fn list(call: &Call) -> ApiResult {
    let states = services::states_of_this_second(&call.context.site, ids());
    Ok(Value::from_iter(states.iter().map(State::to_json)).into())
}

/// `GET …/services/{service}/state`
fn state(call: &Call) -> ApiResult {
    let service = call.params.required("service");
    let states = services::states(&call.context.site, &[service]);
    let state = states.first().ok_or_else(|| ApiError::plain("no such service"))?;
    Ok(state.to_json().into())
}

/// `POST …/services/{service}/start` and its like.
fn command(call: &Call, command: Command) -> ApiResult {
    let service = call.params.required("service").to_owned();
    let order = Handle {
        service: service.clone(),
        command,
    };
    let upid = task::start(call, command.worker_type(), service, &order)?;
    Ok(json!(upid.to_string()).into())
}
