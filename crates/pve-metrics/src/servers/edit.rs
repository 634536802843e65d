//! Adding, changing and removing servers (reference 04 §16.1).
//!
//! ```text
//! add:    checks ─▶ connection tried ─▶ lock ─▶ checks again ─▶ the token to its own file ─▶ write
//! change: checks ─▶ connection tried ─▶ lock ─▶ checks again ─▶ the old token goes ─▶ write ─▶ the new token comes
//! ```
//!
//! If writing fails, a new server's token goes again, and a changed server's old one comes back.
//!
//! A connection is tried before the lock is taken: a server that does not answer must not keep others from theirs. For
//! the same reason nothing has to be taken back when it fails.

use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_cfs::{Cfs, LockId};
use pve_schema::section_config::{OptionError, Section, SectionFile, Value};
use pve_schema::{Context, Param, Params, digest, list};

use super::config::{STATUS_CFG, Server, Settings, format, pairs};
use super::error::ServerError;
use super::link::Link;

/// Parameters that are no options of a section.
const NO_OPTIONS: [&str; 4] = ["id", "type", "digest", "delete"];
/// The option that is kept in a file of its own.
const TOKEN: &str = "token";
/// Options that are objects in base64.
const OBJECTS: [&str; 2] = ["otel-headers", "otel-resource-attributes"];

/// Adds a server.
///
/// # Errors
/// It exists, an option is missing or not for its kind, the connection cannot be made.
pub fn create(context: &Context, id: &str, kind: &str, params: &Params) -> Result<(), ServerError> {
    let cfs = Cfs::new(context);
    let token = params.text(TOKEN);
    let section = new_section(&read(&cfs)?, id, kind, params)?;
    test(&section, token.map(str::to_owned))?;
    locked(&cfs, || {
        let mut file = read(&cfs)?;
        file.insert(new_section(&file, id, kind, params)?);
        match token {
            Some(token) => cfs.write(&token_file(id), token.as_bytes())?,
            // What a server of that name left behind must not become this one's.
            None => forget_token(&cfs, id),
        }
        write(&cfs, &file).inspect_err(|_| forget_token(&cfs, id))
    })
}

fn new_section(file: &SectionFile, id: &str, kind: &str, params: &Params) -> Result<Section, ServerError> {
    if file.is_taken(id) {
        return Err(ServerError::Exists(id.to_owned()));
    }
    let section = format().create(kind, id, options(kind, params)?)?;
    check_objects(&section)?;
    Ok(section)
}

/// Changes a server.
///
/// # Errors
/// The file is another by now, there is no such server, an option cannot be set or removed, the connection cannot be
/// made.
pub fn update(context: &Context, id: &str, params: &Params) -> Result<(), ServerError> {
    let cfs = Cfs::new(context);
    let forgets_token = list::split(params.text("delete").unwrap_or_default()).contains(&TOKEN);
    let file = read(&cfs)?;
    let section = changed_section(&file, id, params)?;
    let token = match params.text(TOKEN) {
        Some(token) => Some(token.to_owned()),
        None if forgets_token => None,
        None => kept_token(&cfs, &file, &section)?,
    };
    test(&section, token)?;
    locked(&cfs, || {
        let mut file = read(&cfs)?;
        let section = changed_section(&file, id, params)?;
        if params.text(TOKEN).is_none() && !forgets_token {
            kept_token(&cfs, &file, &section)?;
        }
        file.insert(section);
        // What the file cannot be must not cost the old token.
        file.write(format())?;
        match params.text(TOKEN) {
            Some(new) => replace_token(&cfs, id, Some(new), || write(&cfs, &file)),
            None if forgets_token => replace_token(&cfs, id, None, || write(&cfs, &file)),
            None => write(&cfs, &file),
        }
    })
}

/// Changes the file between the old token and the new: whoever looks meanwhile sees neither secret with the other's
/// address. If that fails, the old token is put back.
pub(super) fn replace_token(
    cfs: &Cfs,
    id: &str,
    new: Option<&str>,
    change: impl FnOnce() -> Result<(), ServerError>,
) -> Result<(), ServerError> {
    let name = token_file(id);
    let old = cfs.read(&name)?;
    cfs.remove(&name)?;
    change().inspect_err(|_| {
        if let Some(error) = old.and_then(|old| cfs.write(&name, &old).err()) {
            log::error!("{error}");
        }
    })?;
    match new {
        Some(new) => Ok(cfs.write(&name, new.as_bytes())?),
        None => Ok(()),
    }
}

