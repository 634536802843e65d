//! The checks that handlers make themselves (reference 02 §10.6), and small questions about users.

use pve_schema::ids::{AuthId, TokenId, UserId};

use crate::error::AccessError;
use crate::paths::AclPath;
use crate::user_config::{Token, User, UserConfig};

impl UserConfig {
    /// Whether a subject holds all these privileges on a path.
    pub fn has(&self, who: &AuthId, path: &str, privileges: &[&str]) -> bool {
        let held = self.privileges_on(who, path);
        privileges.iter().all(|privilege| held.has(privilege))
    }

    /// Whether a subject holds one of these privileges on a path.
    pub fn has_any(&self, who: &AuthId, path: &str, privileges: &[&str]) -> bool {
        let held = self.privileges_on(who, path);
        privileges.iter().any(|privilege| held.has(privilege))
    }

    /// Demands all these privileges on a path.
    ///
    /// # Errors
    /// 403 with the first that is missing.
    pub fn require_all(&self, who: &AuthId, path: &str, privileges: &[&str]) -> Result<(), AccessError> {
        let held = self.privileges_on(who, path);
        match privileges.iter().find(|privilege| !held.has(privilege)) {
            Some(missing) => Err(AccessError::missing(path, &[missing])),
            None => Ok(()),
        }
    }

    /// Demands one of these privileges on a path.
    ///
    /// # Errors
    /// 403 with all of them.
    pub fn require_any(&self, who: &AuthId, path: &str, privileges: &[&str]) -> Result<(), AccessError> {
        if self.has_any(who, path, privileges) {
            Ok(())
        } else {
            Err(AccessError::missing(path, privileges))
        }
    }

    /// Demands the right to change permissions on a path; without a path, on `/access`.
    ///
    /// # Errors
    /// 403.
    pub fn require_perm_modify(&self, who: &AuthId, path: Option<&AclPath>) -> Result<(), AccessError> {
        let Some(path) = path else {
            return self.require_all(who, "/access", &["Permissions.Modify"]);
        };
        let path = path.as_str();
        let mut privileges = vec!["Permissions.Modify"];
        for (below, privilege) in [
            ("/storage/", "Datastore.Allocate"),
            ("/vms/", "VM.Allocate"),
            ("/pool/", "Pool.Allocate"),
        ] {
            if path.starts_with(below) {
                privileges.push(privilege);
            }
        }
        self.require_any(who, path, &privileges)
    }

    /// Demands privileges on a guest, or on the pool that it is in or is to be in.
    ///
    /// # Errors
    /// 403 for the guest's path.
    pub fn require_on_guest(
        &self,
        who: &AuthId,
        vmid: u32,
        pool: Option<&str>,
        privileges: &[&str],
    ) -> Result<(), AccessError> {
        if pool.is_some_and(|pool| self.has(who, &format!("/pool/{pool}"), privileges)) {
            return Ok(());
        }
        self.require_all(who, &format!("/vms/{vmid}"), privileges)
    }

    /// Demands one of these privileges on a bridge or on one of its VLAN tags.
    ///
    /// # Errors
    /// 403 for the bridge's path.
    pub fn require_on_bridge(
        &self,
        who: &AuthId,
        zone: &str,
        bridge: &str,
        privileges: &[&str],
    ) -> Result<(), AccessError> {
        let path = format!("/sdn/zones/{zone}/{bridge}");
        let bridge_path = AclPath::normalise(&path);
        let tags = self.acls.keys().filter(|candidate| {
            bridge_path
                .as_ref()
                .is_some_and(|bridge| candidate.is_within(bridge) && *candidate != bridge)
        });
        if tags.into_iter().any(|tag| self.has_any(who, tag.as_str(), privileges)) {
            return Ok(());
        }
        self.require_any(who, &path, privileges)
    }

    /// Demands that a pool exists.
    ///
    /// # Errors
    /// 403.
    pub fn require_pool(&self, pool: &str) -> Result<(), AccessError> {
        if self.pools.contains_key(pool) {
            Ok(())
        } else {
            Err(AccessError::Permission(format!("pool '{pool}' does not exist")))
        }
    }

    /// The groups on which a subject holds one of these privileges.
    pub fn visible_groups<'a>(&'a self, who: &'a AuthId, privileges: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        self.groups
            .keys()
            .filter(move |group| self.has_any(who, &format!("/access/groups/{group}"), privileges))
            .map(String::as_str)
    }

    /// A user that must exist.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn require_user(&self, id: &UserId) -> Result<&User, AccessError> {
        self.users
            .get(id)
            .ok_or_else(|| AccessError::NoSuchUser(id.to_string()))
    }

    /// A token that must exist.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn require_token(&self, id: &TokenId) -> Result<&Token, AccessError> {
        self.token(id).ok_or_else(|| AccessError::no_such_token(id))
    }

    /// A user that may log in: it exists, is enabled and has not expired.
    ///
    /// # Errors
    /// It may not.
    pub fn require_active_user(&self, id: &UserId, now: i64) -> Result<&User, AccessError> {
        let user = self.require_user(id)?;
        if !user.enable {
            return Err(AccessError::UserDisabled(id.to_string()));
        }
        if is_past(user.expire, now) {
            return Err(AccessError::UserExpired(id.to_string()));
        }
        Ok(user)
    }
}

/// Whether an expiry date (0 for never) lies before now.
pub(crate) fn is_past(expire: u64, now: i64) -> bool {
    expire != 0 && i64::try_from(expire).is_ok_and(|expire| expire < now)
}
