//! The permission expressions of the contract (reference 02 §11).

use pve_contract::{Check, GroupsParam, Permissions, UserClass};
use pve_schema::ids::{AuthId, UserId};
use pve_schema::list;

use crate::error::AccessError;
use crate::paths::{AclPath, fill_template};
use crate::user_config::UserConfig;

/// The merged parameters of a call as they were sent: nobody has checked them yet.
pub type ParamSource<'a> = &'a dyn Fn(&str) -> Option<String>;

impl UserConfig {
    /// Whether a caller may call a method with this permission rule.
    ///
    /// # Errors
    /// 403 for a refusal; 500 where the expression speaks of a user that does not exist.
    pub fn check(
        &self,
        permissions: Option<&Permissions>,
        caller: Option<&AuthId>,
        params: ParamSource<'_>,
    ) -> Result<(), AccessError> {
        let class = permissions.and_then(|permissions| permissions.user);
        let Some(caller) = caller else {
            return match class {
                Some(UserClass::World) => Ok(()),
                _ => Err(AccessError::Permission("user != null".to_owned())),
            };
        };
        if caller.is_root() {
            return Ok(());
        }
        let Some(permissions) = permissions else {
            return Err(AccessError::Permission("user != root@pam".to_owned()));
        };
        if class == Some(UserClass::All) {
            return Ok(());
        }
        let Some(check) = &permissions.check else {
            return Err(AccessError::permission());
        };
        let evaluation = Evaluation {
            config: self,
            caller,
            params,
        };
        // Only an error denies: the plain answer "no" can come from nowhere but an invalid path, which the method refuses.
        evaluation.check(check, Mode::Strict).map(drop)
    }
}

/// What a check that does not hold does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Raises an error.
    Strict,
    /// Says no: an `or` has other alternatives.
    Quiet,
}

impl Mode {
    fn refuse(self, error: AccessError) -> Result<bool, AccessError> {
        match self {
            Self::Strict => Err(error),
            Self::Quiet => Ok(false),
        }
    }

    /// The outcome of a demand.
    fn outcome(self, result: Result<(), AccessError>) -> Result<bool, AccessError> {
        match result {
            Ok(()) => Ok(true),
            Err(error) => self.refuse(error),
        }
    }
}

struct Evaluation<'a> {
    config: &'a UserConfig,
    caller: &'a AuthId,
    params: ParamSource<'a>,
}

