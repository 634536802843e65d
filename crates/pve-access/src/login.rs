//! `POST /access/ticket` and what is like it (reference 02 §7.2 to §7.4).
//!
//! ```text
//! name ─▶ user exists, enabled, unexpired ─▶ a ticket as password? ──yes──▶ in
//!                                               │ no
//!                                               ▼
//!                                     password in its realm ─▶ second factor? ──yes──▶ half a ticket
//!                                                                 │ no                     │
//!                                                                 ▼                        ▼
//!                                                                 in ◀──────right────── its answer
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use pve_cfs::{Priority, service_name};
use pve_schema::ids::{AuthId, UserId};

use crate::access_control::AccessControl;
pub use crate::access_control::printable;
use crate::counters::Outcome;
use crate::domains::{Domains, RealmKind};
use crate::error::AccessError;
use crate::limits::Limiter;
use crate::paths::AclPath;
use crate::permissions::Capabilities;
use crate::tfa::verify::Subject;
use crate::tfa::{self, Challenge};
use crate::user_config::{User, UserConfig};
use crate::{auth_log, counters, ldap, pam, password};

/// Characters of the shortest signature that a ticket may have: RSA with 1024 bits.
const MIN_SIGNATURE: usize = 172;

/// A request to log in.
#[derive(Clone, Copy, Default)]
pub struct LoginRequest<'a> {
    /// The user's name, with or without its realm.
    pub username: &'a str,
    /// The realm, if the name comes without.
    pub realm: Option<&'a str>,
    /// A password, or a ticket that is still good.
    pub password: &'a str,
    /// A second factor that is sent along.
    pub otp: Option<&'a str>,
    /// The half ticket that `password` answers.
    pub tfa_challenge: Option<&'a str>,
    /// Path and privileges (a list) to be checked instead of issuing a ticket.
    pub verify: Option<(&'a str, &'a str)>,
    /// Where the request comes from.
    pub client: Option<IpAddr>,
    /// The host that the request was sent to, port and all.
    pub host: Option<&'a str>,
}

/// A log-in that succeeded.
#[derive(Debug)]
pub struct Login {
    /// Who it is.
    pub user: UserId,
    /// Ticket and CSRF prevention token, unless rights alone were asked about.
    pub session: Option<Session>,
    /// What the web interface may show; `None` while a second factor is still to come.
    pub capabilities: Option<Capabilities>,
    /// The cluster's name, for who may know it.
    pub cluster: Option<String>,
}

/// What a browser keeps.
pub struct Session {
    /// The log-in ticket.
    pub ticket: String,
    /// The CSRF prevention token.
    pub csrf_token: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(…)")
    }
}

impl AccessControl {
    /// Logs a user in. Success and failure are logged; a failure's reason is not told.
    ///
    /// # Errors
    /// [`AccessError::LoginFailed`] (401), or 500 for an ambiguous name and for tickets that cannot be signed.
    pub fn login(&self, request: &LoginRequest<'_>) -> Result<Login, AccessError> {
        let domains = self.domains()?;
        let name = match request.realm {
            Some(realm) => format!("{}@{realm}", request.username),
            None => request.username.to_owned(),
        };
        let name = resolve_case(self, &domains, name)?;
        let attempt = Attempt {
            access: self,
            domains,
            request,
            limiter: Limiter::new(self.context()),
        };
        let (user, challenge) = attempt.run(&name).map_err(|error| {
            counters::login(Outcome::Failed);
            log_failure(request.client, &name, &error);
            AccessError::LoginFailed
        })?;
        let session = match request.verify {
            Some(_) => None,
            None => Some(Session {
                ticket: match &challenge {
                    Some(challenge) => self.half_ticket(&user, &challenge.to_json()?)?,
                    None => self.login_ticket(&user)?,
                },
                csrf_token: self.csrf_token(&user)?,
            }),
        };
        counters::login(if challenge.is_some() {
            Outcome::Half
        } else {
            Outcome::Ok
        });
        self.log_success(&format!("successful auth for user '{}'", printable(user.as_str())));
        Ok(self.describe_login(user, session, challenge.is_some()))
    }

    /// Checks a console ticket for whoever serves the console: `POST /access/vncticket`.
    ///
    /// # Errors
    /// [`AccessError::LoginFailed`] (401).
    pub fn check_vnc_login(
        &self,
        auth_id: &str,
        ticket: &str,
        path: &str,
        privileges: &str,
        port: Option<u16>,
        client: Option<IpAddr>,
    ) -> Result<(), AccessError> {
        let check = || {
            let who: AuthId = auth_id
                .parse()
                .map_err(|error: pve_schema::ids::InvalidUserId| AccessError::plain(error.to_string()))?;
            self.verify_vnc_ticket(ticket, &who, path, port)?;
            self.require_active_user(who.user(), self.context().now())?;
            self.require_for_login(&who, path, privileges)
        };
        check().map_err(|error| {
            log_failure(client, auth_id, &error);
            AccessError::LoginFailed
        })?;
        self.log_success(&format!("successful auth for user '{}'", printable(auth_id)));
        Ok(())
    }

