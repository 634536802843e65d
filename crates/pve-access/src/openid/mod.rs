//! OpenID Connect: logging in at an identity provider (reference 02 §9, docs/decisions/0021-openid-and-login-limits.md).
//!
//! ```text
//! browser ─ auth-url ─▶ discovery ─▶ where to go, with state, nonce and the hash of a secret; what is kept of it here
//!    │ goes there, proves who it is, comes back with a code
//!    ▼
//! browser ─ login ───▶ what was kept is taken, once ─▶ discovery ─▶ code and secret for an ID token
//!                                                                        │ signature, issuer, audience, time, nonce
//!                                                                        ▼
//!                                             claims ─▶ user (made, if the realm says so), groups ─▶ a ticket
//! ```
//!
//! | module | holds |
//! |---|---|
//! | here | the two calls |
//! | [`state`] | log-ins that have begun: a file of this node |
//! | `provider` | what is asked of the provider, and the check of what it says |
//! | `person` | whose claims these are, and what they change |
//!
//! The protocol is the crate `openidconnect`'s, HTTP is [`pve_fetch`]'s. A second factor is the provider's affair: none is
//! asked for here. Not here: the limits on failed log-ins, since there is no password to guess.

mod person;
mod provider;
pub mod state;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pve_cfs::{Cfs, CfsError};
use pve_schema::Context;
use pve_schema::ids::InvalidUserId;
use serde::{Deserialize, Serialize};

use crate::access_control::{AccessControl, printable};
use crate::auth_log;
use crate::counters::{self, Outcome};
use crate::crowd::Crowd;
use crate::domains::{Domains, Realm, RealmKind};
use crate::error::{AccessError, JsonFault};
use crate::limits;
use crate::login::{Login, Session};
use pve_fetch::FetchError;

/// Calls of one process that may wait for providers at once; each holds a thread, and strangers may make them.
static WAITING: Crowd = Crowd::new(32);

/// How long a call may take until the last answer of the provider: pveproxy waits for half a minute.
const DEADLINE: Duration = Duration::from_secs(25);

