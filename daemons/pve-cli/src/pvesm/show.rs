//! How lists are printed – as people's scripts read them –, and verbs that no method has.

use pve_rest::ApiError;
use pve_schema::ids::VolumeId;
use pve_schema::schema::{Kind, Parameter, Schema};
use pve_storage::Storages;
use serde_json::{Map, Value};

use crate::api::{CallError, Local, Shown, for_people, parameter};
use crate::output::Style;

static VOLUME: Schema = Schema::of(Kind::String);

pub(super) const PATH: &[Parameter] = &[parameter("volume", &VOLUME)];

/// Fewest characters of a storage's name in a table.
const NAME_WIDTH: usize = 10;

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(row: &Value, key: &str) -> Option<u64> {
    row.get(key).and_then(Value::as_u64)
}

fn is_set(row: &Value, key: &str) -> bool {
    number(row, key).is_some_and(|value| value != 0)
}

/// Rows of a list, sorted by the text of a column; and the length of the longest of these.
fn sorted<'a>(data: &'a Value, key: &str, least: usize) -> (Vec<&'a Value>, usize) {
    let mut rows: Vec<&Value> = data.as_array().into_iter().flatten().collect();
    rows.sort_by_key(|row| text(row, key).to_owned());
    let longest = rows.iter().map(|row| text(row, key).chars().count()).max();
    (rows, longest.unwrap_or_default().max(least))
}

/// What a change answers is for programs.
pub(super) fn nothing(data: Value, style: &Style) -> Shown {
    for_people(style, data, |_| String::new())
}

/// A line for each storage, in KiB.
pub(super) fn storages(data: Value, style: &Style) -> Shown {
    for_people(style, data, |data| {
        let (rows, width) = sorted(data, "storage", NAME_WIDTH);
        if rows.is_empty() {
            return String::new();
        }
        let mut lines = String::new();
        if style.header {
            lines.push_str(&format!(
                "{:<width$} {:>10} {:>10} {:>15} {:>15} {:>15} {:>8}\n",
                "Name", "Type", "Status", "Total", "Used", "Available", "%"
            ));
        }
        for row in rows {
            let state = match (is_set(row, "enabled"), is_set(row, "active")) {
                (false, _) => "disabled",
                (true, true) => "active",
                (true, false) => "inactive",
            };
            let total = number(row, "total").unwrap_or_default();
            let kib = |key: &str| match state {
                "disabled" => "N/A".to_owned(),
                _ => (number(row, key).unwrap_or_default() / 1024).to_string(),
            };
            let share = match state {
                "disabled" => "N/A".to_owned(),
                _ => format!("{:.2}%", share(number(row, "used").unwrap_or_default(), total)),
            };
            lines.push_str(&format!(
                "{:<width$} {:>10} {state:>10} {:>15} {:>15} {:>15} {share:>8}\n",
                text(row, "storage"),
                text(row, "type"),
                kib("total"),
                kib("used"),
                kib("avail"),
            ));
        }
        lines
    })
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
fn share(used: u64, total: u64) -> f64 {
    match total {
        0 => 0.0,
        total => used as f64 * 100.0 / total as f64,
    }
}

/// A line for each volume.
pub(super) fn volumes(data: Value, style: &Style) -> Shown {
    for_people(style, data, |data| {
        let (rows, width) = sorted(data, "volid", "Volid".len());
        if rows.is_empty() {
            return String::new();
        }
        let mut lines = String::new();
        if style.header {
            lines.push_str(&format!(
                "{:<width$} {:<7} {:<9} {:>15} VMID\n",
                "Volid", "Format", "Type", "Size"
            ));
        }
        for row in rows {
            let owner = match row.get("vmid") {
                Some(Value::String(vmid)) => vmid.clone(),
                Some(Value::Number(vmid)) => vmid.to_string(),
                _ => String::new(),
            };
            let line = format!(
                "{:<width$} {:<7} {:<9} {:>15} {owner}",
                text(row, "volid"),
                text(row, "format"),
                text(row, "content"),
                number(row, "size").unwrap_or_default(),
            );
            lines.push_str(line.trim_end());
            lines.push('\n');
        }
        lines
    })
}

/// What a new disk is called.
pub(super) fn allocated(data: Value, style: &Style) -> Shown {
    for_people(style, data, |made| {
        format!("successfully created '{}'\n", made.as_str().unwrap_or_default())
    })
}

/// Where a volume is. That it is there is not looked at.
pub(super) fn path(local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    let volume = params.get("volume").and_then(Value::as_str).unwrap_or_default();
    let volume: VolumeId = volume
        .parse()
        .map_err(|error: pve_schema::ids::InvalidVolumeId| ApiError::plain(error.to_string()))?;
    let storages = Storages::open(local.context()).map_err(ApiError::from)?;
    let path = storages.path(&volume).map_err(ApiError::from)?;
    Ok(Shown::Text(format!("{}\n", path.display())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::Screen;

    #[test]
    fn storages_have_the_columns_that_scripts_read() {
        let data = json!([
            {"storage": "local", "type": "dir", "enabled": 1, "active": 1, "total": 102_400, "used": 25_600, "avail": 76_800},
            {"storage": "backups", "type": "nfs", "enabled": 0, "active": 0},
            {"storage": "far", "type": "nfs", "enabled": 1, "active": 0},
        ]);
        let style = Style::new(Screen::default());
        let expected = concat!(
            "Name             Type     Status           Total            Used       Available        %\n",
            "backups           nfs   disabled             N/A             N/A             N/A      N/A\n",
            "far               nfs   inactive               0               0               0    0.00%\n",
            "local             dir     active             100              25              75   25.00%\n",
        );
        assert_eq!(storages(data, &style).into_text(), expected);
        assert_eq!(storages(json!([]), &style).into_text(), "");
    }

    #[test]
    fn volumes_are_a_line_each() {
        let data = json!([
            {"volid": "local:iso/a.iso", "format": "iso", "content": "iso", "size": 10},
            {"volid": "local:100/vm-100-disk-0.qcow2", "format": "qcow2", "content": "images", "size": 4_194_304, "vmid": 100},
        ]);
        let style = Style::new(Screen::default());
        let expected = concat!(
            "Volid                         Format  Type                 Size VMID\n",
            "local:100/vm-100-disk-0.qcow2 qcow2   images            4194304 100\n",
            "local:iso/a.iso               iso     iso                    10\n",
        );
        assert_eq!(volumes(data, &style).into_text(), expected);
    }
}
