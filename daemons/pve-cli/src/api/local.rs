//! Calls of methods in this process: the daemons' own handlers, permission checks and parameter checks, as `root@pam`.
//! No daemon need run.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};

use pve_contract::{Method, MethodId, Route};
use pve_rest::{ApiError, Pipeline, Registry, Reply, Role};
use pve_schema::ids::{AuthId, UserId};
use pve_schema::{Context, Site};
use pve_task::Kinds;
use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};

use super::{CallError, signals};

/// What runs the methods.
#[derive(Debug)]
pub(crate) struct Local {
    pipeline: Pipeline,
    runtime: Runtime,
    request_id: Arc<str>,
}

/// Whether a method has a handler.
pub(crate) fn is_built(method: MethodId) -> bool {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(registry).get(method).is_some()
}

/// All handlers of the root side.
fn registry() -> Registry {
    let mut registry = Registry::new();
    pve_api::register(&mut registry);
    pve_web_api::register(&mut registry);
    registry
}

/// What tasks there are.
pub(crate) fn task_kinds() -> Kinds {
    let mut kinds = Kinds::new();
    pve_api::register_tasks(&mut kinds);
    kinds
}

impl Local {
    /// Calls on this site.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new(site: Site) -> Result<Self, CallError> {
        Ok(Self {
            pipeline: Pipeline {
                context: Context::new(site),
                registry: registry(),
                role: Role::Root,
            },
            runtime: Builder::new_current_thread().enable_all().build()?,
            request_id: uuid::Uuid::new_v4().to_string().into(),
        })
    }

    /// The site and the clock.
    pub(crate) fn context(&self) -> &Context {
        &self.pipeline.context
    }

    /// Calls a method with all of its parameters.
    ///
    /// # Errors
    /// The method's refusal.
    pub(crate) fn call(&self, method: &'static Method, params: Map<String, Value>) -> Result<Reply, ApiError> {
        let uri_params = Vec::new();
        self.call_route(Route { method, uri_params }, params)
    }

    /// Calls the method that a path led to.
    ///
    /// # Errors
    /// The method's refusal.
    pub(crate) fn call_route(&self, route: Route, params: Map<String, Value>) -> Result<Reply, ApiError> {
        let root = AuthId::User(UserId::root());
        self.held(|| {
            self.runtime
                .block_on(self.pipeline.call(&root, route, params, &self.request_id))
                .map(Reply::settled)
        })
    }

    /// Does something that is not to be cut off half-way: signals wait until it is done.
    pub(crate) fn held<T>(&self, work: impl FnOnce() -> T) -> T {
        let _held = signals::hold();
        work()
    }

    /// Makes a change that no method makes, not to be cut off either; it is in the log as the API's calls are. `call` tells
    /// tool, verb and words.
    ///
    /// # Errors
    /// Those of the work.
    pub(crate) fn change<T, E: Display>(&self, call: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let changed = self.held(work);
        let line = format!("audit: user={} rhost= {call}", UserId::root());
        match &changed {
            Ok(_) => log::info!("{line}: ok"),
            Err(error) => log::warn!("{line}: 500 {error}"),
        }
        changed
    }

    /// What a method answers to these parameters.
    ///
    /// # Errors
    /// The method's refusal.
    pub(crate) fn data(&self, method: MethodId, params: &[(&str, &str)]) -> Result<Value, ApiError> {
        let params = params
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        let reply = self.call(pve_contract::method(method), params.collect())?;
        Ok(reply.data)
    }
}
