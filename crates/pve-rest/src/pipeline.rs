//! Steps 3 to 9 of a request's path: everything between the transport and the handler.
//!
//! The transport (`pve-http`) reads a request's head and asks [`Pipeline::authenticate`] before it touches the body:
//! a stranger's body is never read. Then it decodes the parameters and asks [`Pipeline::dispatch`] for what is to be
//! done. Nothing here knows of HTTP framing, formats or delays.

use std::sync::Arc;

use pve_access::{AccessControl, Credentials};
use pve_contract::{Merged, Method, Route, Verb, merge, route};
use pve_schema::Context;
use pve_schema::ids::{AuthId, NodeName};
use serde_json::{Map, Value};

use crate::call::{self, Client, LOCALHOST};
use crate::{ApiError, ApiResult, Call, Registry, Reply, blocking};

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
    /// Users and rights as they were when the sender was found out.
    access: AccessControl,
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
    pub async fn authenticate(&self, head: RequestHead) -> Result<Admitted, ApiError> {
        let access = self.access()?;
        if is_open_to_strangers(&head) {
            return Ok(Admitted {
                head,
                caller: None,
                upload: false,
                access,
            });
        }
        let caller = self.caller(&access, &head.credentials).await?;
        let upload = upload_target(&head);
        if let Some(storage) = upload {
            access.require_all(&caller, &format!("/storage/{storage}"), &["Datastore.AllocateTemplate"])?;
        } else if self.demands_csrf_token(&head) {
            access.verify_csrf(&caller, head.csrf.as_deref())?;
        }
        let upload = upload.is_some();
        Ok(Admitted {
            head,
            caller: Some(caller),
            upload,
            access,
        })
    }

    /// Who asks for something that is no method of the contract.
    ///
    /// # Errors
    /// The refusal; the transport sends it late and without a body.
    pub async fn identify(&self, head: &RequestHead) -> Result<AuthId, ApiError> {
        let access = self.access()?;
        self.caller(&access, &head.credentials).await
    }

    /// Whether somebody may have something that is no method of the contract.
    ///
    /// # Errors
    /// They lack the privilege on that path.
    pub fn require(&self, caller: &AuthId, path: &str, privilege: &str) -> Result<(), ApiError> {
        Ok(self.access()?.require_all(caller, path, &[privilege])?)
    }

    /// Steps 4 to 9: route, token rule, permission, node, privilege, parameters, handler (reference 01 §3.7).
    ///
    /// `params` are the decoded query and body together, without `_dc`.
    pub async fn dispatch(&self, admitted: &Admitted, params: Map<String, Value>) -> Outcome {
        match self.walk(admitted, params).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Error(error),
        }
    }

    /// Steps 6 to 9 for a caller who need not prove anything and is at no connection's other end: who is root on this
    /// machine's command line, for one. Nothing is forwarded.
    ///
    /// # Errors
    /// The refusal, or the handler's error.
    pub async fn call(
        &self,
        caller: &AuthId,
        route: Route,
        params: Map<String, Value>,
        request_id: &Arc<str>,
    ) -> ApiResult {
        let merged = merge(route.method, route.uri_params, params)?;
        check_permission(&self.access()?, &merged, Some(caller))?;
        match self.target_node(&merged)? {
            Some(node) => Err(ApiError::plain(format!(
                "proxy not allowed - '{node}' is not this node; pvesh --remote https://{node} asks another one"
            ))),
            None => {
                self.execute(merged, Some(caller.clone()), Client::default(), request_id)
                    .await
            }
        }
    }

    /// The list of the steps. Their order is visible to clients: who may not call a method learns nothing about its
    /// parameters, and an unknown node is told before a wrong parameter.
    async fn walk(&self, admitted: &Admitted, params: Map<String, Value>) -> Result<Outcome, ApiError> {
        let head = &admitted.head;
        // 4. Which method is meant?
        let route =
            route(head.verb, &head.path).map_err(|_| ApiError::not_implemented(head.verb.as_str(), &head.path))?;
        let merged = merge(route.method, route.uri_params, params)?;
        // 5. A few methods demand a person's own ticket.
        refuse_token(route.method, head)?;
        // 6. May the caller do that, by the parameters as they were sent?
        check_permission(&self.rights_of(admitted)?, &merged, admitted.caller.as_ref())?;
        // 7. Which node is to run it?
        if let Some(node) = self.target_node(&merged)? {
            return self.forward_to_node(node, admitted);
        }
        // 8. Does it need privileges that this side lacks?
        if self.forwards_to_daemon(route.method) {
            return Ok(Outcome::Forward(ForwardTo::Daemon));
        }
        // 9. Are the parameters right? Then run it.
        let mut client = head.client.clone();
        if route.method.expose_credentials {
            client.credentials = head.credentials.clone();
        }
        let reply = self.execute(merged, admitted.caller.clone(), client, &head.request_id);
        reply.await.map(Outcome::Reply)
    }

    /// Step 9.
    async fn execute(
        &self,
        merged: Merged,
        caller: Option<AuthId>,
        client: Client,
        request_id: &Arc<str>,
    ) -> ApiResult {
        let method = merged.method();
        let handler = self.registry.get(method.id).ok_or_else(|| not_built_yet(method))?;
        let call = Call {
            context: self.context.clone(),
            method,
            params: merged.check()?,
            caller,
            client,
            request_id: Arc::clone(request_id),
        };
        handler(call).await
    }

    /// Users and rights for a request. Where a body lies between then and now they are looked up again: it may have
    /// taken hours to come.
    fn rights_of(&self, admitted: &Admitted) -> Result<AccessControl, ApiError> {
        match admitted.head.verb {
            Verb::Get | Verb::Delete => Ok(admitted.access.clone()),
            Verb::Post | Verb::Put => self.access(),
        }
    }

    /// Users and rights as they are now.
    fn access(&self) -> Result<AccessControl, ApiError> {
        // The client sees only that it failed; what failed is for the log.
        AccessControl::load(&self.context).map_err(|error| {
            log::error!("{error}");
            ApiError::status(500, format!("RPCEnvironment init request failed: {error}\n"))
        })
    }

    /// Who sent the request. The web side asks the root side about tokens, and must not stand still meanwhile.
    async fn caller(&self, access: &AccessControl, credentials: &Credentials) -> Result<AuthId, ApiError> {
        if self.role == Role::Root || !matches!(credentials, Credentials::Token(_)) {
            return Ok(access.authenticate(credentials)?);
        }
        let (access, credentials) = (access.clone(), credentials.clone());
        blocking(move || access.authenticate(&credentials)).await
    }

    /// Whether the request changes something on behalf of a browser that may have been tricked. The root side does not
    /// ask: who reaches it was asked by the web side, or is on this machine.
    fn demands_csrf_token(&self, head: &RequestHead) -> bool {
        let by_ticket = matches!(head.credentials, Credentials::Ticket(_));
        self.role == Role::Web && by_ticket && head.verb != Verb::Get
    }

    /// The node that the method names, unless it is this one.
    fn target_node(&self, merged: &Merged) -> Result<Option<NodeName>, ApiError> {
        let method = merged.method();
        let named = match method.proxy_to {
            Some(parameter) => {
                let missing = || ApiError::parameter(parameter, "proxyto parameter does not exist");
                merged
                    .text(parameter)
                    .filter(|node| !node.is_empty())
                    .ok_or_else(missing)?
            }
            None if method.proxy_to_check_node => merged.text("check-node").unwrap_or(LOCALHOST),
            None => LOCALHOST,
        };
        if call::is_own_name(&self.context.site, named) {
            return Ok(None);
        }
        named.parse().map(Some).map_err(|_| ApiError::unknown_node(named))
    }

    /// Only the web side forwards to nodes, and what was forwarded once is not forwarded again.
    fn forward_to_node(&self, node: NodeName, admitted: &Admitted) -> Result<Outcome, ApiError> {
        match self.role {
            Role::Root => Err(ApiError::plain("proxy not allowed")),
            // The file is spooled on this node.
            Role::Web if admitted.upload => Err(ApiError::plain("unable to proxy file uploads")),
            Role::Web if admitted.head.proxied => Err(ApiError::plain("proxy loop detected")),
            Role::Web => Ok(Outcome::Forward(ForwardTo::Node(node))),
        }
    }

    /// The web side runs only what it has a handler for and what needs no privilege (reference 01 §4.1).
    fn forwards_to_daemon(&self, method: &Method) -> bool {
        self.role == Role::Web && (method.protected || self.registry.get(method.id).is_none())
    }
}

