//! Making, changing and deleting realms (reference 02 §12.8).
//!
//! ```text
//! connection tried? ─▶ lock ─▶ read ─▶ digest, checks ─▶ the bind password to its own file ─▶ write
//!                                                             └── a new realm's goes again if writing fails
//! ```
//!
//! A connection is tried before the lock is taken: a server that does not answer must not keep others from theirs.

use pve_cfs::Cfs;
use pve_schema::section_config::{OptionError, Section, SectionFile, Value};
use pve_schema::{Context, Param, Params, digest, list};

use super::{BUILTIN, Domains, Realm, RealmKind, format};
use crate::error::AccessError;
use crate::ldap;
use crate::store::{self, DOMAINS_CFG};

/// Parameters that are no options of a section.
const NO_OPTIONS: [&str; 5] = ["realm", "type", "digest", "delete", CHECK];
/// Asks for the connection to be tried.
const CHECK: &str = "check-connection";
/// The option that is kept in a file of its own.
const PASSWORD: &str = "password";
/// What a synchronisation does unless told otherwise.
const SYNC_DEFAULTS: &str = "sync-defaults-options";

/// Makes a realm.
///
/// # Errors
/// It exists, its type is built in, an option is not for its type or missing, its server cannot be asked; wrapped in
/// `add auth server failed`.
pub fn create(context: &Context, realm: &str, kind: RealmKind, params: &Params) -> Result<(), AccessError> {
    const PREFIX: &str = "add auth server failed";
    let password = params.text(PASSWORD);
    if params.is_set(CHECK) {
        let check = || {
            let section = new_section(&read(&Cfs::new(context))?, realm, kind, params)?;
            check_connection(&section, password.map(str::to_owned))
        };
        check().map_err(|error| error.during(PREFIX))?;
    }
    change(context, PREFIX, |cfs, file| {
        let section = new_section(file, realm, kind, params)?;
        if section.is_set("default") {
            clear_default(file);
        }
        file.insert(section);
        match (kind, password) {
            (RealmKind::Ldap | RealmKind::Ad, Some(password)) => set_password(cfs, realm, password)?,
            (_, Some(_)) => log::warn!("realm '{realm}': a bind password is for LDAP and AD alone - ignored"),
            // What a realm of that name left behind must not become this one's.
            (_, None) => forget_password(cfs, realm),
        }
        write(cfs, file).inspect_err(|_| forget_password(cfs, realm))
    })
}

/// The section of a new realm.
fn new_section(file: &SectionFile, realm: &str, kind: RealmKind, params: &Params) -> Result<Section, AccessError> {
    // `pam` and `pve` always exist, so their names are never free.
    if BUILTIN.iter().any(|(name, ..)| *name == realm) || file.is_taken(realm) {
        return Err(AccessError::plain(format!("domain '{realm}' already exists")));
    }
    if BUILTIN.iter().any(|(_, builtin, _)| *builtin == kind) {
        let text = format!("unable to create builtin type '{}'", kind.as_str());
        return Err(AccessError::plain(text));
    }
    refuse_check(kind, params)?;
    Ok(format().create(kind.as_str(), realm, options(params))?)
}

/// Changes a realm: removes options, then sets others.
///
/// # Errors
/// The file is another by now, there is no such realm, nothing is to be changed, an option cannot be set, or the server
/// cannot be asked; wrapped in `update auth server failed`.
pub fn update(context: &Context, realm: &str, params: &Params) -> Result<(), AccessError> {
    const PREFIX: &str = "update auth server failed";
    let password = params.text(PASSWORD);
    let deletes_password = list::split(params.text("delete").unwrap_or_default()).contains(&PASSWORD);
    if params.is_set(CHECK) {
        let cfs = Cfs::new(context);
        let check = || {
            let section = changed_section(&read(&cfs)?, realm, params)?;
            let password = match password {
                Some(password) => Some(password.to_owned()),
                None if deletes_password => None,
                None => Domains::bind_password(&cfs, realm)?,
            };
            check_connection(&section, password)
        };
        check().map_err(|error| error.during(PREFIX))?;
    }
    change(context, PREFIX, |cfs, file| {
        let section = changed_section(file, realm, params)?;
        if section.is_set("default") {
            clear_default(file);
        }
        file.insert(section);
        // What the file cannot be must not cost the old password.
        text(file)?;
        match password {
            Some(password) => set_password(cfs, realm, password)?,
            None if deletes_password => forget_password(cfs, realm),
            None => {}
        }
        write(cfs, file)
    })
}

