//! Who may give which option (reference 05 §4.2). The methods that make and change backup jobs hold by the same rules
//! as the one that starts a backup.

use pve_access::UserConfig;
use pve_schema::Params;
use pve_schema::ids::AuthId;

use super::VzdumpError;
use super::options::{DEFAULT_STORAGE, fleecing_storage};

/// What names paths and programs of the node.
const ROOT_ONLY: [&str; 4] = ["tmpdir", "dumpdir", "script", "job-id"];
/// What decides how much a backup gets of the node.
const NODE_LOAD: [&str; 3] = ["bwlimit", "ionice", "performance"];

/// Checks the options that a caller gives, or – a change of a job – takes away.
///
/// # Errors
/// The refusal: by parameter for what is root's alone, else 403.
pub fn check_options(
    access: &UserConfig,
    caller: &AuthId,
    params: &Params,
    deleted: &[&str],
) -> Result<(), VzdumpError> {
    if caller.is_root() {
        return Ok(());
    }
    let touched = |name: &&&str| params.has(name) || deleted.contains(*name);
    if let Some(name) = ROOT_ONLY.iter().find(touched) {
        return Err(VzdumpError::parameter(name, "Only root may set this option."));
    }
    if NODE_LOAD.iter().any(|name| touched(&name)) {
        access.require_all(caller, "/", &["Sys.Modify"])?;
    }
    if let Some(storage) = params.text("fleecing").and_then(fleecing_storage) {
        access.require_all(caller, &format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    }
    if let Some(pool) = params.text("pool") {
        access.require_pool(pool)?;
        access.require_all(caller, &format!("/pool/{pool}"), &["VM.Backup"])?;
    }
    Ok(())
}

/// Checks that a caller may have a job put backups on a storage; without one it is [`DEFAULT_STORAGE`].
///
/// # Errors
/// 403.
pub fn check_job_storage(access: &UserConfig, caller: &AuthId, storage: Option<&str>) -> Result<(), VzdumpError> {
    let path = format!("/storage/{}", storage.unwrap_or(DEFAULT_STORAGE));
    Ok(access.require_all(caller, &path, &["Datastore.Allocate"])?)
}

#[cfg(test)]
mod tests {
    use pve_schema::{Failure, Param};

    use super::*;

    const USERS: &str = "user:joe@pve:1:0::::::\nuser:ann@pve:1:0::::::\npool:p::100::\n\
        role:Ops:Sys.Modify:\n\
        acl:1:/:ann@pve:Ops:\nacl:1:/pool/p:joe@pve:PVEVMUser:\nacl:1:/storage/st:joe@pve:PVEDatastoreUser:\n";

    fn refusal(caller: &str, name: &str, value: &str) -> Option<(u16, String)> {
        let access = UserConfig::parse(USERS);
        let params: Params = [(name.to_owned(), Param::Text(value.to_owned()))].into_iter().collect();
        let error = check_options(&access, &caller.parse().unwrap(), &params, &[]).err()?;
        let text = error.param_errors().map(|errors| format!("{errors:?}"));
        Some((error.status(), text.unwrap_or_else(|| error.to_string())))
    }

    #[test]
    fn some_options_are_not_for_everybody() {
        for name in ROOT_ONLY {
            let (status, text) = refusal("ann@pve", name, "x").unwrap();
            assert_eq!(status, 400);
            assert_eq!(text, format!("{{\"{name}\": \"Only root may set this option.\"}}"));
            assert_eq!(refusal("root@pam", name, "x"), None);
        }
        let text = |caller, name, value| refusal(caller, name, value).map(|(_, text)| text);
        for name in NODE_LOAD {
            assert_eq!(
                text("joe@pve", name, "1").unwrap(),
                "Permission check failed (/, Sys.Modify)"
            );
            assert_eq!(text("ann@pve", name, "1"), None);
        }
        assert_eq!(text("joe@pve", "pool", "p"), None);
        assert_eq!(
            text("joe@pve", "pool", "q").unwrap(),
            "Permission check failed (pool 'q' does not exist)"
        );
        assert_eq!(
            text("ann@pve", "pool", "p").unwrap(),
            "Permission check failed (/pool/p, VM.Backup)"
        );
        assert_eq!(text("joe@pve", "fleecing", "1,storage=st"), None);
        assert_eq!(
            text("joe@pve", "fleecing", "1,storage=other").unwrap(),
            "Permission check failed (/storage/other, Datastore.AllocateSpace)"
        );
    }

    #[test]
    fn taking_an_option_away_is_changing_it() {
        let access = UserConfig::parse(USERS);
        let joe: AuthId = "joe@pve".parse().unwrap();
        let none = Params::new();
        for name in ROOT_ONLY.iter().chain(&NODE_LOAD) {
            assert!(check_options(&access, &joe, &none, &[name]).is_err(), "{name}");
        }
        assert!(check_options(&access, &joe, &none, &["mode", "fleecing"]).is_ok());
    }
}
