//! Making, changing and removing storages (reference 08 §7, 03 §3.4).
//!
//! ```text
//! lock ─▶ read ─▶ digest, checks ─▶ secrets to their own files ─▶ activate (new ones only) ─▶ write
//!                                        └── any failure after that: the new secrets go again
//! ```

use std::collections::BTreeMap;

use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_cfs::{Cfs, LockId};
use pve_schema::ids::StorageId;
use pve_schema::section_config::{OptionError, Value, WriteError};
use pve_schema::{Context, Param, Params, digest, list};

use super::file::{STORAGE_CFG, StorageFile, format};
use super::options::is_sensitive;
use super::{StorageConfig, value};
use crate::dir;
use crate::error::StorageError;
use crate::kind::StorageKind;
use crate::storages::operable;

/// What a storage's configuration may not be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The name is taken.
    #[error("storage ID '{0}' already defined")]
    Defined(StorageId),
    /// An option that cannot be set or removed like that, or a storage that lacks one.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A value that does not fit its type.
    #[error("unable to parse value of '{option}': {reason}")]
    Value {
        /// The option.
        option: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A section that cannot be written.
    #[error(transparent)]
    Unwritable(#[from] WriteError),
    /// Another storage's base volume is on it.
    #[error("can't remove storage - storage is used as base of another storage")]
    UsedAsBase,
}

/// Parameters that are no options.
const NO_OPTIONS: [&str; 4] = ["type", "storage", "digest", "delete"];

/// Makes a storage. One that this node may use is activated at once.
///
/// # Errors
/// Everything is told as `create storage failed: …`.
pub fn create(
    context: &Context,
    id: &StorageId,
    kind: StorageKind,
    params: &Params,
) -> Result<StorageConfig, StorageError> {
    change(context, "create storage failed", |cfs, file| {
        if file.is_taken(id) {
            return Err(ConfigError::Defined(id.clone()).into());
        }
        let given = Given::read(kind, params)?;
        let section = format().create(kind.as_str(), id.as_str(), given.options);
        let config = StorageConfig {
            id: id.clone(),
            kind,
            section: section.map_err(ConfigError::from)?,
        };
        store_secrets(cfs, &config, &given.secrets)?;
        let activated = activate(context, &config);
        let written = activated.and_then(|()| {
            file.put(config.clone());
            write(cfs, file)
        });
        if written.is_err() {
            remove_secrets(cfs, &config);
        }
        written.map(|()| config)
    })
}

/// Changes a storage: sets options, deletes others. It is not activated.
///
/// # Errors
/// Everything is told as `update storage failed: …`.
pub fn update(context: &Context, id: &StorageId, params: &Params) -> Result<StorageConfig, StorageError> {
    change(context, "update storage failed", |cfs, file| {
        digest::check(params.text("digest"), file.digest())?;
        let known = file.get(id).cloned();
        let mut config = known.ok_or_else(|| StorageError::NoStorage(id.to_string()))?;
        let given = Given::read(config.kind, params)?;
        let deleted = list::split(params.text("delete").unwrap_or_default());
        if let Some(both) = deleted.iter().find(|name| given.secrets.contains_key(**name)) {
            return Err(ConfigError::from(OptionError::SetAndDelete((*both).to_owned())).into());
        }
        let updated = format().update(&mut config.section, given.options, &deleted);
        updated.map_err(ConfigError::from)?;
        store_secrets(cfs, &config, &given.secrets)?;
        file.put(config.clone());
        write(cfs, file)?;
        if deleted.contains(&"password") {
            remove_secrets(cfs, &config);
        }
        Ok(config)
    })
}

/// Removes a storage from the configuration, with its secrets and what was granted on it. Its data stays.
///
/// # Errors
/// Everything is told as `delete storage failed: …`.
pub fn remove(context: &Context, id: &StorageId) -> Result<(), StorageError> {
    change(context, "delete storage failed", |cfs, file| {
        let known = file.get(id).cloned();
        let config = known.ok_or_else(|| StorageError::NoStorage(id.to_string()))?;
        let prefix = format!("{id}:");
        let is_base = |other: &StorageConfig| other.get("base").is_some_and(|base| base.starts_with(&prefix));
        if file.iter().any(is_base) {
            return Err(ConfigError::UsedAsBase.into());
        }
        file.remove(id);
        write(cfs, file)?;
        remove_secrets(cfs, &config);
        Ok(())
    })?;
    Ok(pve_access::edit::remove_storage_access(context, id)?)
}

/// Runs a change on the file as it is under its lock.
fn change<T>(
    context: &Context,
    prefix: &'static str,
    code: impl FnOnce(&Cfs, &mut StorageFile) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let cfs = Cfs::new(context);
    let changed = cfs.with_lock(&LockId::file(STORAGE_CFG), DEFAULT_TIMEOUT, || {
        let mut file = StorageFile::read(&cfs)?;
        code(&cfs, &mut file)
    });
    changed.map_err(|source| StorageError::Change {
        prefix,
        source: Box::new(source),
    })
}

fn write(cfs: &Cfs, file: &StorageFile) -> Result<(), StorageError> {
    let text = file.to_text().map_err(ConfigError::from)?;
    Ok(cfs.write(STORAGE_CFG, text.as_bytes())?)
}

/// The options among the parameters.
fn texts(params: &Params) -> impl Iterator<Item = (&str, &str)> {
    let texts = params.iter().filter_map(|(name, value)| match value {
        Param::Text(text) => Some((name, text.as_str())),
        _ => None,
    });
    texts.filter(|(name, _)| !NO_OPTIONS.contains(name))
}

/// What a client sent.
struct Given {
    options: Vec<(String, Value)>,
    /// What is no part of the section.
    secrets: BTreeMap<String, String>,
}

impl Given {
    /// Brings the options into the form in which they are kept.
    fn read(kind: StorageKind, params: &Params) -> Result<Self, ConfigError> {
        let mut given = Self {
            options: Vec::new(),
            secrets: BTreeMap::new(),
        };
        for (option, text) in texts(params) {
            if format().usage(kind.as_str(), option).is_none() {
                return Err(OptionError::Unexpected(option.to_owned()).into());
            }
            if is_sensitive(option) {
                given.secrets.insert(option.to_owned(), text.to_owned());
                continue;
            }
            let value = value::decode(kind, option, text).map_err(|reason| ConfigError::Value {
                option: option.to_owned(),
                reason: reason.trim_end().to_owned(),
            })?;
            given
                .options
                .push((option.to_owned(), value.unwrap_or_default().into()));
        }
        Ok(given)
    }
}

/// Makes a new storage usable, if it is for this node.
fn activate(context: &Context, config: &StorageConfig) -> Result<(), StorageError> {
    if config.is_disabled() || !config.is_for_node(&context.site.node) {
        return Ok(());
    }
    operable(config)?;
    dir::activate(config)
}

/// Writes the secrets of a storage to their own files (reference 08 §2.4).
fn store_secrets(cfs: &Cfs, config: &StorageConfig, secrets: &BTreeMap<String, String>) -> Result<(), StorageError> {
    for (option, secret) in secrets {
        let text = match (config.kind, option.as_str()) {
            (StorageKind::Cifs, "password") => format!("password={secret}\n"),
            (StorageKind::Pbs, "password") => format!("{secret}\n"),
            (StorageKind::Esxi, "password") => secret.clone(),
            _ => return Err(StorageError::NotYet("a storage's key file")),
        };
        if secret.contains(['\n', '\r']) {
            return Err(ConfigError::from(WriteError::LineFeed(option.clone())).into());
        }
        cfs.write(&password_file(config), text.as_bytes())?;
    }
    Ok(())
}

fn password_file(config: &StorageConfig) -> String {
    format!("priv/storage/{}.pw", config.id)
}

/// The secrets of a storage go; one that stays behind is worth a warning, not a failure.
fn remove_secrets(cfs: &Cfs, config: &StorageConfig) {
    if let Err(error) = cfs.remove(&password_file(config)) {
        log::warn!("{error}");
    }
}
