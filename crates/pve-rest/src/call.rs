//! A call as its handler sees it.

use std::net::IpAddr;
use std::sync::Arc;

use pve_access::Credentials;
use pve_contract::Method;
use pve_schema::ids::{AuthId, UserId};
use pve_schema::{Context, Params, Site};

/// The name by which any node knows itself.
pub(crate) const LOCALHOST: &str = "localhost";

/// A call as its handler sees it: routed, authenticated, permitted and checked.
#[derive(Debug, Clone)]
pub struct Call {
    /// The site and the clock.
    pub context: Context,
    /// What is called.
    pub method: &'static Method,
    /// The checked parameters.
    pub params: Params,
    /// Who calls; `None` only for methods that the world may call.
    pub caller: Option<AuthId>,
    /// Where the call came from, as far as known.
    pub client: Client,
    /// Runs through access log, task and audit lines.
    pub request_id: Arc<str>,
}

/// Where a call came from.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The client's address, as the first proxy saw it.
    pub address: Option<IpAddr>,
    /// The `Host` header.
    pub host: Option<String>,
    /// What the caller proved who they are with: only for methods that ask other nodes in the caller's name, as the
    /// contract says.
    pub credentials: Credentials,
}

impl Call {
    /// Who calls; on methods for the world, where nobody need be logged in, it is `root@pam` as upstream has it.
    pub fn auth_id(&self) -> AuthId {
        self.caller.clone().unwrap_or_else(|| AuthId::User(UserId::root()))
    }

    /// Whether the caller is the user `root@pam`.
    pub fn is_root(&self) -> bool {
        self.caller.as_ref().is_some_and(AuthId::is_root)
    }

    /// Whether the parameter `node` names this node: a few methods have no `proxyto` and must look themselves.
    pub fn is_for_this_node(&self) -> bool {
        is_own_name(&self.context.site, self.params.required("node"))
    }
}

/// Whether a node goes by that name at home.
pub(crate) fn is_own_name(site: &Site, name: &str) -> bool {
    name == LOCALHOST || name == site.node.as_str()
}
