//! `pvecm`: what this node needs before its daemons can serve (reference 01 §1.10, 04 §7).
//!
//! Not here: making and joining clusters.

use std::fmt::Write as _;

use pve_node::{NodeError, directories, renew_certificate, updatecerts};
use pve_rest::ApiError;
use pve_schema::schema::Parameter;
use serde_json::{Map, Value};

use crate::api::{CallError, Entry, FLAG, Local, Program, Shown, Verb, is_set, parameter};
use crate::output::Style;

/// The tool.
pub(crate) static PROGRAM: Program = Program {
    name: "pvecm",
    about: "What this node needs of keys, certificates and directories.",
    only: None,
    entries: &[Entry::Verb(Verb::own(
        "updatecerts",
        "Make what is missing of directories, keys and certificates",
        UPDATECERTS,
        update,
    ))],
};

const UPDATECERTS: &[Parameter] = &[parameter("force", &FLAG), parameter("silent", &FLAG)];

/// Makes it, and says what it made.
fn update(local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    let is_silent = is_set(&params, "silent");
    let context = local.context();
    let site = &context.site;
    let made = directories::make(site, &directories::OF_SUITE).map_err(ApiError::from)?;
    let report = local.held(|| {
        if is_set(&params, "force") {
            renew_certificate(context)
        } else {
            updatecerts(context)
        }
    });
    let report = match report {
        // A node that starts alone serves what it has.
        Err(NodeError::NoQuorum) if is_silent => return Ok(Shown::Text(String::new())),
        report => report.map_err(ApiError::from)?,
    };
    if is_silent {
        return Ok(Shown::Text(String::new()));
    }
    let mut text = String::new();
    for path in made {
        let _ = writeln!(text, "made directory {}", path.display());
    }
    for rel in &report.created {
        let _ = writeln!(text, "wrote {}", site.etc_pve().join(rel).display());
    }
    if let Some(reason) = &report.renewed {
        let _ = writeln!(
            text,
            "the node's certificate is new: {reason}\npveproxy shows it within five seconds, VMs with SPICE from their next start"
        );
    }
    for stranger in &report.strangers {
        let _ = writeln!(text, "{stranger}");
    }
    if text.is_empty() {
        text.push_str("nothing to do: all directories, keys and certificates are there\n");
    }
    Ok(Shown::Text(text))
}
