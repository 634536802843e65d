//! Bringing `user.cfg` in line with what a directory told (reference 02 §13.2).
//!
//! Not touched: second factors, passwords, secrets of API tokens, and memberships of removed users in groups that are not
//! the realm's.

use std::collections::BTreeSet;

use pve_schema::ids::UserId;

use super::found::{Found, Given};
use super::options::{SyncOptions, Vanished};
use super::plan::Field;
use crate::user_config::{Group, User, UserConfig};

/// One realm's share of the users and groups, and what is to become of it.
pub(super) struct Merge<'a> {
    /// The realm.
    pub(super) realm: &'a str,
    /// The names of all realms: of two whose names end alike, a group belongs to the one with the longer name.
    pub(super) realms: &'a [String],
    /// What the directory told.
    pub(super) found: &'a Found,
    /// What is to be done.
    pub(super) options: SyncOptions,
}

impl Merge<'_> {
    /// Does it; `log` hears of every step.
    pub(super) fn apply(&self, config: &mut UserConfig, log: &mut dyn FnMut(&str)) {
        if self.options.scope.has_users() {
            log(&format!("syncing users ({})", removal(self.options.vanished)));
            self.remove_users(config, log);
            for (id, given) in &self.found.users {
                self.merge_user(config, id, given, log);
            }
        }
        if self.options.scope.has_groups() {
            log(&format!("syncing groups ({})", removal(self.options.vanished)));
            self.remove_groups(config, log);
            for (name, members) in &self.found.groups {
                self.merge_group(config, name, members, log);
            }
        }
    }

    fn remove_users(&self, config: &mut UserConfig, log: &mut dyn FnMut(&str)) {
        let mut gone: BTreeSet<UserId> = config
            .users
            .keys()
            .filter(|id| id.realm() == self.realm)
            .cloned()
            .collect();
        // Rights may be left of users that were removed before.
        gone.extend(
            config
                .acls
                .values()
                .flat_map(|entry| entry.users.keys())
                .filter(|id| id.realm() == self.realm)
                .cloned(),
        );
        gone.retain(|id| !self.found.users.contains_key(id));
        for id in gone {
            if self.options.vanished.entry && config.users.remove(&id).is_some() {
                log(&format!("removing user '{id}'"));
            }
            if self.options.vanished.acl {
                let before = config.acls.clone();
                config.remove_user_acls(&id);
                if config.acls != before {
                    log(&format!("purging all ACLs of user '{id}'"));
                }
            }
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

    /// Whether a group is this realm's: `NAME-REALM`.
    fn owns(&self, group: &str) -> bool {
        let is_of = |realm: &str| {
            group
                .strip_suffix(realm)
                .and_then(|rest| rest.strip_suffix('-'))
                .is_some_and(|name| !name.is_empty())
        };
        let is_longer = |other: &&String| other.len() > self.realm.len();
        is_of(self.realm) && !self.realms.iter().filter(is_longer).any(|other| is_of(other))
    }

    fn remove_groups(&self, config: &mut UserConfig, log: &mut dyn FnMut(&str)) {
        let known = config.groups.keys();
        let granted = config.acls.values().flat_map(|entry| entry.groups.keys());
        let mut gone: BTreeSet<String> = known.chain(granted).filter(|name| self.owns(name)).cloned().collect();
        gone.retain(|name| !self.found.groups.contains_key(name));
        for name in gone {
            if self.options.vanished.entry && config.groups.remove(&name).is_some() {
                log(&format!("remove group '{name}'"));
            }
            if self.options.vanished.acl {
                let before = config.acls.clone();
                config.remove_group_acls(&name);
                if config.acls != before {
                    log(&format!("purging all ACLs of group '{name}'"));
                }
            }
        }
    }

    fn merge_group(&self, config: &mut UserConfig, name: &str, members: &BTreeSet<UserId>, log: &mut dyn FnMut(&str)) {
        let old = config.groups.get(name);
        let kept = old.filter(|_| !self.options.vanished.properties);
        let group = Group {
            // Rights come with a membership: nobody has one who is no user, as where groups alone are synchronised.
            members: members
                .iter()
                .filter(|id| config.users.contains_key(id))
                .cloned()
                .collect(),
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