impl Evaluation<'_> {
    fn check(&self, check: &Check, mode: Mode) -> Result<bool, AccessError> {
        match check {
            Check::And(all) => {
                // Strict whatever the surroundings: the error escapes an enclosing `or` (vector 63).
                for check in *all {
                    self.check(check, Mode::Strict)?;
                }
                Ok(true)
            }
            Check::Or(alternatives) => {
                for check in *alternatives {
                    if self.check(check, Mode::Quiet)? {
                        return Ok(true);
                    }
                }
                mode.refuse(AccessError::permission())
            }
            Check::Perm {
                path,
                privileges,
                any,
                require_param,
            } => self.perm(path, privileges, *any, *require_param, mode),
            Check::UserIdSelf => self.user_id_self(mode),
            Check::UserIdRealm => match self.user_id() {
                Ok(user) => {
                    let path = format!("/access/realm/{}", user.realm());
                    mode.outcome(self.config.require_all(self.caller, &path, &["Realm.AllocateUser"]))
                }
                Err(error) => mode.refuse(error),
            },
            Check::UserIdGroup { privileges, groups } => self.user_id_group(privileges, *groups, mode),
            Check::PermModify(template) => match AclPath::normalise(&fill_template(template, self.params)) {
                Some(path) => mode.outcome(self.config.require_perm_modify(self.caller, Some(&path))),
                None => Ok(false),
            },
        }
    }

    fn perm(
        &self,
        template: &str,
        privileges: &[&str],
        any: bool,
        require_param: Option<&str>,
        mode: Mode,
    ) -> Result<bool, AccessError> {
        if require_param.is_some_and(|name| (self.params)(name).is_none()) {
            return mode.refuse(AccessError::permission());
        }
        let filled = fill_template(template, self.params);
        let Some(path) = AclPath::normalise(&filled) else {
            let named = if any {
                privileges
            } else {
                privileges.get(..1).unwrap_or_default()
            };
            return mode.refuse(AccessError::missing(&filled, named));
        };
        mode.outcome(if any {
            self.config.require_any(self.caller, path.as_str(), privileges)
        } else {
            self.config.require_all(self.caller, path.as_str(), privileges)
        })
    }

    /// The `userid` parameter.
    fn user_id(&self) -> Result<UserId, AccessError> {
        let text = (self.params)("userid").unwrap_or_default();
        text.parse::<UserId>()
            .map_err(|error| AccessError::plain(error.to_string()))
    }

    /// The `userid` parameter, which must name a user that exists.
    fn existing_user(&self) -> Result<UserId, AccessError> {
        let user = self.user_id()?;
        self.config.require_user(&user)?;
        Ok(user)
    }

    fn user_id_self(&self, mode: Mode) -> Result<bool, AccessError> {
        match self.existing_user() {
            Ok(user) if matches!(self.caller, AuthId::User(caller) if *caller == user) => Ok(true),
            Ok(_) => mode.refuse(AccessError::permission()),
            Err(error) => mode.refuse(error),
        }
    }

    fn user_id_group(&self, privileges: &[&str], groups: GroupsParam, mode: Mode) -> Result<bool, AccessError> {
        let user = match groups {
            GroupsParam::Create => None,
            GroupsParam::Ignored | GroupsParam::Update => match self.existing_user() {
                Ok(user) => Some(user),
                Err(error) => return mode.refuse(error),
            },
        };
        if self.config.has_any(self.caller, "/access/groups", privileges) {
            return Ok(true);
        }
        if groups != GroupsParam::Ignored {
            let listed = (self.params)("groups").unwrap_or_default();
            let listed = list::split(&listed);
            if listed.is_empty() {
                return mode.refuse(AccessError::missing("/access/groups", privileges));
            }
            for group in listed {
                let path = format!("/access/groups/{group}");
                let visible =
                    self.config.groups.contains_key(group) && self.config.has_any(self.caller, &path, privileges);
                if !visible {
                    return mode.refuse(AccessError::missing(&path, privileges));
                }
            }
        }
        let Some(user) = user else { return Ok(true) };
        let member_of_visible = self.config.groups_of(&user).any(|group| {
            self.config
                .has_any(self.caller, &format!("/access/groups/{group}"), privileges)
        });
        if member_of_visible {
            Ok(true)
        } else {
            mode.refuse(AccessError::permission())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM_AUDIT: Check = perm("/vms/{vmid}", &["VM.Audit"]);

    const fn perm(path: &'static str, privileges: &'static [&'static str]) -> Check {
        Check::Perm {
            path,
            privileges,
            any: false,
            require_param: None,
        }
    }

    fn permissions(check: Check) -> Permissions {
        Permissions {
            user: None,
            check: Some(check),
            handler_checks: false,
        }
    }

    /// The refusal's text, or `ok`.
    fn outcome(caller: &str, check: Check, params: &[(&str, &str)]) -> String {
        let config = UserConfig::parse(include_str!("../tests/data/user-d.cfg"));
        let source = |name: &str| {
            let found = params.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let caller: AuthId = caller.parse().unwrap();
        match config.check(Some(&permissions(check)), Some(&caller), &source) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn refused(detail: &str) -> String {
        format!("Permission check failed{detail}")
    }

    /// Reference 02 §16, vectors 53 to 56 and 63.
    #[test]
    fn privileges_on_paths_from_templates() {
        let both = perm("/vms/{vmid}", &["VM.Audit", "VM.Config.Disk"]);
        assert_eq!(
            outcome("alice@pve", both, &[("vmid", "999")]),
            refused(" (/vms/999, VM.Config.Disk)")
        );
        let any = Check::Perm {
            path: "/vms/{vmid}",
            privileges: &["VM.Config.Disk", "VM.Migrate"],
            any: true,
            require_param: None,
        };
        assert_eq!(
            outcome("alice@pve", any, &[("vmid", "999")]),
            refused(" (/vms/999, VM.Config.Disk|VM.Migrate)")
        );
        let pool = |require_param| Check::Perm {
            path: "/pool/{pool}",
            privileges: &["VM.Allocate"],
            any: false,
            require_param,
        };
        assert_eq!(outcome("alice@pve", pool(Some("pool")), &[]), refused(""));
        assert_eq!(
            outcome("alice@pve", pool(None), &[]),
            refused(" (/pool/-, VM.Allocate)")
        );

        const ESCAPES: Check = Check::Or(&[Check::And(&[perm("/nodes/x", &["Sys.Modify"])]), VM_AUDIT]);
        assert_eq!(
            outcome("alice@pve", ESCAPES, &[("vmid", "100")]),
            refused(" (/nodes/x, Sys.Modify)")
        );
        assert_eq!(outcome("alice@pve", Check::Or(&[VM_AUDIT]), &[("vmid", "100")]), "ok");
        assert_eq!(
            outcome("alice@pve", VM_AUDIT, &[("vmid", "1 0")]),
            refused(" (/vms/1 0, VM.Audit)")
        );
    }

    /// Reference 02 §16, vector 57.
    #[test]
    fn shortcuts_before_expressions() {
        let config = UserConfig::parse(include_str!("../tests/data/user-d.cfg"));
        let alice: AuthId = "alice@pve".parse().unwrap();
        let rule = |user| Permissions {
            user,
            check: None,
            handler_checks: false,
        };
        let text = |permissions: Option<&Permissions>, caller: Option<&AuthId>| {
            config
                .check(permissions, caller, &|_| None)
                .map_err(|error| error.to_string())
        };
        assert_eq!(text(None, Some(&alice)), Err(refused(" (user != root@pam)")));
        assert_eq!(text(Some(&rule(None)), Some(&alice)), Err(refused("")));
        assert_eq!(
            text(Some(&rule(Some(UserClass::All))), None),
            Err(refused(" (user != null)"))
        );
        assert_eq!(text(Some(&rule(Some(UserClass::All))), Some(&alice)), Ok(()));
        assert_eq!(text(Some(&rule(Some(UserClass::World))), None), Ok(()));
        assert_eq!(
            text(Some(&rule(Some(UserClass::World))), Some(&alice)),
            Err(refused(""))
        );
        assert_eq!(text(None, Some(&AuthId::root())), Ok(()));
        let token: AuthId = "root@pam!sep".parse().unwrap();
        assert_eq!(text(None, Some(&token)), Err(refused(" (user != root@pam)")));
    }

    /// Reference 02 §16, vectors 58 to 61.
    #[test]
    fn checks_on_users() {
        assert_eq!(
            outcome("alice@pve", Check::UserIdSelf, &[("userid", "zed@pve")]),
            "no such user ('zed@pve')"
        );
        assert_eq!(
            outcome("alice@pve!ci", Check::UserIdSelf, &[("userid", "alice@pve")]),
            refused("")
        );
        assert_eq!(
            outcome("alice@pve", Check::UserIdSelf, &[("userid", "alice@pve")]),
            "ok"
        );
        assert_eq!(
            outcome("bob@pve", Check::UserIdRealm, &[("userid", "new@pve")]),
            refused(" (/access/realm/pve, Realm.AllocateUser)")
        );

        let group = |groups| Check::UserIdGroup {
            privileges: &["User.Modify"],
            groups,
        };
        let plain = |userid| outcome("bob@pve", group(GroupsParam::Ignored), &[("userid", userid)]);
        assert_eq!(plain("alice@pve"), "ok");
        assert_eq!(plain("carol@corp"), refused(""));
        let update = |groups: &[(&str, &str)]| {
            let params = [&[("userid", "alice@pve")], groups].concat();
            outcome("bob@pve", group(GroupsParam::Update), &params)
        };
        assert_eq!(update(&[]), refused(" (/access/groups, User.Modify)"));
        assert_eq!(update(&[("groups", "ops")]), "ok");
        assert_eq!(
            update(&[("groups", "ops,empty")]),
            refused(" (/access/groups/empty, User.Modify)")
        );
    }

    /// Reference 02 §16, vector 62.
    #[test]
    fn the_right_to_change_permissions() {
        let outcome = |path| outcome("alice@pve", Check::PermModify("{path}"), &[("path", path)]);
        assert_eq!(outcome("/vms/100"), "ok");
        assert_eq!(
            outcome("/vms/999"),
            refused(" (/vms/999, Permissions.Modify|VM.Allocate)")
        );
        assert_eq!(
            outcome("storage/local"),
            refused(" (/storage/local, Permissions.Modify|Datastore.Allocate)")
        );
        assert_eq!(
            outcome("/pool/prod"),
            refused(" (/pool/prod, Permissions.Modify|Pool.Allocate)")
        );
        assert_eq!(outcome("/vms/ 1"), "ok");
    }
}