/// The token of a server that changes without it: one that was set for another addressee is not told.
fn kept_token(cfs: &Cfs, file: &SectionFile, section: &Section) -> Result<Option<String>, ServerError> {
    if !Server::has_token(&section.kind) {
        return Ok(None);
    }
    let Some(token) = token(cfs, &section.id)? else {
        return Ok(None);
    };
    let (before, now) = (file.get(&section.id).and_then(Server::of), Server::of(section));
    let elsewhere = before
        .zip(now)
        .and_then(|(before, now)| now.secret_goes_elsewhere(&before));
    match elsewhere {
        Some(option) => Err(ServerError::TokenWanted(option)),
        None => Ok(Some(token)),
    }
}

fn changed_section(file: &SectionFile, id: &str, params: &Params) -> Result<Section, ServerError> {
    digest::check(params.text("digest"), &file.digest)?;
    let mut section = file
        .get(id)
        .cloned()
        .ok_or_else(|| ServerError::NoSuchServer(id.to_owned()))?;
    let deleted = list::split(params.text("delete").unwrap_or_default());
    if deleted.contains(&TOKEN) && params.has(TOKEN) {
        return Err(OptionError::SetAndDelete(TOKEN.to_owned()).into());
    }
    let is_in_file = |key: &&&str| **key != TOKEN || !Server::has_token(&section.kind);
    let deleted: Vec<&str> = deleted.iter().filter(is_in_file).copied().collect();
    let options = options(&section.kind, params)?;
    format().update(&mut section, options, &deleted)?;
    check_objects(&section)?;
    Ok(section)
}

/// Removes a server and its token. One that is not there is gone already.
///
/// # Errors
/// The file cannot be read or written.
pub fn delete(context: &Context, id: &str) -> Result<(), ServerError> {
    let cfs = Cfs::new(context);
    locked(&cfs, || {
        let mut file = read(&cfs)?;
        if file.is_taken(id) {
            file.remove(id);
            write(&cfs, &file)?;
        }
        forget_token(&cfs, id);
        Ok(())
    })
}

/// The secret that a server is told, if there is one: the first line of its file.
///
/// # Errors
/// The file cannot be read.
pub fn token(cfs: &Cfs, id: &str) -> Result<Option<String>, ServerError> {
    let text = cfs.read_text(&token_file(id))?;
    let token = text.and_then(|text| text.lines().next().map(|line| line.trim().to_owned()));
    Ok(token.filter(|token| !token.is_empty()))
}

/// Where the secret of a server is; only root may read it.
pub(super) fn token_file(id: &str) -> String {
    format!("priv/metricserver/{id}.pw")
}

fn forget_token(cfs: &Cfs, id: &str) {
    // One that stays behind is worth a warning, not a failure.
    if let Err(error) = cfs.remove(&token_file(id)) {
        log::warn!("{error}");
    }
}

/// Tries the connection of a server as it will be, unless it is to be left alone.
fn test(section: &Section, token: Option<String>) -> Result<(), ServerError> {
    let Some(server) = Server::of(section).filter(|server| !server.is_disabled) else {
        return Ok(());
    };
    let failed = match server.settings {
        Settings::Otlp(_) => ServerError::CollectorTest,
        Settings::Graphite(_) | Settings::Influx(_) => ServerError::Test,
    };
    Link::new(server, token).and_then(|link| link.test()).map_err(failed)
}

/// The options among the parameters, in the form in which they are kept.
fn options(kind: &str, params: &Params) -> Result<Vec<(String, Value)>, ServerError> {
    if params.has(TOKEN) && !Server::has_token(kind) {
        return Err(OptionError::Unexpected(TOKEN.to_owned()).into());
    }
    let texts = params.iter().filter_map(|(name, value)| match value {
        Param::Text(text) => Some((name, text)),
        Param::List(_) | Param::Map(_) => None,
    });
    let kept = texts.filter(|(name, _)| !NO_OPTIONS.contains(name) && *name != TOKEN);
    Ok(kept
        .map(|(name, text)| (name.to_owned(), text.as_str().into()))
        .collect())
}

fn check_objects(section: &Section) -> Result<(), ServerError> {
    for key in OBJECTS {
        if let Some(text) = section.text(key) {
            pairs(text).map_err(|reason| ServerError::Value { key, reason })?;
        }
    }
    Ok(())
}

fn locked<T>(cfs: &Cfs, change: impl FnOnce() -> Result<T, ServerError>) -> Result<T, ServerError> {
    cfs.with_lock(&LockId::file(STATUS_CFG), DEFAULT_TIMEOUT, change)
}

fn read(cfs: &Cfs) -> Result<SectionFile, ServerError> {
    Ok(SectionFile::parse(format(), cfs.read(STATUS_CFG)?.unwrap_or_default()))
}

fn write(cfs: &Cfs, file: &SectionFile) -> Result<(), ServerError> {
    Ok(cfs.write(STATUS_CFG, file.write(format())?.as_bytes())?)
}
