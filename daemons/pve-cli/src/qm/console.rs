//! Verbs that connect standard input and output to a VM (reference 06b §13). Other nodes of a cluster call them by ssh;
//! `terminal` is for people, too.

use pve_node::console::stdio;
use pve_qemu::config::VmConfig;
use pve_qemu::console::{serial, vnc};
use pve_qemu::error::VmError;
use pve_qemu::{files, power};
use pve_rest::ApiError;
use pve_schema::Context;
use pve_schema::ids::VmId;
use pve_schema::schema::{Kind, Parameter, Schema};
use serde_json::{Map, Value};

use super::error::QmError;
use super::state::{VMID, vmid};
use crate::api::{CallError, Local, Shown, parameter};
use crate::output::Style;

pub(super) const TERMINAL: &[Parameter] = &[
    parameter("escape", &ESCAPE),
    parameter("iface", &IFACE),
    parameter("vmid", &VMID),
];

/// The key that ends it.
static ESCAPE: Schema = Schema {
    optional: true,
    default: Some(DEFAULT_ESCAPE),
    ..Schema::of(Kind::String)
};

static IFACE: Schema = Schema {
    optional: true,
    words: &["serial0", "serial1", "serial2", "serial3"],
    ..Schema::of(Kind::String)
};

/// What ends a terminal unless another key is chosen.
const DEFAULT_ESCAPE: &str = "^O";

/// What ends a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Escape {
    key: Option<u8>,
    name: String,
}

/// `^X` is the control character, `0` none.
fn parse_escape(text: &str) -> Option<Escape> {
    let key = match text.as_bytes() {
        b"0" => None,
        // Letters and @ [ \ ] ^ _ have one.
        [b'^', key] if matches!(key.to_ascii_uppercase(), b'@'..=b'_') => Some(key.to_ascii_uppercase() & 0x1f),
        _ => return None,
    };
    Some(Escape {
        key,
        name: text.to_owned(),
    })
}

pub(super) fn terminal(local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    let escape = parse_escape(text("escape").unwrap_or(DEFAULT_ESCAPE))
        .ok_or_else(|| ApiError::parameter("escape", "neither 0 nor ^ and a character"))?;
    let vmid = vmid(&params)?;
    connect_terminal(local.context(), vmid, text("iface"), &escape).map_err(ApiError::from)?;
    Ok(Shown::Text(String::new()))
}

fn connect_terminal(context: &Context, vmid: VmId, iface: Option<&str>, escape: &Escape) -> Result<(), QmError> {
    let config = files::load(context, vmid)?;
    let asked = iface.and_then(|name| name.strip_prefix("serial")?.parse().ok());
    let number = match (serial::choose(VmConfig::new(&config.main), asked), asked) {
        (Some(number), _) => number,
        (None, Some(asked)) => return Err(QmError::NotConfigured(asked)),
        (None, None) => return Err(VmError::NoSerial.into()),
    };
    power::check_running(context, vmid)?;
    let port = serial::connect(&context.site, vmid, number).map_err(|error| QmError::Connect { number, error })?;
    if escape.key.is_some() {
        let key = escape.name.replace('^', "Ctrl+");
        eprintln!("starting serial terminal on interface serial{number} (press {key} to exit)\r");
    }
    Ok(stdio::run(port, escape.key)?)
}

pub(super) fn vnc_proxy(local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    connect_display(local.context(), vmid(&params)?).map_err(ApiError::from)?;
    Ok(Shown::Text(String::new()))
}

fn connect_display(context: &Context, vmid: VmId) -> Result<(), QmError> {
    let password = std::env::var(vnc::PASSWORD_VARIABLE).map_err(|_| QmError::NoPassword)?;
    // That this node has the VM.
    files::load(context, vmid)?;
    let display = vnc::connect(&context.site, vmid, &password)?;
    Ok(stdio::run(display, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_characters_are_control_characters() {
        let key = |text| parse_escape(text).map(|escape| escape.key);
        assert_eq!(key("^O"), Some(Some(0x0f)));
        assert_eq!(key("^]"), Some(Some(0x1d)));
        assert_eq!(key("^o"), Some(Some(0x0f)));
        assert_eq!(key("0"), Some(None));
        for text in ["", "^", "^1", "x", "-1"] {
            assert!(key(text).is_none(), "{text}");
        }
    }
}
