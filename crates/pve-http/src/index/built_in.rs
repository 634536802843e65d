//! The page where no web interface is installed: what this is, how to talk to it, and where an interface would be looked
//! for.

use bytes::Bytes;
use http::StatusCode;

use crate::answer::{Answer, Payload};

/// The page; it tells nothing that is not public.
///
/// `missing` is what the visitor wanted, and `directory` where its template would be, below `/usr/share`.
pub(super) fn page(host: Option<&str>, missing: &str, directory: &str) -> Answer {
    // A host is a name, an address and a port: whatever else a client claims is not put on a page.
    let fits =
        |host: &&str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    let host = host.filter(fits).unwrap_or("HOST:8006");
    let version = env!("CARGO_PKG_VERSION");
    let release = pve_contract::RELEASE;
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>Virtual environment API</title>\n</head>\n<body>\n\
         <h1>Virtual environment API</h1>\n<p>pveproxy {version}: the API of release {release} is at <code>/api2/json</code>.</p>\n\
         <p>Log in for a ticket:</p>\n\
         <pre>read -rsp 'Password: ' PASSWORD\n\
         printf %s \"$PASSWORD\" | curl -k -d username=root@pam --data-urlencode password@- \
         https://{host}/api2/json/access/ticket</pre>\n\
         <p>Send the ticket as the cookie <code>PVEAuthCookie</code>, percent-encoded, and with every request that\n\
         changes something the token as the header <code>CSRFPreventionToken</code>.</p>\n\
         <h2>To look around</h2>\n<ul>\n\
         <li><a href=\"/api2/html\">The API as pages</a></li>\n\
         <li><a href=\"/api2/openapi.json\">Its description for machines</a> (OpenAPI)</li>\n</ul>\n\
         <h2>A web interface</h2>\n<p>Here would be {missing}, if it were installed: its page is\n\
         <code>/usr/share/{directory}/index.html.tpl</code>, and what belongs to it is served when pveproxy is reloaded.\n\
         </p>\n</body>\n</html>\n"
    );
    Answer::new(StatusCode::OK, "")
        .with_type("text/html; charset=utf-8")
        .with_body(Payload::Whole(Bytes::from(page)))
}
