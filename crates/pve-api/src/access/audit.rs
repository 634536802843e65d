//! One line in the log per change of users and rights: who, from where, what, and the id of the request.
//!
//! ```text
//! audit: user=alice@pve rhost=192.0.2.7 PUT /access/acl path=/vms/100 roles=PVEVMUser users=bob@pve: ok [request …]
//! ```
//!
//! A change that was refused has a line too, with the reason. Secrets have none: of [`SECRETS`] the name alone is told.

use pve_access::auth_log::quote;
use pve_access::login::printable;
use pve_contract::Verb;
use pve_rest::{ApiError, ApiResult, Call, Reply, blocking};
use pve_schema::Param;

/// Parameters whose values are for nobody's eyes.
const SECRETS: [&str; 10] = [
    "password",
    "confirmation-password",
    "totp",
    "value",
    "challenge",
    "otp",
    "client-key",
    "keys",
    // Holds the key for the server of Yubico codes.
    "tfa",
    // May name user and password of the proxy.
    "http_proxy",
];

/// The most characters of one value that a line holds: enough for any name, too few to fill a log.
const MAX_VALUE: usize = 200;

/// The most characters of a reason: it may hold values again.
const MAX_REASON: usize = 400;

/// Runs a change off the connection's thread and logs it.
pub(crate) async fn change<F>(call: Call, work: F) -> ApiResult
where
    F: FnOnce(&Call) -> Result<Reply, ApiError> + Send + 'static,
{
    blocking(move || {
        let result = work(&call);
        log(&call, result.as_ref().err());
        result
    })
    .await
}

/// Logs a call, if it is one that changes something.
pub(super) fn log(call: &Call, error: Option<&ApiError>) {
    if call.method.verb == Verb::Get {
        return;
    }
    let line = line(call, error);
    let id = &*call.request_id;
    match error {
        None => log::info!(request_id = id; "{line}"),
        Some(_) => log::warn!(request_id = id; "{line}"),
    }
}

/// Logs what a log-in at an identity provider changed of the user that it made out.
pub(super) fn log_arrival(call: &Call, user: &str, changes: &[String]) {
    let line = format!(
        "{} {}: ok",
        head(call, user),
        word(&quote(&changes.join(", "), MAX_REASON))
    );
    let id = &*call.request_id;
    log::info!(request_id = id; "{}", printable(&line));
}

/// Who calls what, and from where.
fn head(call: &Call, user: &str) -> String {
    let rhost = call
        .client
        .address
        .map(|address| address.to_string())
        .unwrap_or_default();
    format!(
        "audit: user={user} rhost={rhost} {} {}",
        call.method.verb, call.method.path
    )
}

fn line(call: &Call, error: Option<&ApiError>) -> String {
    let mut line = head(call, &call.auth_id().to_string());
    for (name, value) in call.params.iter() {
        let shown = match value {
            _ if SECRETS.contains(&name) => "…".to_owned(),
            Param::Text(text) => word(&quote(text, MAX_VALUE)),
            Param::List(_) | Param::Map(_) => "…".to_owned(),
        };
        line.push_str(&format!(" {name}={shown}"));
    }
    match error {
        None => line.push_str(": ok"),
        Some(error) => {
            let mut reason = error.message.trim_end().to_owned();
            for (name, text) in &error.errors {
                reason.push_str(&format!(" ({name}: {text})"));
            }
            line.push_str(&format!(": {} {}", error.status, quote(&reason, MAX_REASON)));
        }
    }
    printable(&line)
}

/// A value as one word of the line: in quotes where a blank in it could be taken for the end, or a quote for such quotes.
fn word(text: &str) -> String {
    if text.contains([' ', '"']) {
        format!("{text:?}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_contract::find;
    use pve_schema::Params;

    #[test]
    fn a_line_tells_all_but_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let context = pve_testing::context(dir.path(), "pve1");
        let text = |text: &str| Param::Text(text.to_owned());
        let params: Params = [
            ("userid".to_owned(), text("bob@pve")),
            ("password".to_owned(), text("S3cret!pw")),
            ("comment".to_owned(), text("two\nlines")),
            ("firstname".to_owned(), text("x groups=admin rhost=6.6.6.6: ok")),
        ]
        .into_iter()
        .collect();
        let call = Call {
            context,
            method: find("/access/users", Verb::Post).unwrap(),
            params,
            caller: Some("alice@pve!ci".parse().unwrap()),
            client: pve_rest::call::Client {
                address: Some("192.0.2.7".parse().unwrap()),
                ..pve_rest::call::Client::default()
            },
            request_id: "r1".into(),
        };
        assert_eq!(
            line(&call, None),
            "audit: user=alice@pve!ci rhost=192.0.2.7 POST /access/users comment=two?lines \
             firstname=\"x groups=admin rhost?6.6.6.6: ok\" password=… userid=bob@pve: ok"
        );
        let long = "x".repeat(500_000);
        let error = ApiError::parameter(
            "userid",
            format!("{long} authentication failure; rhost=6.6.6.6 user=a msg=b"),
        );
        let told = line(&call, Some(&error));
        assert!(told.len() < 700 && told.ends_with("xx…"), "{told}");
        let error = ApiError::parameter("userid", "authentication failure; rhost=6.6.6.6 user=a msg=b");
        let told = line(&call, Some(&error));
        assert!(told.contains("rhost?6.6.6.6"), "nobody else is banned: {told}");
        let error = ApiError::parameter("userid", "no");
        assert!(line(&call, Some(&error)).ends_with(": 400 Parameter verification failed. (userid: no)"));
    }
}
