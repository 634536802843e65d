//! Who is calling, and may they: the entry that the request path and handlers use.
//!
//! ```text
//! headers ─▶ Credentials ─▶ authenticate ─▶ AuthId ─▶ verify_csrf ─▶ check ─▶ handler (has, require_…)
//! ```

use std::ops::Deref;
use std::sync::Arc;

use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::ids::{AuthId, UserId};

use crate::auth_log::quote_reason;
use crate::credentials::Credentials;
use crate::domains::Domains;
use crate::error::AccessError;
use crate::paths::AclPath;
use crate::secret::Secret;
use crate::store::USER_CFG;
use crate::ticket::window::{self, Window};
use crate::ticket::{self, Kind, PublicKey, keys};
use crate::token::door::Door;
use crate::token::{self, SecretCheck};
use crate::user_config::UserConfig;

/// What the data of a half ticket begins with.
const HALF: &str = "!tfa!";

/// A snapshot of users and rights for one request. It stands for its [`UserConfig`], whose checks it offers as its own.
#[derive(Clone)]
pub struct AccessControl {
    context: Context,
    cfs: Cfs,
    config: Arc<UserConfig>,
}

impl std::fmt::Debug for AccessControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessControl")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl Deref for AccessControl {
    type Target = UserConfig;

    fn deref(&self) -> &UserConfig {
        &self.config
    }
}

impl AccessControl {
    /// The users and rights as they are now. Cheap: the file is read again only when it changed.
    ///
    /// # Errors
    /// `user.cfg` cannot be read (500).
    pub fn load(context: &Context) -> Result<Self, AccessError> {
        let cfs = Cfs::new(context);
        let config = cfs
            .cached(USER_CFG, "user config", |bytes, _| {
                UserConfig::parse(&String::from_utf8_lossy(bytes.unwrap_or_default()))
            })
            .map_err(|error| AccessError::Load(error.to_string()))?;
        Ok(Self {
            context: context.clone(),
            cfs,
            config,
        })
    }

    /// The users and rights as a value.
    pub fn config(&self) -> &Arc<UserConfig> {
        &self.config
    }

    /// The site and the clock.
    pub fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn cfs(&self) -> &Cfs {
        &self.cfs
    }

    /// The realms.
    ///
    /// # Errors
    /// `domains.cfg` cannot be read.
    pub fn domains(&self) -> Result<Arc<Domains>, AccessError> {
        Domains::load(&self.cfs)
    }

    /// Tells who sent a request. A failure's reason is logged.
    ///
    /// # Errors
    /// [`AccessError::NoTicket`], [`AccessError::Unauthenticated`] (both 401), [`AccessError::Unverifiable`] (500).
    pub fn authenticate(&self, credentials: &Credentials) -> Result<AuthId, AccessError> {
        let result = match credentials {
            Credentials::None => return Err(AccessError::NoTicket),
            // The second half of the log-in is still to come: as good as none.
            Credentials::Ticket(ticket) if ticket.starts_with("PVE:!tfa!") => return Err(AccessError::NoTicket),
            Credentials::Ticket(ticket) => self.ticket_user(ticket).map(AuthId::User),
            Credentials::Token(value) => {
                token::verify(&self.config, &*self.secrets(), value, self.context.now()).map(AuthId::Token)
            }
        };
        result.map_err(|error| {
            let reason = error.to_string();
            log::warn!("authentication failure: {}", quote_reason(&reason));
            match error {
                // It may be good; who says "no" here makes clients forget it.
                AccessError::Unverifiable(_) => error,
                _ => AccessError::Unauthenticated { reason },
            }
        })
    }

    /// Who knows the secrets of tokens: who may not read them asks.
    fn secrets(&self) -> Box<dyn SecretCheck> {
        let site = &self.context.site;
        if nix::unistd::geteuid().as_raw() == site.root_user.uid {
            Box::new(self.cfs.clone())
        } else {
            Box::new(Door::new(site))
        }
    }

    /// The user whom a log-in ticket is from, if it may log in.
    fn ticket_user(&self, ticket: &str) -> Result<UserId, AccessError> {
        let user = self
            .verify_login_ticket(ticket)?
            .ok_or(AccessError::InvalidTicket(Kind::Login.prefix()))?;
        self.config.require_active_user(&user, self.context.now())?;
        Ok(user)
    }

    /// Checks the CSRF prevention token that a change came with.
    ///
    /// # Errors
    /// [`AccessError::InvalidCsrfToken`] (401).
    pub fn verify_csrf(&self, user: &AuthId, token: Option<&str>) -> Result<(), AccessError> {
        let secret = Secret::load(&self.cfs)?;
        let user = user.to_string();
        match token {
            Some(token) if secret.verify_csrf_token(token, &user, self.context.now()) => Ok(()),
            _ => Err(AccessError::InvalidCsrfToken),
        }
    }

    /// A CSRF prevention token for a user.
    ///
    /// # Errors
    /// The secret is missing.
    pub fn csrf_token(&self, user: &UserId) -> Result<String, AccessError> {
        Ok(Secret::load(&self.cfs)?.csrf_token(user.as_str(), self.context.now()))
    }

    /// A log-in ticket for a user: only for one who has proved to be that user.
    ///
    /// # Errors
    /// There is no key to sign with.
    pub fn login_ticket(&self, user: &UserId) -> Result<String, AccessError> {
        self.sign(Kind::Login, Some(user.as_str()), None)
    }