/// The section of a realm as it will be.
fn changed_section(file: &SectionFile, realm: &str, params: &Params) -> Result<Section, AccessError> {
    digest::check(params.text("digest"), &file.digest).map_err(|error| AccessError::plain(error.to_string()))?;
    let mut section = file
        .get(realm)
        .cloned()
        .ok_or_else(|| AccessError::plain(format!("domain '{realm}' does not exist")))?;
    let kind = RealmKind::parse(&section.kind)
        .ok_or_else(|| AccessError::plain(format!("unsupported type '{}'", section.kind)))?;
    let options = options(params);
    let deleted = list::split(params.text("delete").unwrap_or_default());
    if options.is_empty() && deleted.is_empty() && !params.has(PASSWORD) && !params.has(CHECK) {
        return Err(AccessError::plain("no options specified"));
    }
    refuse_check(kind, params)?;
    if params.has(PASSWORD) && format().usage(kind.as_str(), PASSWORD).is_none() {
        return Err(OptionError::Unexpected(PASSWORD.to_owned()).into());
    }
    // Upstream does not ask whether what is removed is required; writing does.
    for key in &deleted {
        section.remove(key);
    }
    format().update(&mut section, options, &[])?;
    Ok(section)
}

/// Tries the connection of a realm as it will be.
fn check_connection(section: &Section, password: Option<String>) -> Result<(), AccessError> {
    let realm = Realm::of(section).ok_or_else(|| AccessError::plain("no such type of realm"))?;
    ldap::check_connection(&section.id, &realm, password)
}

/// Deletes a realm with its bind password. Its users stay; `pam` and `pve` come back as they are without options.
///
/// # Errors
/// There is none of that name; wrapped in `delete auth server failed`.
pub fn delete(context: &Context, realm: &str) -> Result<(), AccessError> {
    change(context, "delete auth server failed", |cfs, file| {
        let text = || format!("authentication domain '{realm}' does not exist");
        file.remove(realm).ok_or_else(|| AccessError::plain(text()))?;
        complete(file);
        write(cfs, file)?;
        forget_password(cfs, realm);
        Ok(())
    })
}

/// Runs a change on the file as it is under its lock.
fn change<T>(
    context: &Context,
    prefix: &str,
    code: impl FnOnce(&Cfs, &mut SectionFile) -> Result<T, AccessError>,
) -> Result<T, AccessError> {
    let cfs = Cfs::new(context);
    store::locked(&cfs, DOMAINS_CFG, prefix, || code(&cfs, &mut read(&cfs)?))
}

fn read(cfs: &Cfs) -> Result<SectionFile, AccessError> {
    let mut file = SectionFile::parse(format(), cfs.read(DOMAINS_CFG)?.unwrap_or_default());
    complete(&mut file);
    Ok(file)
}

/// Adds the realms that are always there, and lets one be the default at most.
fn complete(file: &mut SectionFile) {
    for (name, kind, comment) in BUILTIN {
        let known = file.get(name).filter(|section| section.kind == kind.as_str());
        if known.is_none() {
            let mut section = Section::new(kind.as_str(), name);
            section.set("comment", comment);
            file.insert(section);
        }
    }
    let mut is_taken = false;
    for section in file.sections_mut() {
        if section.is_set("default") && is_taken {
            section.remove("default");
        }
        is_taken |= section.is_set("default");
    }
}

fn clear_default(file: &mut SectionFile) {
    for section in file.sections_mut() {
        section.remove("default");
    }
}

fn write(cfs: &Cfs, file: &SectionFile) -> Result<(), AccessError> {
    Ok(cfs.write(DOMAINS_CFG, text(file)?.as_bytes())?)
}

fn text(file: &SectionFile) -> Result<String, AccessError> {
    file.write(format())
        .map_err(|error| AccessError::plain(error.to_string()))
}

/// Only directories are connected to.
fn refuse_check(kind: RealmKind, params: &Params) -> Result<(), AccessError> {
    if params.has(CHECK) && !matches!(kind, RealmKind::Ldap | RealmKind::Ad) {
        let text = "'check-connection' parameter can only be set for realms of type 'ldap' or 'ad'";
        return Err(AccessError::plain(text));
    }
    Ok(())
}

/// The options among the parameters, in the form in which they are kept.
fn options(params: &Params) -> Vec<(String, Value)> {
    let texts = params.iter().filter_map(|(name, value)| match value {
        Param::Text(text) => Some((name, text)),
        _ => None,
    });
    texts
        .filter(|(name, _)| !NO_OPTIONS.contains(name) && *name != PASSWORD)
        .map(|(name, text)| {
            let text = match name {
                SYNC_DEFAULTS => modern_sync_options(text),
                _ => text.clone(),
            };
            (name.to_owned(), text.into())
        })
        .collect()
}

