//! What a SPICE viewer is told (reference 02 §6.5): the answer of every `spiceproxy` and `spiceshell` call. As
//! `/api2/spiceconfig` it is a file that remote-viewer opens.

use std::net::IpAddr;

use pve_access::secret::Secret;
use pve_cfs::Cfs;
use pve_rest::{ApiError, ApiResult, Call};
use serde_json::json;

/// Where spiceproxy listens, on every node.
const PROXY_PORT: u16 = 3128;

/// A SPICE server that waits for a viewer.
pub(super) struct Viewer<'a> {
    /// The window's title.
    pub(super) title: &'a str,
    /// The guest, for the ticket; 0 for a shell on the node.
    pub(super) vmid: u32,
    /// The server's port on this node.
    pub(super) port: u16,
    /// The password that it takes.
    pub(super) password: &'a str,
}

impl Viewer<'_> {
    /// The answer, with a fresh ticket for spiceproxy.
    ///
    /// # Errors
    /// The node's certificate, that of its authority, or the secret behind tickets is missing.
    pub(super) fn answer(&self, call: &Call) -> ApiResult {
        let cfs = Cfs::new(&call.context);
        let node = &call.context.site.node;
        let text = |path: &str| {
            cfs.read_text(path)?
                .ok_or_else(|| ApiError::plain(format!("unable to open '/etc/pve/{path}' - No such file or directory")))
        };
        let certificate = text(&format!("nodes/{node}/pve-ssl.pem"))?;
        let subject = pve_node::subject(certificate.as_bytes()).ok_or_else(|| {
            ApiError::plain(format!(
                "unable to read the subject of '/etc/pve/nodes/{node}/pve-ssl.pem'"
            ))
        })?;
        let authority = text("pve-root-ca.pem")?;
        let ticket = Secret::load(&cfs)?.spice_ticket(self.vmid, node.as_str(), self.port, call.context.now());
        let reply = json!({
            "type": "spice",
            "title": self.title,
            "host": ticket,
            "proxy": format!("http://{}:{PROXY_PORT}", proxy_host(call)),
            "tls-port": self.port,
            "host-subject": subject,
            // A file of KEY=VALUE lines has no other place for line ends.
            "ca": authority.replace('\n', "\\n"),
            "password": self.password,
            "secure-attention": "Ctrl+Alt+Ins",
            "toggle-fullscreen": "Shift+F11",
            "release-cursor": "Ctrl+Alt+R",
            "delete-this-file": 1,
        });
        Ok(reply.into())
    }
}

/// Where the viewer finds spiceproxy: as its user says, who sees the node under some name, else the node's full name.
/// Nobody can resolve the name of a lab's node, so that is its address.
fn proxy_host(call: &Call) -> String {
    let site = &call.context.site;
    let host = match call.params.text("proxy") {
        Some(asked) if !asked.is_empty() => asked.to_owned(),
        _ if site.is_system() => pve_node::full_name(site),
        _ => site.address.to_string(),
    };
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host,
    }
}
