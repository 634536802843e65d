//! Steps 3 to 9 of a request's path: everything between the transport and the handler.
//!
//! The transport (`pve-http`) reads a request's head and asks [`Pipeline::authenticate`] before it touches the body:
//! a stranger's body is never read. Then it decodes the parameters and asks [`Pipeline::dispatch`] for what is to be
//! done. Nothing here knows of HTTP framing, formats or delays.

use std::sync::Arc;

use pve_access::Credentials;
use pve_contract::Verb;
use pve_schema::Context;
use pve_schema::ids::{AuthId, NodeName};
use serde_json::{Map, Value};

use crate::call::Client;
use crate::{ApiError, Registry, Reply};

/// Which side runs the pipeline; it decides what is executed here and what is forwarded (reference 01 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `pvedaemon`: root, executes the whole API of this node, forwards nothing, demands no CSRF token.
    Root,
    /// `pveproxy`: `www-data`, forwards protected methods to the daemon and other nodes' methods to them.
    Web,
}

/// What is known of a request before its body is read.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// What is to be done.
    pub verb: Verb,
    /// The path after `/api2/FORMAT`, percent-decoded once, otherwise as received.
    pub path: String,
    /// What the client presented.
    pub credentials: Credentials,
    /// The `CSRFPreventionToken` header.
    pub csrf: Option<String>,
    /// Where the request came from.
    pub client: Client,
    /// Whether another proxy forwarded the request (`PVEDisableProxy`): it must not travel to a third node.
    pub proxied: bool,
    /// Runs through access log, task and audit lines.
    pub request_id: Arc<str>,
}

/// A request whose sender is known and may go on.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The request.
    pub head: RequestHead,
    /// Who sent it; `None` on the few paths that need no login.
    pub caller: Option<AuthId>,
    /// Whether the body is a file upload, to be spooled rather than decoded (reference 01 §3.11).
    pub upload: bool,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Outcome {
    /// The handler ran and answered.
    Reply(Reply),
    /// The request was refused, or its handler failed.
    Error(ApiError),
    /// Another daemon is to run it.
    Forward(ForwardTo),
}

/// Who is to run a request instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardTo {
    /// This node's `pvedaemon`.
    Daemon,
    /// Another node's `pveproxy`.
    Node(NodeName),
}

/// The path of a request from its head to its handler.
#[derive(Debug)]
pub struct Pipeline {
    /// The site and the clock.
    pub context: Context,
    /// What can be executed here.
    pub registry: Registry,
    /// Which side this is.
    pub role: Role,
}

impl Pipeline {
    /// Step 3: who is it, may a file be uploaded, is a changing request meant (reference 01 §3.6).
    ///
    /// # Errors
    /// The refusal; the transport sends it late and without a body.
    pub async fn authenticate(&self, _head: RequestHead) -> Result<Admitted, ApiError> {
        Err(ApiError::status(
            500,
            "RPCEnvironment init request failed: there is no access control yet",
        ))
    }

    /// Steps 4 to 9: route, token rule, permission, node, privilege, parameters, handler (reference 01 §3.7).
    ///
    /// `params` are the decoded query and body together, without `_dc`.
    pub async fn dispatch(&self, admitted: &Admitted, _params: Map<String, Value>) -> Outcome {
        Outcome::Error(ApiError::not_implemented(
            admitted.head.verb.as_str(),
            &admitted.head.path,
        ))
    }
}