/// What `full` and `purge` meant is said by `remove-vanished` now.
pub(crate) fn modern_sync_options(text: &str) -> String {
    let mut kept = Vec::new();
    let mut vanished = Vec::new();
    for part in text.split(',') {
        let is_on = |value: &str| matches!(value.to_lowercase().as_str(), "1" | "on" | "yes" | "true");
        match part.trim().split_once('=') {
            Some(("full", value)) => vanished.extend(is_on(value).then_some("entry;properties")),
            Some(("purge", value)) => vanished.extend(is_on(value).then_some("acl")),
            _ => kept.push(part.to_owned()),
        }
    }
    if !vanished.is_empty() && !kept.iter().any(|part| part.starts_with("remove-vanished=")) {
        kept.push(format!("remove-vanished={}", vanished.join(";")));
    }
    kept.join(",")
}

fn password_file(realm: &str) -> String {
    format!("priv/realm/{realm}.pw")
}

/// Where older releases kept it.
fn old_password_file(realm: &str) -> String {
    format!("priv/ldap/{realm}.pw")
}

fn set_password(cfs: &Cfs, realm: &str, password: &str) -> Result<(), AccessError> {
    cfs.write(&password_file(realm), password.as_bytes())?;
    remove_file(cfs, &old_password_file(realm));
    Ok(())
}

fn forget_password(cfs: &Cfs, realm: &str) {
    remove_file(cfs, &password_file(realm));
    remove_file(cfs, &old_password_file(realm));
}

/// One that stays behind is worth a warning, not a failure.
fn remove_file(cfs: &Cfs, rel: &str) {
    if let Err(error) = cfs.remove(rel) {
        log::warn!("{error}");
    }
}

impl From<OptionError> for AccessError {
    fn from(error: OptionError) -> Self {
        Self::plain(error.to_string())
    }
}

impl Domains {
    /// The password that a directory is searched with: the first line of its file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bind_password(cfs: &Cfs, realm: &str) -> Result<Option<String>, AccessError> {
        let mut text = cfs.read_text(&password_file(realm))?;
        if text.is_none() {
            text = cfs.read_text(&old_password_file(realm))?;
        }
        Ok(text.map(|text| text.lines().next().unwrap_or_default().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 02 §16, vector 93; what upstream drops is kept (docs/differences.md).
    #[test]
    fn the_file_is_written_in_canonical_order() {
        let text = "ldap: corp\n\tserver1 10.1.2.3\n\tbase_dn dc=lab,dc=example\n\tuser_attr uid\n\
            \tcomment Lab%3A main\n\tdefault 1\n\tmode ldap+starttls\n\tverify 1\n\
            \tsync-defaults-options scope=both,remove-vanished=acl;entry,enable-new=0\n\tbogus 1\n\n\
            openid: sso\n\tclient-id pve\n\tissuer-url https://idp.lab.example/realms/x\n\tautocreate 1\n\n\
            weird: zz\n";
        let mut file = SectionFile::parse(format(), text);
        complete(&mut file);
        let expected = "ldap: corp\n\tcomment Lab%3A main\n\tbase_dn dc=lab,dc=example\n\tserver1 10.1.2.3\n\
            \tuser_attr uid\n\tdefault 1\n\tmode ldap+starttls\n\
            \tsync-defaults-options scope=both,remove-vanished=acl;entry,enable-new=0\n\tverify 1\n\tbogus 1\n\n\
            openid: sso\n\tclient-id pve\n\tissuer-url https://idp.lab.example/realms/x\n\tautocreate 1\n\n\
            weird: zz\n\n\
            pve: pve\n\tcomment Proxmox VE authentication server\n\n\
            pam: pam\n\tcomment Linux PAM standard authentication\n\n";
        assert_eq!(file.write(format()).unwrap(), expected);
    }

    #[test]
    fn old_words_of_a_synchronisation_become_the_new_one() {
        for (old, new) in [
            ("scope=both", "scope=both"),
            (
                "scope=both,full=1,purge=1",
                "scope=both,remove-vanished=entry;properties;acl",
            ),
            ("purge=yes,scope=users", "scope=users,remove-vanished=acl"),
            ("full=0,scope=users", "scope=users"),
            ("full=1,remove-vanished=none", "remove-vanished=none"),
        ] {
            assert_eq!(modern_sync_options(old), new);
        }
    }
}
