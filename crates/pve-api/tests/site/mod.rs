//! A site of its own whose users are those of the vectors, and calls to it from route to reply.

#![allow(clippy::unwrap_used, reason = "a test states what must hold")]
#![allow(dead_code, reason = "not every suite needs all of it")]

use std::sync::Arc;

use pve_access::AccessControl;
use pve_cfs::Cfs;
use pve_contract::{Verb, merge, route};
use pve_rest::{ApiError, Registry};
use pve_schema::clock::ManualClock;
use pve_schema::ids::AuthId;
use pve_schema::{Clock as _, Context, SystemClock};
use serde_json::{Value, json};

use crate::common;

/// The file that the vectors speak of.
const CONFIG_D: &str = include_str!("../../../pve-access/tests/data/user-d.cfg");

pub(crate) struct Lab {
    pub(crate) context: Context,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) cfs: Cfs,
    registry: Registry,
    _root: tempfile::TempDir,
}

impl Lab {
    /// A lab whose clock stands still.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let context = pve_testing::context(root.path(), "node1").with_clock(clock.clone());
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("user.cfg", CONFIG_D.as_bytes()).unwrap();
        cfs.write("pve-www.key", b"a secret\n").unwrap();
        let mut registry = Registry::new();
        pve_api::register(&mut registry);
        Self {
            context,
            clock,
            cfs,
            registry,
            _root: root,
        }
    }

    /// A call from route to reply; `caller` is empty for nobody.
    pub(crate) fn call(&self, caller: &str, verb: Verb, path: &str, params: Value) -> Result<Value, ApiError> {
        let caller: Option<AuthId> = (!caller.is_empty()).then(|| caller.parse().unwrap());
        let route = route(verb, path).unwrap();
        let raw = params.as_object().cloned().unwrap_or_default();
        let merged = merge(route.method, route.uri_params, raw)?;
        let access = AccessControl::load(&self.context)?;
        let source = |name: &str| merged.text(name).map(str::to_owned);
        access.check(route.method.permissions.as_ref(), caller.as_ref(), &source)?;
        let params = merged.check()?;
        common::run(&self.context, &self.registry, route.method, caller, params).map(|reply| reply.data)
    }

    pub(crate) fn root(&self, verb: Verb, path: &str, params: Value) -> Result<Value, ApiError> {
        self.call("root@pam", verb, path, params)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.root(Verb::Get, path, json!({})).unwrap()
    }

    /// A file's content; empty if there is none.
    pub(crate) fn read(&self, rel: &str) -> String {
        self.cfs.read_text(rel).unwrap().unwrap_or_default()
    }
}

pub(crate) fn plain(text: &str) -> ApiError {
    ApiError::plain(text)
}
