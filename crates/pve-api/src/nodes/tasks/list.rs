//! `GET /nodes/{node}/tasks` (reference 03 §5.6)

use pve_access::AccessControl;
use pve_rest::{ApiError, ApiResult, Call, Reply, blocking};
use pve_schema::list::split;
use pve_task::list::{Filter, Source};
use pve_task::{Class, Entry, TaskList};
use serde_json::{Map, Value};

use super::{may_see, row};

/// Rows where no number is asked for.
const DEFAULT_LIMIT: u64 = 50;

pub(super) async fn list(call: Call) -> ApiResult {
    blocking(move || {
        let filter = filter(&call)?;
        let source = match call.params.text("source") {
            Some("active") => Source::Active,
            Some("all") => Source::All,
            _ => Source::Archive,
        };
        let number = |name: &str, default| {
            let sent = call.params.integer(name).and_then(|number| u64::try_from(number).ok());
            sent.unwrap_or(default)
        };
        let caller = call.auth_id();
        let access = AccessControl::load(&call.context)?;
        let node = call.params.required("node");
        let found = TaskList::new(&call.context)
            .query(
                source,
                &filter,
                number("start", 0),
                number("limit", DEFAULT_LIMIT),
                &|upid| may_see(&access, &caller, node, upid),
            )
            .map_err(|error| {
                ApiError::plain(format!("unable to read task list - {}", pve_schema::errno_text(&error)))
            })?;
        let rows = Value::from_iter(found.entries.iter().map(listed));
        Ok::<_, ApiError>(Reply::page(rows, found.total))
    })
    .await
}

fn filter(call: &Call) -> Result<Filter, ApiError> {
    let text = |name: &str| {
        call.params
            .text(name)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    Ok(Filter {
        user: text("userfilter"),
        worker_type: text("typefilter"),
        id: text("vmid"),
        since: call.params.integer("since"),
        until: call.params.integer("until"),
        classes: classes(call.params.is_set("errors"), call.params.text("statusfilter"))?,
    })
}

/// The kinds of end that are wanted: `errors` overrides the list.
fn classes(errors: bool, words: Option<&str>) -> Result<Option<Vec<Class>>, ApiError> {
    if errors {
        return Ok(Some(vec![Class::Warning, Class::Error, Class::Unknown]));
    }
    let Some(words) = words else { return Ok(None) };
    let classes: Result<Vec<Class>, ApiError> = split(words)
        .into_iter()
        .map(|word| {
            Class::from_word(word).ok_or_else(|| {
                ApiError::parameter("statusfilter", format!("invalid format - invalid status '{word}'\n"))
            })
        })
        .collect();
    Ok(Some(classes?).filter(|classes| !classes.is_empty()))
}

/// A row of the list. One that runs says so, and tells its user in full.
fn listed(entry: &Entry) -> Map<String, Value> {
    match &entry.endtime {
        Some(endtime) => {
            let mut row = row(&entry.upid, true);
            row.insert("endtime".to_owned(), (*endtime).into());
            if let Some(status) = &entry.status {
                row.insert("status".to_owned(), status.clone().into());
            }
            row
        }
        None if entry.saved => row(&entry.upid, true),
        None => {
            let mut row = row(&entry.upid, false);
            row.insert("status".to_owned(), "RUNNING".into());
            row.insert("saved".to_owned(), "0".into());
            row
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_end() {
        assert_eq!(classes(false, None).unwrap(), None);
        assert_eq!(classes(false, Some("")).unwrap(), None);
        assert_eq!(
            classes(false, Some("OK,Warning")).unwrap(),
            Some(vec![Class::Ok, Class::Warning])
        );
        assert_eq!(classes(true, Some("ok")).unwrap().unwrap().len(), 3);
        let error = classes(false, Some("x")).unwrap_err();
        assert_eq!(error.errors["statusfilter"], "invalid format - invalid status 'x'\n");
    }
}