    /// Checks a password in its user's realm; the second factor is not looked at.
    ///
    /// # Errors
    /// The reason, which is not for the client to know unless it has proved who it is.
    pub fn check_password(&self, user: &UserId, password: &str, client: Option<IpAddr>) -> Result<(), AccessError> {
        if password.is_empty() {
            // Whatever the realm: an LDAP server takes a bind without password for an anonymous one, and says yes.
            return Err(AccessError::plain("no password"));
        }
        let domains = self.domains()?;
        let realm = domains.require(user.realm())?;
        match realm.kind {
            RealmKind::Pve => password::check_pve(self.cfs(), user, password),
            RealmKind::Pam => pam::check(user.name(), password, client),
            RealmKind::OpenId => Err(AccessError::plain("OpenID realm does not allow password verification.")),
            RealmKind::Ldap | RealmKind::Ad => {
                ldap::check_password(self.cfs(), user.realm(), realm, user.name(), password)
            }
        }
    }

    /// Before a user's credentials are changed: the caller proves who it is with its own password, unless it is
    /// `root@pam`. `parameter` is where that password was sent.
    ///
    /// # Errors
    /// The target does not exist; it is `root@pam` and the caller is not (403); the password is missing (400) or wrong.
    pub fn reauthenticate(
        &self,
        caller: &AuthId,
        target: &UserId,
        password: Option<&str>,
        parameter: &str,
        client: Option<IpAddr>,
    ) -> Result<(), AccessError> {
        self.require_user(target)?;
        if caller.is_root() {
            return Ok(());
        }
        if target.is_root() {
            return Err(AccessError::permission());
        }
        let password =
            password.ok_or_else(|| AccessError::parameter(parameter, "password is required to modify user"))?;
        let limiter = Limiter::new(self.context());
        let check = || {
            let guess = limiter.guess(caller.user(), client)?;
            self.check_password(caller.user(), password, client)?;
            guess.is_right();
            Ok(())
        };
        check().inspect_err(|error| log_failure(client, caller.user().as_str(), error))
    }

    pub(crate) fn describe_login(&self, user: UserId, session: Option<Session>, is_half: bool) -> Login {
        let who = AuthId::User(user.clone());
        let may_know = self.has(&who, "/", &["Sys.Audit"]);
        let members = if may_know { self.cfs().members().ok() } else { None };
        Login {
            user,
            session,
            capabilities: (!is_half).then(|| self.capabilities(&who)),
            cluster: members.and_then(|members| members.cluster).map(|cluster| cluster.name),
        }
    }

    /// What "may log in and do this" asks: all the privileges on the path.
    fn require_for_login(&self, who: &AuthId, path: &str, privileges: &str) -> Result<(), AccessError> {
        let normal = AclPath::normalise(path).ok_or_else(|| AccessError::plain("invalid path"))?;
        let list = pve_schema::list::split(privileges);
        if self.has(who, normal.as_str(), &list) {
            Ok(())
        } else {
            Err(AccessError::plain(format!("no permission ({path}, {privileges})")))
        }
    }

    /// The words are what log watchers look for.
    pub(crate) fn log_success(&self, text: &str) {
        self.cfs()
            .cluster_log()
            .log(Priority::Info, &service_name(), "root@pam", text);
    }
}

fn log_failure(client: Option<IpAddr>, user: &str, reason: &AccessError) {
    auth_log::failure(client, user, &reason.to_string());
}

/// Whether a password is none that anybody has, but a ticket of a log-in or a console.
fn is_like_a_ticket(password: &str) -> bool {
    let signed = password.split_once("::");
    signed.is_some_and(|(text, signature)| text.contains("PVE") && signature.len() >= MIN_SIGNATURE)
}

/// The spelling that a user of a realm without case goes by.
fn resolve_case(config: &UserConfig, domains: &Domains, name: String) -> Result<String, AccessError> {
    let realm = name.rsplit_once('@').and_then(|(_, realm)| domains.get(realm));
    if realm.is_none_or(|realm| realm.is_case_sensitive()) {
        return Ok(name);
    }
    let mut same = same_but_for_case(config, &name);
    match (same.next(), same.next()) {
        (Some(user), None) => Ok(user.to_string()),
        (None, _) => Ok(name),
        (Some(_), Some(_)) => Err(AccessError::plain(format!(
            "ambiguous case insensitive match of username '{name}', cannot safely grant access!"
        ))),
    }
}