/// The calls that need no log-in: the ways to log in. What a client presents there is not looked at.
fn is_open_to_strangers(head: &RequestHead) -> bool {
    matches!(
        (head.verb, head.path.as_str()),
        (Verb::Get, "/access/domains")
            | (Verb::Get | Verb::Post, "/access/ticket")
            | (
                Verb::Post,
                "/access/vncticket" | "/access/openid/login" | "/access/openid/auth-url"
            )
    )
}

/// The storage that a file is uploaded to, if the request is an upload. It is checked before the body is read, because
/// the body is a file of any size.
fn upload_target(head: &RequestHead) -> Option<&str> {
    let mut components = head.path.split('/').filter(|component| !component.is_empty());
    let mut next = || components.next();
    let (nodes, _node, storages, storage, upload) = (next()?, next()?, next()?, next()?, next()?);
    let is_upload = head.verb == Verb::Post && (nodes, storages, upload) == ("nodes", "storage", "upload");
    (is_upload && next().is_none()).then_some(storage)
}

/// Whether a caller may do that, by the parameters as they were sent.
fn check_permission(access: &AccessControl, merged: &Merged, caller: Option<&AuthId>) -> Result<(), ApiError> {
    let param = |name: &str| merged.text(name).map(str::to_owned);
    Ok(access.check(merged.method().permissions.as_ref(), caller, &param)?)
}

/// Refuses an API token where the contract wants a ticket.
fn refuse_token(method: &Method, head: &RequestHead) -> Result<(), ApiError> {
    if method.allow_token || !matches!(head.credentials, Credentials::Token(_)) {
        return Ok(());
    }
    let path = &head.path;
    Err(ApiError::permission(&format!(
        "URI '{path}' not available with API token, need proper ticket.\n"
    )))
}

/// The method is in the contract and has no handler: it says so and never pretends.
fn not_built_yet(method: &Method) -> ApiError {
    let Method { verb, path, .. } = method;
    ApiError::status(501, format!("Method '{verb} {path}' is not built yet\n"))
}
