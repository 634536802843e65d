//! Reading `user.cfg`: total, warns about what it cannot use (reference 02 §4.1).

use std::collections::HashSet;

use pve_schema::ids::{AuthId, StorageId, TokenId, UserId};
use pve_schema::list;
use pve_schema::text::{decode, truthy};

use super::kept::{Keeper, Record};
use super::model::{AclMember, Token, User, UserConfig, is_listable, is_name, is_pool_name};
use crate::paths::AclPath;
use crate::privileges::{Privilege, PrivilegeSet};
use crate::roles;

/// What became of a line.
enum Outcome {
    /// Understood.
    Record(Record),
    /// Refers to something that is not there: gone, as a later record of that name must not bring it back to life.
    Dangling,
    /// Never valid, whatever else the file says: kept.
    Unusable,
}

/// The fields of a record after its type.
struct Fields<'a>(Vec<&'a str>);

impl<'a> Fields<'a> {
    fn of(line: &'a str) -> Self {
        let mut fields: Vec<&str> = line.split(':').map(str::trim).collect();
        while fields.last().is_some_and(|field| field.is_empty()) {
            fields.pop();
        }
        Self(fields)
    }

    /// A field; one that is absent reads as empty.
    fn get(&self, index: usize) -> &'a str {
        self.0.get(index).copied().unwrap_or_default()
    }

    /// A field as free text; unset when its raw value is not truthy.
    fn text(&self, index: usize) -> Option<String> {
        let raw = self.get(index);
        truthy(raw).then(|| decode(raw))
    }

    /// An expiry date; `None` when it is no number.
    fn expire(&self, index: usize) -> Option<u64> {
        match self.get(index) {
            "" => Some(0),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        }
    }
}

impl UserConfig {
    /// Reads the file's content. Problems are warnings in the log; reading goes on.
    pub fn parse(text: &str) -> Self {
        let mut parser = Parser::default();
        let mut keeper = Keeper::new();
        for line in text.lines() {
            if line.trim().is_empty() {
                keeper.gap();
                continue;
            }
            match parser.line(line) {
                Outcome::Record(record) => keeper.record(record),
                Outcome::Dangling => {}
                // The end of a line is not a part of it, however it is spelt.
                Outcome::Unusable => keeper.keep(line.trim_end_matches('\r')),
            }
        }
        let mut config = parser.config;
        config.kept = keeper.finish();
        config
    }
}

#[derive(Default)]
struct Parser {
    config: UserConfig,
    /// Guests that are in a pool already.
    pooled: HashSet<u64>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Outcome {
        let fields = Fields::of(line);
        let record = match fields.get(0) {
            "user" => self.user(&fields),
            "token" => return self.token(&fields),
            "group" => self.group(&fields),
            "pool" => self.pool(&fields),
            "role" => self.role(&fields),
            "acl" => self.acl(&fields),
            _ => {
                if !line.trim_start().starts_with('#') {
                    log::warn!("user config - ignore config line: {line}");
                }
                return Outcome::Unusable;
            }
        };
        record.map_or(Outcome::Unusable, Outcome::Record)
    }

    fn user(&mut self, fields: &Fields<'_>) -> Option<Record> {
        let id: UserId = fields
            .get(1)
            .parse()
            .inspect_err(|error| log::warn!("user config - ignore user '{}' - {error}", fields.get(1)))
            .ok()?;
        let Some(expire) = fields.expire(3) else {
            log::warn!("user config - ignore user '{id}' - (illegal characters in 'expire' field)");
            return None;
        };
        let user = User {
            enable: truthy(fields.get(2)),
            expire,
            firstname: fields.text(4),
            lastname: fields.text(5),
            email: fields.0.get(6).map(|email| (*email).to_owned()),
            comment: fields.text(7),
            keys: Some(fields.get(8).to_owned()).filter(|keys| !keys.is_empty()),
            tokens: std::collections::BTreeMap::new(),
        };
        let replaced = self.config.users.insert(id.clone(), user);
        if let Some(old) = replaced.filter(|old| *old != default_root()) {
            self.config.remove_from_groups(&id);
            // What was granted to tokens must not be there for others of the same names.
            for name in old.tokens.into_keys() {
                let user = id.clone();
                self.config.remove_token_acls(&TokenId { user, name });
            }
        }
        Some(Record::User(id))
    }

    fn token(&mut self, fields: &Fields<'_>) -> Outcome {
        let id: TokenId = match fields.get(1).parse() {
            Ok(id) => id,
            Err(error) => {
                log::warn!("user config - ignore token '{}' - {error}", fields.get(1));
                return Outcome::Unusable;
            }
        };
        let Some(expire) = fields.expire(2) else {
            log::warn!("user config - ignore token '{id}' - (illegal characters in 'expire' field)");
            return Outcome::Unusable;
        };
        let Some(user) = self.config.users.get_mut(&id.user) else {
            log::warn!("user config - ignore token '{id}' - user does not exist");
            return Outcome::Dangling;
        };
        let token = Token {
            expire,
            privsep: truthy(fields.get(3)),
            comment: fields.text(4),
        };
        let record = Record::Token(id.to_string());
        user.tokens.insert(id.name, token);
        Outcome::Record(record)
    }

