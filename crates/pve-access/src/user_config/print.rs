//! Writing `user.cfg` in its canonical order (reference 02 §4.2).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use pve_schema::text::encode;

use super::kept::{Record, Section};
use super::model::{AclEntry, RoleFlags, UserConfig, is_listable};

impl UserConfig {
    /// The file's content in canonical order, kept lines in their places.
    pub fn print(&self) -> String {
        let mut printer = Printer::new(self);
        printer.users();
        printer.groups();
        printer.pools();
        printer.roles();
        printer.acls();
        printer.sections.join("\n")
    }
}

/// Free text as a field: one that is read as the same text again, although blanks around a field count for nothing and
/// a `0` is no text.
fn field(text: Option<&String>) -> String {
    let encoded = text.map(|text| encode(text)).unwrap_or_default();
    if encoded == "0" {
        return "%30".to_owned();
    }
    let inner = encoded.trim_matches(' ');
    if inner.len() == encoded.len() {
        return encoded;
    }
    let (before, behind) = match encoded.find(|c| c != ' ') {
        Some(before) => (before, encoded.len() - before - inner.len()),
        None => (encoded.len(), 0),
    };
    format!("{}{inner}{}", "%20".repeat(before), "%20".repeat(behind))
}

struct Printer<'a> {
    config: &'a UserConfig,
    /// Which kept lines were printed.
    printed: Vec<bool>,
    /// The sections that have a content.
    sections: Vec<String>,
    /// The section at hand.
    out: String,
    /// Whether it has a record, and not only kept lines.
    has_record: bool,
}

impl<'a> Printer<'a> {
    fn new(config: &'a UserConfig) -> Self {
        Self {
            config,
            printed: vec![false; config.kept.len()],
            sections: Vec::new(),
            out: String::new(),
            has_record: false,
        }
    }

    /// Prints one record below the lines that belong to it.
    fn record(&mut self, record: &Record, line: &str) {
        self.kept_above(record);
        self.out.push_str(line);
        self.out.push('\n');
        self.has_record = true;
    }

    fn kept_above(&mut self, record: &Record) {
        for (kept, printed) in self.config.kept.iter().zip(&mut self.printed) {
            if !*printed && kept.above.as_ref() == Some(record) {
                *printed = true;
                self.out.push_str(&kept.text);
                self.out.push('\n');
            }
        }
    }

    /// Ends a section with the kept lines that have no record (any more).
    fn end(&mut self, section: Section) {
        for (kept, printed) in self.config.kept.iter().zip(&mut self.printed) {
            if !*printed && kept.section == section {
                *printed = true;
                self.out.push_str(&kept.text);
                self.out.push('\n');
            }
        }
        let text = std::mem::take(&mut self.out);
        let has_record = std::mem::take(&mut self.has_record);
        match self.sections.last_mut() {
            // Lines alone would be read as the end of the section before, so that is where they go.
            Some(before) if !has_record => before.push_str(&text),
            _ => self.sections.push(text),
        }
    }

    fn users(&mut self) {
        for (id, user) in &self.config.users {
            let line = format!(
                "user:{id}:{}:{}:{}:{}:{}:{}:{}:",
                u8::from(user.enable),
                user.expire,
                field(user.firstname.as_ref()),
                field(user.lastname.as_ref()),
                user.email.as_deref().unwrap_or_default(),
                field(user.comment.as_ref()),
                user.keys.as_deref().unwrap_or_default(),
            );
            self.record(&Record::User(id.clone()), &line);
            for (name, token) in &user.tokens {
                let id = format!("{id}!{name}");
                let line = format!(
                    "token:{id}:{}:{}:{}:",
                    token.expire,
                    u8::from(token.privsep),
                    field(token.comment.as_ref())
                );
                self.record(&Record::Token(id), &line);
            }
        }
        self.end(Section::Users);
    }

    fn groups(&mut self) {
        for (name, group) in &self.config.groups {
            let members = group.members.iter().map(|id| id.as_str());
            let members: Vec<&str> = members.filter(|member| is_listable(member)).collect();
            let line = format!("group:{name}:{}:{}:", members.join(","), field(group.comment.as_ref()));
            self.record(&Record::Group(name.clone()), &line);
        }
        self.end(Section::Groups);
    }

    fn pools(&mut self) {
        for (name, pool) in &self.config.pools {
            // Sorted as text, like everything else in the file.
            let vms: BTreeSet<String> = pool.vms.iter().map(u64::to_string).collect();
            let vms: Vec<&str> = vms.iter().map(String::as_str).collect();
            let storages: Vec<&str> = pool.storages.iter().map(String::as_str).collect();
            let line = format!(
                "pool:{name}:{}:{}:{}:",
                field(pool.comment.as_ref()),
                vms.join(","),
                storages.join(",")
            );
            self.record(&Record::Pool(name.clone()), &line);
        }
        self.end(Section::Pools);
    }

    fn roles(&mut self) {
        for (name, privileges) in &self.config.custom_roles {
            self.record(&Record::Role(name.clone()), &format!("role:{name}:{privileges}:"));
        }
        self.end(Section::Roles);
    }

    fn acls(&mut self) {
        for (path, entry) in &self.config.acls {
            self.kept_above(&Record::Acl(path.clone()));
            for propagate in [false, true] {
                for (roles, members) in records(entry, propagate) {
                    let members: Vec<&str> = members.iter().map(String::as_str).collect();
                    let _ = writeln!(
                        self.out,
                        "acl:{}:{path}:{}:{roles}:",
                        u8::from(propagate),
                        members.join(",")
                    );
                    self.has_record = true;
                }
            }
        }
        self.end(Section::Acls);
    }
}

/// Role list → the members that have exactly these roles with this flag.
fn records(entry: &AclEntry, propagate: bool) -> BTreeMap<String, BTreeSet<String>> {
    let groups = entry.groups.iter().map(|(name, flags)| (format!("@{name}"), flags));
    // What root@pam may do is not up to an ACL.
    let users = entry
        .users
        .iter()
        .filter(|(id, _)| !id.is_root())
        .map(|(id, flags)| (id.to_string(), flags));
    let tokens = entry.tokens.iter().map(|(id, flags)| (id.to_string(), flags));

    let mut records: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let members = groups.chain(users).chain(tokens);
    for (member, flags) in members.filter(|(member, _)| is_listable(member)) {
        let roles = role_list(flags, propagate);
        if !roles.is_empty() {
            records.entry(roles).or_default().insert(member);
        }
    }
    records
}

/// The roles with this flag, sorted, joined with `,`.
fn role_list(flags: &RoleFlags, propagate: bool) -> String {
    let roles: Vec<&str> = flags
        .iter()
        .filter(|(_, flag)| **flag == propagate)
        .map(|(role, _)| role.as_str())
        .collect();
    roles.join(",")
}