/// The users whose id is this name in any case.
pub fn same_but_for_case<'a>(config: &'a UserConfig, name: &str) -> impl Iterator<Item = &'a UserId> + use<'a> {
    let name = name.to_lowercase();
    config.users.keys().filter(move |id| id.as_str().to_lowercase() == name)
}

/// One log-in under way.
struct Attempt<'a> {
    access: &'a AccessControl,
    domains: Arc<Domains>,
    request: &'a LoginRequest<'a>,
    limiter: Limiter,
}

impl Attempt<'_> {
    /// Who it is, and what it is still asked for. An error's text is the reason for the log.
    fn run(&self, name: &str) -> Result<(UserId, Option<Challenge>), AccessError> {
        let (id, user) = self
            .find(name)
            .inspect_err(|_| self.limiter.stranger(self.request.client))?;
        let challenge = match self.request.verify {
            Some((path, privileges)) => {
                self.prove_for_path(&id, user, path)?;
                self.access
                    .require_for_login(&AuthId::User(id.clone()), path, privileges)?;
                None
            }
            None => self.prove(&id, user)?,
        };
        Ok((id, challenge))
    }

    /// The user, who must exist and may log in.
    fn find(&self, name: &str) -> Result<(UserId, &User), AccessError> {
        let id: UserId = name
            .parse()
            .map_err(|error: pve_schema::ids::InvalidUserId| AccessError::plain(error.to_string()))?;
        let user = self.access.require_active_user(&id, self.access.context().now())?;
        Ok((id, user))
    }

    /// Asked about rights: a ticket of exactly this user counts, also one for a console on the path.
    fn prove_for_path(&self, id: &UserId, user: &User, path: &str) -> Result<(), AccessError> {
        let path = AclPath::normalise(path).ok_or_else(|| AccessError::plain("invalid path"))?;
        let password = self.request.password;
        if self.access.verify_login_ticket(password)?.as_ref() == Some(id) {
            return Ok(());
        }
        let who = AuthId::User(id.clone());
        if self
            .access
            .verify_vnc_ticket(password, &who, path.as_str(), None)
            .is_ok()
        {
            return Ok(());
        }
        match self.prove_by_password(id, user)? {
            Some(_) => Err(AccessError::plain("missing second factor")),
            None => Ok(()),
        }
    }

    fn prove(&self, id: &UserId, user: &User) -> Result<Option<Challenge>, AccessError> {
        if let Some(ticket) = self.request.tfa_challenge {
            if self.request.otp.is_some() {
                return Err(AccessError::plain("got both 'otp' and 'tfa-challenge'"));
            }
            let challenge = Challenge::parse(&self.access.verify_half_ticket(ticket, id)?)?;
            let guess = self.limiter.guess(id, self.request.client)?;
            self.answer(id, user, &challenge, self.request.password)?;
            guess.is_in();
            return Ok(None);
        }
        let holder = self.access.verify_login_ticket(self.request.password)?;
        if holder.is_some_and(|holder| holder == *id || holder.is_root()) {
            return Ok(None);
        }
        let Some(challenge) = self.prove_by_password(id, user)? else {
            return Ok(None);
        };
        let realm = self.domains.require(id.realm())?;
        let subject = Subject { id, user, realm };
        challenge
            .ask_keys(self.access.context(), subject, self.request.host)
            .map(Some)
    }

    /// The password, and the second factor if it came along; else what is still asked for.
    fn prove_by_password(&self, id: &UserId, user: &User) -> Result<Option<Challenge>, AccessError> {
        // A ticket that is too old is no guess: who forgot to log in again must not shut out others at the same address.
        // What does not count must not be looked at either, or it would be a way round the limits.
        if is_like_a_ticket(self.request.password) {
            return Err(AccessError::plain("invalid ticket"));
        }
        let guess = self.limiter.guess(id, self.request.client)?;
        let challenge = self.look_at_password(id, user)?;
        match challenge {
            None => guess.is_in(),
            Some(_) => guess.is_right(),
        }
        Ok(challenge)
    }

    fn look_at_password(&self, id: &UserId, user: &User) -> Result<Option<Challenge>, AccessError> {
        self.access
            .check_password(id, self.request.password, self.request.client)?;
        let realm = self.domains.require(id.realm())?;
        let config = tfa::load(self.access.context())?;
        let Some(challenge) = Challenge::of(&config, id, user, realm)? else {
            return Ok(None);
        };
        match self.request.otp {
            Some(answer) => {
                self.answer(id, user, &challenge, answer)?;
                Ok(None)
            }
            None => Ok(Some(challenge)),
        }
    }

    fn answer(&self, id: &UserId, user: &User, challenge: &Challenge, answer: &str) -> Result<(), AccessError> {
        let realm = self.domains.require(id.realm())?;
        let subject = Subject { id, user, realm };
        tfa::verify::verify(self.access.context(), subject, challenge, answer, self.request.host)
    }
}