    /// The user whom a log-in ticket was issued to, if the ticket is good; `None` if it is not.
    ///
    /// # Errors
    /// The keys cannot be read.
    pub fn verify_login_ticket(&self, ticket: &str) -> Result<Option<UserId>, AccessError> {
        let data = self.login_data(ticket, None)?.unwrap_or_default();
        // A half log-in never yields a user.
        Ok(if data.starts_with(HALF) {
            None
        } else {
            data.parse().ok()
        })
    }

    /// A ticket for a user whose password was right, with what it is still asked for (reference 02 §6.1).
    ///
    /// # Errors
    /// There is no key to sign with.
    pub(crate) fn half_ticket(&self, user: &UserId, challenge: &str) -> Result<String, AccessError> {
        self.sign(Kind::Login, Some(&format!("{HALF}{challenge}")), Some(user.as_str()))
    }

    /// The challenge that a half ticket of a user holds.
    ///
    /// # Errors
    /// It is none, or not good any more.
    pub(crate) fn verify_half_ticket(&self, ticket: &str, user: &UserId) -> Result<String, AccessError> {
        let data = self
            .login_data(ticket, Some(user.as_str()))?
            .ok_or(AccessError::InvalidTicket(Kind::Login.prefix()))?;
        let challenge = data
            .strip_prefix(HALF)
            .ok_or_else(|| AccessError::plain("bad ticket"))?;
        Ok(challenge.to_owned())
    }

    /// What a ticket of a log-in says, if it is good.
    fn login_data(&self, ticket: &str, secret: Option<&str>) -> Result<Option<String>, AccessError> {
        if !ticket.starts_with("PVE:") {
            return Ok(None);
        }
        let now = self.context.now();
        let said = |key: &PublicKey, window: Option<Window>| {
            let statement = ticket::verify(key, Kind::Login, ticket, secret)?;
            statement.is_within(window?, now).then_some(statement)
        };
        let by_current = PublicKey::current(&self.cfs)?
            .and_then(|key| said(&key, window::current(now, key.mtime(), || self.cfs.is_quorate())));
        let statement = match by_current {
            Some(statement) => Some(statement),
            // Only a ticket from before the last rotation gets here, and one that is worth nothing.
            None => PublicKey::old(&self.cfs)?.and_then(|key| said(&key, window::old(now, key.mtime()))),
        };
        Ok(statement.and_then(|statement| statement.data))
    }

    /// A ticket for a console on a path (`/vms/100`, `/nodes/N`), bound to a TCP port where one is handed out.
    ///
    /// # Errors
    /// The path is none, or there is no key to sign with.
    pub fn vnc_ticket(&self, who: &AuthId, path: &str, port: Option<u16>) -> Result<String, AccessError> {
        self.sign(Kind::Vnc, None, Some(&path_secret(who, path, port)?))
    }

    /// Checks a console ticket.
    ///
    /// # Errors
    /// [`AccessError::InvalidTicket`] (401).
    pub fn verify_vnc_ticket(
        &self,
        ticket: &str,
        who: &AuthId,
        path: &str,
        port: Option<u16>,
    ) -> Result<(), AccessError> {
        // Old clients put the VNC password in front: eight characters and a colon.
        let stripped = ticket
            .char_indices()
            .nth(8)
            .and_then(|(index, _)| ticket.get(index..))
            .and_then(|rest| rest.strip_prefix(':'))
            .filter(|rest| rest.starts_with("PVEVNC:"));
        self.verify_short(Kind::Vnc, stripped.unwrap_or(ticket), &path_secret(who, path, port)?)
    }

    /// A ticket for a migration tunnel on a Unix socket of the node.
    ///
    /// # Errors
    /// The path is none, or there is no key to sign with.
    pub fn tunnel_ticket(&self, who: &AuthId, socket: &str) -> Result<String, AccessError> {
        self.sign(
            Kind::Tunnel,
            None,
            Some(&path_secret(who, &format!("/socket/{socket}"), None)?),
        )
    }

    /// Checks a tunnel ticket.
    ///
    /// # Errors
    /// [`AccessError::InvalidTicket`] (401).
    pub fn verify_tunnel_ticket(&self, ticket: &str, who: &AuthId, socket: &str) -> Result<(), AccessError> {
        let secret = path_secret(who, &format!("/socket/{socket}"), None)?;
        self.verify_short(Kind::Tunnel, ticket, &secret)
    }

    fn sign(&self, kind: Kind, data: Option<&str>, secret: Option<&str>) -> Result<String, AccessError> {
        let key = keys::signing_key(&self.context)?;
        ticket::assemble(&key, kind, data, secret, self.context.now())
            .map_err(|error| AccessError::plain(error.to_string()))
    }

    /// Checks a short-lived ticket: the current key alone counts, and only while it is not outdated.
    fn verify_short(&self, kind: Kind, ticket: &str, secret: &str) -> Result<(), AccessError> {
        let now = self.context.now();
        let key = PublicKey::current(&self.cfs)?.filter(|key| now - key.mtime() <= window::KEY_LIFETIME);
        let statement = key.and_then(|key| ticket::verify(&key, kind, ticket, Some(secret)));
        match statement {
            Some(statement) if statement.data.is_none() && statement.is_within(window::SHORT, now) => Ok(()),
            _ => Err(AccessError::InvalidTicket(kind.prefix())),
        }
    }
}

/// What a short-lived ticket is bound to.
fn path_secret(who: &AuthId, path: &str, port: Option<u16>) -> Result<String, AccessError> {
    let path = AclPath::normalise(path).ok_or_else(|| AccessError::plain("invalid ticket path"))?;
    Ok(match port {
        Some(port) => format!("{who}:{path}:{port}"),
        None => format!("{who}:{path}"),
    })
}

/// A text for one log line: what a client sent must not start a line of its own.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
