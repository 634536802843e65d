//! What holds on this node when a call says nothing (reference 05 §12.2).

use pve_access::UserConfig;
use pve_contract::{id, method};
use pve_schema::Context;
use pve_schema::ids::{AuthId, StorageId};
use pve_schema::schema::Kind;
use pve_storage::{Content, Storages};
use serde_json::{Map, Value, json};

use super::VzdumpError;
use super::conf::Conf;
use super::given::{Given, Setting};
use super::options::{DEFAULT_STORAGE, Merged, properties};

/// What only those see who may audit the node.
const AUDITORS_ONLY: [&str; 5] = ["mailto", "tmpdir", "dumpdir", "script", "ionice"];
/// Either lets a caller look at a storage.
const SEE_STORAGE: [&str; 2] = ["Datastore.Audit", "Datastore.AllocateSpace"];

/// The defaults, as a client sees them.
///
/// # Errors
/// Missing rights on the storage; no such storage.
pub fn defaults(
    context: &Context,
    access: &UserConfig,
    caller: &AuthId,
    storage: Option<&str>,
) -> Result<Value, VzdumpError> {
    let mut conf = Conf::load(context).options;
    let named = storage.or_else(|| conf.text("storage"));
    let storage = match named {
        Some(storage) => Some(storage.to_owned()),
        None if conf.has("dumpdir") => None,
        None => Some(DEFAULT_STORAGE.to_owned()),
    };
    if let Some(storage) = storage {
        access.require_any(caller, &format!("/storage/{storage}"), &SEE_STORAGE)?;
        of_storage(context, &storage, &mut conf)?;
    }
    let mut answer = Map::new();
    let given = Given::default();
    let merged = Merged {
        given: &given,
        conf: &conf,
    };
    for parameter in method(id::POST_NODES_NODE_VZDUMP).parameters {
        let name = parameter.name;
        let value = match name {
            "performance" => Some(performance(merged)),
            "fleecing" => Some(fleecing(merged)),
            "exclude-path" => conf.has(name).then(|| Value::from(conf.list(name).join(","))),
            "mailto" => merged
                .text(name)
                .map(|text| Value::from(pve_schema::list::split(text).join(","))),
            _ => merged.text(name).map(|text| typed(parameter.schema.kind, text)),
        };
        if let Some(value) = value {
            answer.insert(name.to_owned(), value);
        }
    }
    if !access.has(caller, &format!("/nodes/{}", context.site.node), &["Sys.Audit"]) {
        for name in AUDITORS_ONLY {
            answer.remove(name);
        }
    }
    let pool = answer.get("pool").and_then(Value::as_str);
    if pool.is_some_and(|pool| !access.has(caller, &format!("/pool/{pool}"), &["Pool.Audit"])) {
        answer.remove("pool");
    }
    Ok(Value::Object(answer))
}

/// What the storage says overrides the file.
fn of_storage(context: &Context, storage: &str, conf: &mut Given) -> Result<(), VzdumpError> {
    let id: Result<StorageId, _> = storage.parse();
    let id = id.map_err(|error| VzdumpError::parameter("storage", &error.to_string()))?;
    let storages = Storages::open(context)?;
    let config = storages.check_enabled(&id, None)?;
    if !config.holds(Content::Backup) {
        return Err(VzdumpError::WrongContent(id));
    }
    conf.set("storage", Setting::Text(storage.to_owned()));
    if let Some(directory) = config.content_dir(Content::Backup) {
        conf.set("dumpdir", Setting::Text(directory.display().to_string()));
    }
    if let Some(retention) = config.retention() {
        conf.set("prune-backups", Setting::Text(retention.to_string()));
    }
    Ok(())
}

fn performance(merged: Merged<'_>) -> Value {
    json!({
        "max-workers": merged.performance("max-workers"),
        "pbs-entries-max": merged.performance("pbs-entries-max"),
    })
}

fn fleecing(merged: Merged<'_>) -> Value {
    let set = merged
        .text("fleecing")
        .and_then(|text| properties("backup-fleecing", text));
    let enabled = set.as_ref().is_some_and(|set| set.is_set("enabled"));
    let mut value = json!({ "enabled": u8::from(enabled) });
    if let Some(storage) = set.as_ref().and_then(|set| set.get("storage")) {
        value["storage"] = storage.into();
    }
    value
}

/// A value as its type is told to clients.
fn typed(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Boolean => Value::from(u8::from(pve_schema::check::boolean_word(text).unwrap_or(false))),
        Kind::Integer => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
        _ => Value::from(text),
    }
}
