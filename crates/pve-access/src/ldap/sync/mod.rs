//! Users and groups of a directory as ours (reference 02 §13).
//!
//! | module | holds |
//! |---|---|
//! | here | a synchronisation from its beginning to its end |
//! | [`options`] | what it does |
//! | [`plan`] | what the directory is asked |
//! | [`found`] | its answer as users and groups |
//! | [`ranges`] | long lists of members, which a server tells in parts |
//! | [`spelling`] | whom of our users the directory means, where case does not count |
//! | [`merge`] | bringing `user.cfg` in line |
//!
//! ```text
//! realm ─▶ plan ─▶ users, groups ─▶ lock ─▶ user.cfg ─▶ merge ─▶ user.cfg
//!                  (no lock held)          read          dry run?  written once, or not at all
//! ```
//!
//! Not here: the task, which is `pve-jobs`'. It must be a process of its own ([`super::client`]).

mod found;
mod merge;
mod options;
mod plan;
mod ranges;
mod spelling;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use pve_cfs::Cfs;
use pve_schema::Context;

use super::client::{Connection, Search};
use super::directory;
use crate::domains::{Domains, Realm, RealmKind};
use crate::edit;
use crate::error::AccessError;
use found::{Found, MEMBERS};
use merge::Merge;
pub use options::{Scope, SyncOptions, Vanished};
use plan::Plan;

/// Longest time that a directory is read.
const DEADLINE: Duration = Duration::from_secs(600);
/// How many users are asked for at a time: below the thousand that servers have as limit.
const USERS_PER_PAGE: i32 = 900;
/// How many groups: each may have many members.
const GROUPS_PER_PAGE: i32 = 100;

/// The realm of a synchronisation.
///
/// # Errors
/// There is none of that name (400), or it is no directory's.
pub fn require_realm<'a>(domains: &'a Domains, name: &str) -> Result<&'a Realm, AccessError> {
    let realm = domains
        .get(name)
        .ok_or_else(|| AccessError::parameter("realm", "Realm does not exist."))?;
    match realm.kind {
        RealmKind::Ldap | RealmKind::Ad => Ok(realm),
        kind => Err(AccessError::plain(format!(
            "Cannot sync realm type '{}'! Only LDAP/AD realms can be synced.",
            kind.as_str()
        ))),
    }
}

/// Synchronises a realm; `log` hears of every step. A dry run does all but the last.
///
/// # Errors
/// The directory cannot be read, or `user.cfg` cannot be changed; then nothing is.
pub fn run(
    context: &Context,
    name: &str,
    options: SyncOptions,
    is_dry: bool,
    log: &mut dyn FnMut(&str),
) -> Result<(), AccessError> {
    log(&format!("starting sync for realm {name}"));
    let cfs = Cfs::new(context);
    let domains = Domains::load(&cfs)?;
    let realm = require_realm(&domains, name)?;
    let found = read(&cfs, name, realm, options.scope, log)?;
    log("got data from server, updating users and groups");
    let merge = Merge {
        realm: name,
        domains: &domains,
        found: &found,
        options,
    };
    let verb = options.scope.verb();
    if is_dry {
        merge.apply(&mut edit::read(&cfs)?, log);
        log("NOTE: dry test run, nothing was written");
    } else {
        edit::edit(context, &format!("{verb} failed"), |config| {
            merge.apply(config, log);
            Ok(())
        })?;
    }
    log(&format!("{verb} finished"));
    Ok(())
}

/// Asks the directory. Users are asked for even where groups alone are wanted: their members are told by entries.
fn read(cfs: &Cfs, name: &str, realm: &Realm, scope: Scope, log: &mut dyn FnMut(&str)) -> Result<Found, AccessError> {
    let directory = directory(cfs, name, realm)?;
    let plan = Plan::of(realm, &mut |text| log(&format!("warning: {text}")));
    let mut connection = Connection::open(&directory, Instant::now() + DEADLINE)?;
    connection.bind_searcher(&directory.searcher)?;
    let base = match &plan.base {
        Some(base) => base.clone(),
        None => connection.default_base()?,
    };
    let mut found = Found::default();

    let attributes = plan.attributes();
    let users = Search {
        base: &base,
        filter: &plan.user_filter,
        attributes: &attributes,
        page: USERS_PER_PAGE,
    };
    let entries = connection.search(&users, &mut |count| log(&format!("read {count} users")))?;
    found.add_users(name, &plan, &entries, &mut |text| log(&format!("warning: {text}")));

    if scope.has_groups() {
        let own_name = plan.group_name.as_deref();
        let attributes: Vec<&str> = MEMBERS.into_iter().chain(own_name).collect();
        let groups = Search {
            base: plan.group_base.as_deref().unwrap_or(&base),
            filter: &plan.group_filter,
            attributes: &attributes,
            page: GROUPS_PER_PAGE,
        };
        let mut entries = connection.search(&groups, &mut |count| log(&format!("read {count} groups")))?;
        for entry in &mut entries {
            for attribute in MEMBERS {
                ranges::complete(entry, attribute, |dn, attribute| connection.entry(dn, attribute))?;
            }
        }
        found.add_groups(name, &plan, &entries, &mut |text| log(&format!("warning: {text}")));
    }
    Ok(found)
}
