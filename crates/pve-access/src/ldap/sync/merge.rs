//! Bringing `user.cfg` in line with what a directory told (reference 02 §13.2).
//!
//! Not touched: second factors, passwords, secrets of API tokens, and memberships of removed users in groups that are not
//! the realm's.

use std::collections::BTreeSet;

use pve_schema::ids::UserId;

use super::found::{Found, Given};
use super::options::{SyncOptions, Vanished};
use super::plan::Field;
use super::spelling::Spellings;
use crate::domains::{Domains, Realm};
use crate::user_config::{Group, User, UserConfig};

/// One realm's share of the users and groups, and what is to become of it.
pub(super) struct Merge<'a> {
    /// The realm.
    pub(super) realm: &'a str,
    /// All realms.
    pub(super) domains: &'a Domains,
    /// What the directory told.
    pub(super) found: &'a Found,
    /// What is to be done.
    pub(super) options: SyncOptions,
}

impl Merge<'_> {
    /// Does it; `log` hears of every step.
    pub(super) fn apply(&self, config: &mut UserConfig, log: &mut dyn FnMut(&str)) {
        let has_case = self.domains.get(self.realm).is_none_or(Realm::is_case_sensitive);
        let spellings = match has_case {
            true => Spellings::as_told(self.found),
            false => Spellings::as_known(self.found, config, self.realm, &mut |text| {
                log(&format!("warning: {text}"))
            }),
        };
        if self.options.scope.has_users() {
            log(&format!("syncing users ({})", removal(self.options.vanished)));
            self.remove_users(config, &spellings, log);
            for (told, id) in &spellings.ids {
                if let Some(given) = self.found.users.get(*told) {
                    self.merge_user(config, id, given, log);
                }
            }
        }
        if self.options.scope.has_groups() {
            log(&format!("syncing groups ({})", removal(self.options.vanished)));
            self.remove_groups(config, log);
            for (name, members) in &self.found.groups {
                let members = members.iter().filter_map(|told| spellings.ids.get(told));
                // Rights come with a membership: nobody has one who is no user, as where groups alone are synchronised.
                let members = members.filter(|id| config.users.contains_key(id)).cloned().collect();
                self.merge_group(config, name, members, log);
            }
        }
    }

    fn remove_users(&self, config: &mut UserConfig, spellings: &Spellings<'_>, log: &mut dyn FnMut(&str)) {
        let is_gone = |id: &&UserId| id.realm() == self.realm && !spellings.kept.contains(id);
        // Rights may be left of users that were removed before.
        let granted = config.acls.values().flat_map(|entry| {
            let owners = entry.tokens.keys().map(|token| &token.user);
            entry.users.keys().chain(owners)
        });
        let granted: BTreeSet<UserId> = granted.filter(is_gone).cloned().collect();
        let mut gone: BTreeSet<UserId> = config.users.keys().filter(is_gone).cloned().collect();
        gone.extend(granted.iter().cloned());
        for id in &gone {
            if self.options.vanished.entry && config.users.remove(id).is_some() {
                log(&format!("removing user '{id}'"));
            }
            if self.options.vanished.acl && granted.contains(id) {
                log(&format!("purging all ACLs of user '{id}'"));
            }
        }
        if self.options.vanished.acl {
            config.remove_acls_of_users(&granted);
        }
    }

    fn merge_user(&self, config: &mut UserConfig, id: &UserId, given: &Given, log: &mut dyn FnMut(&str)) {
        let old = config.users.get(id);
        let mut user = match old {
            Some(old) if !self.options.vanished.properties => old.clone(),
            Some(old) => User {
                enable: old.enable,
                // Empty is how the file tells none when something stands behind it.
                email: old.email.clone().filter(String::is_empty),
                // They say which second factors there are, which is not the directory's to forget.
                keys: old.keys.clone(),
                tokens: old.tokens.clone(),
                ..User::default()
            },
            None => User {
                enable: self.options.enable_new,
                ..User::default()
            },
        };
        for (field, value) in given {
            set(&mut user, *field, value);
        }
        match old {
            None => log(&format!("adding user '{id}'")),
            Some(old) if *old == user => return,
            Some(_) if self.options.vanished.properties => log(&format!("overwriting user '{id}'")),
            Some(_) => log(&format!("updating user '{id}'")),
        }
        config.users.insert(id.clone(), user);
    }

    fn remove_groups(&self, config: &mut UserConfig, log: &mut dyn FnMut(&str)) {
        let is_gone = |name: &&String| {
            self.domains.owner_of_group(name) == Some(self.realm) && !self.found.groups.contains_key(*name)
        };
        let granted = config.acls.values().flat_map(|entry| entry.groups.keys());
        let granted: BTreeSet<String> = granted.filter(is_gone).cloned().collect();
        let mut gone: BTreeSet<String> = config.groups.keys().filter(is_gone).cloned().collect();
        gone.extend(granted.iter().cloned());
        for name in &gone {
            if self.options.vanished.entry && config.groups.remove(name).is_some() {
                log(&format!("remove group '{name}'"));
            }
            if self.options.vanished.acl && granted.contains(name) {
                log(&format!("purging all ACLs of group '{name}'"));
            }
        }
        if self.options.vanished.acl {
            config.remove_acls_of_groups(&granted);
        }
    }

    fn merge_group(&self, config: &mut UserConfig, name: &str, members: BTreeSet<UserId>, log: &mut dyn FnMut(&str)) {
        match self.domains.owner_of_group(name) {
            Some(owner) if owner != self.realm => {
                log(&format!(
                    "warning: skipping group '{name}' - it would be one of realm '{owner}'"
                ));
                return;
            }
            _ => {}
        }
        let old = config.groups.get(name);
        let kept = old.filter(|_| !self.options.vanished.properties);
        let group = Group {
            members: match old {
                Some(old) if self.found.half_told.contains(name) => old.members.clone(),
                _ => members,
            },
            comment: kept.and_then(|group| group.comment.clone()),
        };
        match old {
            None => log(&format!("adding group '{name}'")),
            Some(old) if *old == group => return,
            Some(_) => log(&format!("updating group '{name}'")),
        }
        config.groups.insert(name.to_owned(), group);
    }
}

/// What is removed, for a line of the log.
fn removal(vanished: Vanished) -> String {
    let words = [
        ("acl", vanished.acl),
        ("entry", vanished.entry),
        ("properties", vanished.properties),
    ];
    let words: Vec<&str> = words
        .into_iter()
        .filter_map(|(word, is_set)| is_set.then_some(word))
        .collect();
    match words.as_slice() {
        [] => "remove-vanished: none".to_owned(),
        words => format!("remove-vanished: {}", words.join(";")),
    }
}

/// Sets what a directory told of a user.
fn set(user: &mut User, field: Field, value: &str) {
    let text = || Some(value.to_owned());
    match field {
        Field::Enable => user.enable = value == "1",
        // Its digits were checked; those beyond the number's limit mean never.
        Field::Expire => user.expire = value.parse().unwrap_or(0),
        Field::FirstName => user.firstname = text(),
        Field::LastName => user.lastname = text(),
        Field::Email => user.email = text(),
        Field::Comment => user.comment = text(),
        Field::Keys => user.keys = text(),
    }
}