    fn group(&mut self, fields: &Fields<'_>) -> Option<Record> {
        let name = fields.get(1);
        if !is_name(name) {
            log::warn!("user config - ignore group '{name}' - invalid characters in group name");
            return None;
        }
        let mut members = Vec::new();
        for member in list::split(fields.get(2))
            .into_iter()
            .filter(|member| is_listable(member))
        {
            match member.parse::<UserId>() {
                Ok(id) => {
                    if !self.config.users.contains_key(&id) {
                        log::warn!("user config - ignore invalid group member '{id}' - no such user");
                    }
                    members.push(id);
                }
                Err(error) => log::warn!("user config - ignore invalid group member '{member}' - {error}"),
            }
        }
        let group = self.config.groups.entry(name.to_owned()).or_default();
        group.members.extend(members);
        group.comment = fields.text(3);
        Some(Record::Group(name.to_owned()))
    }

    fn pool(&mut self, fields: &Fields<'_>) -> Option<Record> {
        let name = fields.get(1);
        if !is_pool_name(name) {
            log::warn!("user config - ignore pool '{name}' - invalid characters in pool name");
            return None;
        }
        for (end, _) in name.match_indices('/') {
            let ancestor = name.get(..end).unwrap_or_default();
            self.config.pools.entry(ancestor.to_owned()).or_default();
        }
        let pool = self.config.pools.entry(name.to_owned()).or_default();
        pool.comment = fields.text(2);
        for vmid in list::split(fields.get(3)) {
            match vmid.parse::<u64>() {
                Ok(vmid) if self.pooled.insert(vmid) => {
                    pool.vms.insert(vmid);
                }
                Ok(vmid) => log::warn!("user config - ignore duplicate VMID '{vmid}' in pool '{name}'"),
                Err(_) => log::warn!("user config - ignore invalid VMID '{vmid}' in pool '{name}'"),
            }
        }
        for storage in list::split(fields.get(4)) {
            match storage.parse::<StorageId>() {
                Ok(id) => {
                    pool.storages.insert(id.into());
                }
                Err(_) => log::warn!("user config - ignore invalid storage ID '{storage}' in pool '{name}'"),
            }
        }
        Some(Record::Pool(name.to_owned()))
    }

    fn role(&mut self, fields: &Fields<'_>) -> Option<Record> {
        let name = fields.get(1);
        if !is_name(name) {
            log::warn!("user config - ignore role '{name}' - invalid characters in role name");
            return None;
        }
        if !roles::is_builtin(name) {
            let mut privileges = PrivilegeSet::EMPTY;
            for privilege in list::split(fields.get(2)) {
                match privilege.parse::<Privilege>() {
                    Ok(privilege) => privileges.insert(privilege),
                    Err(_) => log::warn!("user config - ignore invalid privilege '{privilege}'"),
                }
            }
            let role = self.config.custom_roles.entry(name.to_owned()).or_default();
            *role = role.union(privileges);
        }
        Some(Record::Role(name.to_owned()))
    }

    fn acl(&mut self, fields: &Fields<'_>) -> Option<Record> {
        let Some(path) = AclPath::normalise(fields.get(2)) else {
            log::warn!("user config - ignore invalid acl path '{}'", fields.get(2));
            return None;
        };
        let propagate = truthy(fields.get(1));
        let mut roles = Vec::new();
        for role in list::split(fields.get(4)) {
            if self.config.role(role).is_some() {
                roles.push(role);
            } else {
                log::warn!("user config - ignore invalid acl role '{role}'");
            }
        }
        for text in list::split(fields.get(3)).into_iter().filter(|text| is_listable(text)) {
            let Some(member) = self.acl_member(text) else { continue };
            for role in &roles {
                self.config.grant(&path, &member, role, propagate);
            }
        }
        Some(Record::Acl(path))
    }

    /// Whom an ACL record means; `None` with a warning for what is invalid, and for tokens that do not exist.
    fn acl_member(&self, text: &str) -> Option<AclMember> {
        if let Some(group) = text.strip_prefix('@') {
            if is_name(group) {
                if !self.config.groups.contains_key(group) {
                    log::warn!("user config - acl group '{group}' does not exist");
                }
                return Some(AclMember::Group(group.to_owned()));
            }
        } else if let Ok(id) = text.parse::<AuthId>() {
            match &id {
                AuthId::Token(token) if self.config.token(token).is_none() => {
                    log::warn!("user config - ignore invalid acl token '{token}'");
                    return None;
                }
                AuthId::User(user) if !self.config.users.contains_key(user) => {
                    log::warn!("user config - acl user '{user}' does not exist");
                }
                _ => {}
            }
            return Some(AclMember::Subject(id));
        }
        log::warn!("user config - invalid user/group '{text}' in acl");
        None
    }
}

/// `root@pam` as it is before the file says anything about it.
fn default_root() -> User {
    User {
        enable: true,
        ..User::default()
    }
}