/// What can go wrong. The texts are for the log; [`OpenIdError::for_strangers`] is for clients.
#[derive(Debug, thiserror::Error)]
pub enum OpenIdError {
    /// There is no such realm.
    #[error("authentication domain '{0}' does not exist")]
    NoSuchRealm(String),
    /// The realm is of another type.
    #[error("wrong realm type ({0} != openid)")]
    WrongType(&'static str),
    /// An option of the realm is missing, or makes no sense.
    #[error("realm '{realm}': option '{key}' {what}")]
    Option {
        /// The realm.
        realm: String,
        /// The option.
        key: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Where the browser is to come back to is no URL.
    #[error("'redirect-url' is no URL - {0}")]
    Redirect(String),
    /// Too many log-ins have begun and not come to an end.
    #[error("too many pending openid auth request for realm {0}")]
    TooManyPending(String),
    /// Too many wait for providers.
    #[error("too many openid log-ins at once")]
    Busy,
    /// A log-in that never began, or too long ago.
    #[error("no openid auth state found (possible timeout)")]
    NoState,
    /// The `state` parameter is none of ours.
    #[error("unable to read the openid state - {0}")]
    BadState(JsonFault),
    /// The file of log-ins that have begun.
    #[error("unable to use '{path}' - {reason}")]
    StateFile {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// It cannot be locked.
    #[error(transparent)]
    Lock(CfsError),
    /// The proxy of `datacenter.cfg` is none.
    #[error(transparent)]
    Proxy(FetchError),
    /// The provider does not say what it offers.
    #[error("openid discovery failed: {0}")]
    Discovery(String),
    /// The provider does not give an ID token for the code.
    #[error("unable to get an ID token: {0}")]
    Token(String),
    /// The ID token is not good.
    #[error("unable to verify the ID token: {0}")]
    Verification(String),
    /// The provider does not say more about the user.
    #[error("unable to get user information: {0}")]
    UserInfo(String),
    /// The claim that names the user is not there.
    #[error("missing configured claim '{0}' in returned info object")]
    MissingClaim(String),
    /// The claim makes no user id.
    #[error(transparent)]
    UserId(#[from] InvalidUserId),
    /// Users and rights: no such user, not enabled, not to be changed.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// The `state` parameter, which travels through the browser and the provider.
#[derive(Debug, Serialize, Deserialize)]
struct Travelling {
    csrf_token: String,
    realm: String,
}

/// A browser that came back from the provider.
#[derive(Clone, Copy)]
pub struct Return<'a> {
    /// What it was sent off with.
    pub state: &'a str,
    /// What the provider gave it.
    pub code: &'a str,
    /// Where it was told to come back to.
    pub redirect_url: &'a str,
    /// Where the request comes from.
    pub client: Option<IpAddr>,
}

/// A log-in, and what it changed of users and groups.
#[derive(Debug)]
pub struct Arrival {
    /// The log-in.
    pub login: Login,
    /// A word for each change, as `created user` or `group devs-sso`.
    pub changes: Vec<String>,
}

/// Where to send a browser that is to log in; `client` is where it is.
///
/// # Errors
/// The realm, its options, its provider, or too many that have begun.
pub fn auth_url(
    context: &Context,
    realm: &str,
    redirect_url: &str,
    client: Option<IpAddr>,
) -> Result<String, OpenIdError> {
    let until = Instant::now() + DEADLINE;
    let network = limits::network(client);
    let _place = WAITING.enter().ok_or(OpenIdError::Busy)?;
    let options = realm_of(context, realm)?;
    // Before the provider is bothered.
    state::require_room(context, realm, Some(network))?;
    let provider = provider::Provider::discover(context, realm, &options, until)?;
    let (url, begun) = provider.auth_url(redirect_url, context.now(), network, |csrf_token| {
        let travelling = Travelling {
            csrf_token: csrf_token.to_owned(),
            realm: realm.to_owned(),
        };
        serde_json::to_string(&travelling).unwrap_or_default()
    })?;
    state::add(context, realm, begun)?;
    Ok(url)
}

/// Logs in whoever comes back from the provider. Success and failure are logged; a failure's reason is not told.
///
/// # Errors
/// [`AccessError::LoginFailed`] (401).
pub fn login(context: &Context, back: &Return<'_>) -> Result<Arrival, AccessError> {
    arrive(context, back).map_err(|error| {
        counters::login(Outcome::Failed);
        auth_log::openid_failure(back.client, &error.to_string());
        AccessError::LoginFailed
    })
}

fn arrive(context: &Context, back: &Return<'_>) -> Result<Arrival, OpenIdError> {
    let until = Instant::now() + DEADLINE;
    let _place = WAITING.enter().ok_or(OpenIdError::Busy)?;
    let travelling: Travelling =
        serde_json::from_str(back.state).map_err(|error| OpenIdError::BadState(error.into()))?;
    let realm = travelling.realm.as_str();
    let options = realm_of(context, realm)?;
    let begun = state::take(context, realm, &travelling.csrf_token)?;
    let provider = provider::Provider::discover(context, realm, &options, until)?;
    let claims = provider.claims(back, begun, context.now())?;
    let (user, changes) = person::admit(context, realm, &options, &claims)?;
    // With what has changed.
    let access = AccessControl::load(context)?;
    let session = Session {
        ticket: access.login_ticket(&user)?,
        csrf_token: access.csrf_token(&user)?,
    };
    counters::login(Outcome::Ok);
    access.log_success(&format!(
        "successful openid auth for user '{}'",
        printable(user.as_str())
    ));
    Ok(Arrival {
        login: access.describe_login(user, Some(session), false),
        changes,
    })
}

/// The options of a realm of this type.
fn realm_of(context: &Context, name: &str) -> Result<Realm, OpenIdError> {
    let domains = Domains::load(&Cfs::new(context))?;
    let realm = domains
        .get(name)
        .ok_or_else(|| OpenIdError::NoSuchRealm(name.to_owned()))?;
    match realm.kind {
        RealmKind::OpenId => Ok(realm.clone()),
        other => Err(OpenIdError::WrongType(other.as_str())),
    }
}

/// Whether a switch of a realm is on.
fn is_on(realm: &Realm, key: &str, default: bool) -> bool {
    realm.option(key).map_or(default, |value| value == "1")
}

impl OpenIdError {
    /// What somebody is told who is nobody yet: names of hosts and files, and what providers say, go to the log.
    pub fn for_strangers(self) -> AccessError {
        let told = match &self {
            Self::NoSuchRealm(_)
            | Self::WrongType(_)
            | Self::Redirect(_)
            | Self::TooManyPending(_)
            | Self::Busy
            | Self::NoState
            | Self::BadState(_) => return AccessError::plain(self.to_string()),
            Self::StateFile { .. } | Self::Lock(_) | Self::Access(_) => "unable to begin an openid log-in",
            _ => "openid discovery failed",
        };
        log::error!("unable to begin an openid log-in - {}", printable(&self.to_string()));
        AccessError::plain(told)
    }
}
