//! Which handler runs which method of the contract.

use std::future::Future;
use std::pin::Pin;

use pve_contract::MethodId;

use crate::{ApiResult, Call};

/// A handler: a non-generic async function, boxed where it is bound.
pub type Handler = fn(Call) -> Pin<Box<dyn Future<Output = ApiResult> + Send>>;

/// Which handler runs which method. A method without one answers 501.
#[derive(Debug, Default)]
pub struct Registry {
    handlers: Vec<Option<Handler>>,
}

impl Registry {
    /// No handlers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds a handler to a method: `registry.bind(id::GET_VERSION, |call| Box::pin(version(call)))`.
    pub fn bind(&mut self, method: MethodId, handler: Handler) {
        if self.handlers.len() <= method.index() {
            self.handlers.resize(method.index() + 1, None);
        }
        debug_assert!(self.handlers[method.index()].is_none(), "method bound twice");
        self.handlers[method.index()] = Some(handler);
    }

    /// The handler of a method.
    pub fn get(&self, method: MethodId) -> Option<Handler> {
        self.handlers.get(method.index()).copied().flatten()
    }
}
