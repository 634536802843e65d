//! Lets one SPICE viewer into a VM (reference 06b §13, "spiceproxy"). QEMU serves SPICE itself; no bytes pass here.

use std::io;

use pve_node::console;
use pve_schema::ids::VmId;
use pve_schema::{Failure, Site};
use serde_json::{Value, json};

use crate::qmp::{Qmp, QmpError};

/// How long the password lasts: the viewer that asked for it connects at once, and nobody else may later.
const PASSWORD_LIFETIME: &str = "+30";

/// What a viewer needs to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The port of the VM's SPICE server on the site's loopback address.
    pub port: u16,
    /// The password that it takes for half a minute.
    pub password: String,
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub enum SpiceError {
    /// The monitor.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The VM has no SPICE server: its display is of another type.
    #[error("no spice port")]
    NoPort,
    /// The system has no random bytes.
    #[error("no random bytes - {0}")]
    Random(io::Error),
}

impl Failure for SpiceError {}

/// Sets a new password at a VM's SPICE server.
///
/// # Errors
/// [`SpiceError`].
pub fn admit(site: &Site, vmid: VmId) -> Result<Admission, SpiceError> {
    let mut qmp = Qmp::new(site, vmid);
    let port = match qmp.execute("query-spice", Value::Null) {
        Ok(answer) => port(&answer).ok_or(SpiceError::NoPort)?,
        // A QEMU whose SPICE parts are not installed.
        Err(error) if error.is_unknown_command() => return Err(SpiceError::NoPort),
        Err(error) => return Err(error.into()),
    };
    let password = console::spice_password().map_err(SpiceError::Random)?;
    qmp.execute("set_password", json!({ "protocol": "spice", "password": password }))?;
    let lifetime = json!({ "protocol": "spice", "time": PASSWORD_LIFETIME });
    qmp.execute("expire_password", lifetime)?;
    Ok(Admission { port, password })
}

/// The port of an answer: the encrypted one goes first.
fn port(answer: &Value) -> Option<u16> {
    let named = |name: &str| u16::try_from(answer.get(name)?.as_u64()?).ok().filter(|port| *port > 0);
    named("tls-port").or_else(|| named("port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encrypted_port_goes_first() {
        for (answer, expected) in [
            (json!({"enabled": true, "tls-port": 61002, "port": 61003}), Some(61002)),
            (json!({"enabled": true, "port": 61003}), Some(61003)),
            (json!({"enabled": true, "tls-port": 0, "port": 61003}), Some(61003)),
            (json!({"enabled": true, "tls-port": 99999}), None),
            (json!({"enabled": false}), None),
        ] {
            assert_eq!(port(&answer), expected, "{answer}");
        }
    }
}
