//! Which storages a node has, and how full they are.

use pve_access::AccessControl;
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_schema::ids::NodeName;
use pve_schema::list;
use pve_storage::{Content, Status, StorageConfig, Storages};
use serde_json::{Map, Value, json};

use crate::storage::{SEE, storage_id};

/// What is below a storage.
const CHILDREN: [&str; 11] = [
    "content",
    "download-url",
    "file-restore",
    "import-metadata",
    "identity",
    "oci-registry-pull",
    "prunebackups",
    "rrd",
    "rrddata",
    "status",
    "upload",
];

/// `GET /nodes/{node}/storage/{storage}`
pub(super) async fn index(_call: Call) -> ApiResult {
    let rows: Vec<Value> = CHILDREN.iter().map(|child| json!({ "subdir": child })).collect();
    Ok(Value::from(rows).into())
}

/// What is asked of the list.
struct Filter {
    content: Option<Vec<Content>>,
    enabled: bool,
    target: Option<NodeName>,
    storage: Option<String>,
    format: bool,
}

impl Filter {
    fn of(call: &Call) -> Self {
        let words = |text: &str| {
            list::split(text)
                .into_iter()
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        Self {
            content: call.params.text("content").map(words),
            enabled: call.params.is_set("enabled"),
            target: call.params.text("target").and_then(|node| node.parse().ok()),
            storage: call.params.text("storage").map(str::to_owned),
            format: call.params.is_set("format"),
        }
    }

    fn takes(&self, storages: &Storages, config: &StorageConfig, enabled: bool) -> bool {
        if self
            .storage
            .as_deref()
            .is_some_and(|wanted| config.id.as_str() != wanted)
            || (self.enabled && !enabled)
        {
            return false;
        }
        let holds = |wanted: &Vec<Content>| wanted.iter().any(|content| config.holds(*content));
        if self.content.as_ref().is_some_and(|wanted| !enabled || !holds(wanted)) {
            return false;
        }
        let on_target = |node| config.is_shared() && storages.check_enabled(&config.id, Some(node)).is_ok();
        self.target.as_ref().is_none_or(on_target)
    }
}

/// `GET /nodes/{node}/storage`
pub(super) async fn list(call: Call) -> ApiResult {
    blocking(move || {
        let rights = AccessControl::load(&call.context)?;
        let storages = Storages::open(&call.context)?;
        let caller = call.auth_id();
        let filter = Filter::of(&call);
        let known = |wanted: &String| storages.iter().any(|config| config.id.as_str() == *wanted);
        if filter.storage.as_ref().is_some_and(|wanted| !known(wanted)) {
            return Err(ApiError::parameter("storage", "No such storage."));
        }
        let mut rows = Vec::new();
        for config in storages.iter() {
            let enabled = storages.check_enabled(&config.id, None).is_ok();
            let visible = rights.has_any(&caller, &format!("/storage/{}", config.id), &SEE);
            if visible && filter.takes(&storages, config, enabled) {
                rows.push(list_row(&storages, config, enabled, filter.format));
            }
        }
        Ok(Value::from(rows).into())
    })
    .await
}

/// A row of the list: the status, the name, and what is only told here.
fn list_row(storages: &Storages, config: &StorageConfig, enabled: bool, format: bool) -> Value {
    let status = current(storages, config, enabled);
    let mut row = row(config, enabled, status);
    row.insert("storage".to_owned(), config.id.to_string().into());
    if status.total > 0 {
        // A share for people: rounding errors of the last digits do not show.
        #[allow(clippy::cast_precision_loss)]
        let fraction = status.used as f64 / status.total as f64;
        row.insert("used_fraction".to_owned(), fraction.into());
    }
    if config.kind.selects_existing() {
        row.insert("select_existing".to_owned(), 1.into());
    }
    let formats: Vec<&str> = config.formats().into_iter().map(|format| format.as_str()).collect();
    if let Some(default) = formats.first().filter(|_| format) {
        let flags: Map<String, Value> = formats.iter().map(|format| ((*format).to_owned(), 1.into())).collect();
        row.insert("format".to_owned(), json!([flags, default]));
        let mut supported = formats.clone();
        supported.sort_unstable();
        row.insert(
            "formats".to_owned(),
            json!({ "default": default, "supported": supported }),
        );
    }
    row.into()
}

/// `GET /nodes/{node}/storage/{storage}/status`
pub(super) async fn one(call: Call) -> ApiResult {
    blocking(move || {
        let storages = Storages::open(&call.context)?;
        let config = storages.config(&storage_id(&call)?)?;
        let enabled = storages.check_enabled(&config.id, None).is_ok();
        let status = current(&storages, config, enabled);
        Ok::<_, ApiError>(Value::from(row(config, enabled, status)).into())
    })
    .await
}

/// How full a storage is, made usable first. What keeps it from that is only logged: the row says that it is inactive.
fn current(storages: &Storages, config: &StorageConfig, enabled: bool) -> Status {
    if !enabled {
        return Status::default();
    }
    let status = storages
        .activate(&config.id)
        .and_then(|config| storages.status(&config.id));
    status.unwrap_or_else(|error| {
        log::warn!("{error}");
        Status::default()
    })
}

fn row(config: &StorageConfig, enabled: bool, status: Status) -> Map<String, Value> {
    let mut row = Map::new();
    let mut set = |key: &str, value: Value| row.insert(key.to_owned(), value);
    set("type", config.kind.as_str().into());
    set("content", config.get("content").unwrap_or_default().into());
    set("shared", u8::from(config.is_shared()).into());
    set("enabled", u8::from(enabled).into());
    set("active", u8::from(status.active).into());
    set("total", status.total.into());
    set("used", status.used.into());
    set("avail", status.available.into());
    row
}
