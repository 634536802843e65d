//! What a synchronisation does (reference 02 §13.1).

use pve_schema::Params;
use serde::{Deserialize, Serialize};

use crate::domains::edit::modern_sync_options;
use crate::error::AccessError;

/// What a synchronisation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncOptions {
    /// What is brought in line.
    pub scope: Scope,
    /// What becomes of what the directory no longer knows.
    pub vanished: Vanished,
    /// Whether new users may log in.
    pub enable_new: bool,
}

/// What is brought in line with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Users.
    Users,
    /// Groups, with their members among the directory's users.
    Groups,
    /// Users, then groups.
    Both,
}

impl Scope {
    /// Whether users are.
    pub fn has_users(self) -> bool {
        self != Self::Groups
    }

    /// Whether groups are.
    pub fn has_groups(self) -> bool {
        self != Self::Users
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "users" => Some(Self::Users),
            "groups" => Some(Self::Groups),
            "both" => Some(Self::Both),
            _ => None,
        }
    }

    /// What is done, for messages: `syncing users`.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Users => "syncing users",
            Self::Groups => "syncing groups",
            Self::Both => "syncing users and groups",
        }
    }
}

/// What is removed of what a directory no longer knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vanished {
    /// Rights of users and groups that are gone.
    pub acl: bool,
    /// The users and groups themselves.
    pub entry: bool,
    /// What is known of a user or group that is still there, and no longer told.
    pub properties: bool,
}

impl Vanished {
    /// Reads `none`, or words behind each other with semicolons.
    fn parse(text: &str) -> Self {
        let has = |word: &str| text.split(';').any(|part| part.trim() == word);
        Self {
            acl: has("acl"),
            entry: has("entry"),
            properties: has("properties"),
        }
    }
}

impl SyncOptions {
    /// What was sent, else what the realm says, else the default. `defaults` is the realm's option
    /// `sync-defaults-options`.
    ///
    /// # Errors
    /// Nothing says what to bring in line.
    pub fn of(params: &Params, defaults: &str) -> Result<Self, AccessError> {
        let defaults = modern_sync_options(defaults);
        let default = |key: &str| {
            let mut pairs = defaults.split(',').filter_map(|part| part.trim().split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        let either = |key: &str| params.text(key).or_else(|| default(key));
        let scope = either("scope").and_then(Scope::parse).ok_or_else(|| {
            AccessError::parameter(
                "scope",
                "Not passed as parameter and not defined in realm default sync options.",
            )
        })?;
        let enable_new = params
            .flag("enable-new")
            .or_else(|| pve_schema::check::boolean_word(default("enable-new")?));
        Ok(Self {
            scope,
            vanished: match params.text("remove-vanished").or_else(|| old_words(params)) {
                Some(text) => Vanished::parse(text),
                None => Vanished::parse(default("remove-vanished").unwrap_or_default()),
            },
            enable_new: enable_new.unwrap_or(true),
        })
    }
}

/// What older clients say instead of `remove-vanished`.
fn old_words(params: &Params) -> Option<&'static str> {
    if !params.has("full") && !params.has("purge") {
        return None;
    }
    Some(match (params.is_set("full"), params.is_set("purge")) {
        (true, true) => "acl;entry;properties",
        (true, false) => "entry;properties",
        (false, true) => "acl",
        (false, false) => "none",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_schema::Param;

    fn options(params: &[(&str, &str)], defaults: &str) -> Result<SyncOptions, AccessError> {
        let pairs = params
            .iter()
            .map(|(key, value)| (key.to_string(), Param::Text(value.to_string())));
        SyncOptions::of(&pairs.collect(), defaults)
    }

    fn vanished(words: &str) -> Vanished {
        Vanished {
            acl: words.contains('a'),
            entry: words.contains('e'),
            properties: words.contains('p'),
        }
    }

    #[test]
    fn what_was_sent_wins_over_the_realm_and_that_over_the_default() {
        const REALM: &str = "scope=groups,remove-vanished=acl;entry,enable-new=0";
        for (params, defaults, scope, removed, enable_new) in [
            (&[("scope", "users")][..], "", Scope::Users, "", true),
            (&[], REALM, Scope::Groups, "ae", false),
            (&[("scope", "both")], REALM, Scope::Both, "ae", false),
            (&[("remove-vanished", "none")], REALM, Scope::Groups, "", false),
            (&[("remove-vanished", "properties")], REALM, Scope::Groups, "p", false),
            (&[("enable-new", "1")], REALM, Scope::Groups, "ae", true),
            (&[("full", "1")], REALM, Scope::Groups, "ep", false),
            (&[("purge", "1")], REALM, Scope::Groups, "a", false),
            (&[("full", "1"), ("purge", "1")], REALM, Scope::Groups, "aep", false),
            (&[("full", "0")], REALM, Scope::Groups, "", false),
            (
                &[("full", "1"), ("remove-vanished", "acl")],
                REALM,
                Scope::Groups,
                "a",
                false,
            ),
            // As releases before `remove-vanished` wrote it.
            (&[], "scope=both,full=1,purge=0", Scope::Both, "ep", true),
            (&[], "full=yes, purge=1, scope=users", Scope::Users, "aep", true),
        ] {
            let expected = SyncOptions {
                scope,
                vanished: vanished(removed),
                enable_new,
            };
            assert_eq!(options(params, defaults).unwrap(), expected, "{params:?} {defaults}");
        }
    }

    #[test]
    fn somebody_must_say_what_to_synchronise() {
        let error = options(&[("enable-new", "1")], "remove-vanished=acl").unwrap_err();
        let AccessError::Parameters(errors) = error else {
            panic!("{error}");
        };
        assert_eq!(
            errors["scope"],
            "Not passed as parameter and not defined in realm default sync options."
        );
    }
}
