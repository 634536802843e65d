//! Calls of another node's methods, through its `pveproxy`, with a token.

use std::time::Duration;

use http::{Request, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pve_contract::{Method, Verb};
use pve_fetch::{Client, FetchError, Settings, Trust};
use pve_rest::ApiError;
use pve_schema::ParamErrors;
use serde_json::{Map, Value};

use super::connect::Target;

/// How long a method may take to answer: some look at storages that are slow.
const DEADLINE: Duration = Duration::from_secs(300);
/// The largest answer that is taken, in bytes: logs may be long.
const LARGEST: u64 = 256 << 20;

/// Everything that has a meaning in a path or a query is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Another node.
#[derive(Debug)]
pub(crate) struct Remote {
    client: Client,
    base: String,
    server: String,
    authorization: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// Nothing was answered.
    #[error("{0}{hint}", hint = hint(.0))]
    Fetch(#[from] FetchError),
    /// Nothing that the API answers.
    #[error("{0} does not answer as the API does - is it pveproxy?")]
    NoApi(String),
    /// No such path in an address.
    #[error("the path cannot be asked for")]
    Path,
}

/// What helps with a certificate that is not known.
fn hint(error: &FetchError) -> &'static str {
    match error {
        FetchError::Connect { reason, .. } if reason.contains("certificate") => {
            "\nIf that is the right node: --ca-file FILE with its /etc/pve/pve-root-ca.pem, or --fingerprint with the SHA-256 of \
             its certificate"
        }
        _ => "",
    }
}

/// What was answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Data.
    Data(Value),
    /// A file.
    File(Vec<u8>),
}

impl Remote {
    pub(crate) fn new(target: Target) -> Result<Self, RemoteError> {
        let client = Client::new(&Settings {
            deadline: DEADLINE,
            largest: LARGEST,
            proxy: None,
            trust: target.trust.clone(),
        })?;
        if target.trust == Trust::Anybody {
            eprintln!(
                "warning: --insecure: whoever answers for {} gets the token",
                target.server
            );
        }
        Ok(Self {
            client,
            authorization: format!("PVEAPIToken={}", target.token),
            base: target.base,
            server: target.server,
        })
    }

    /// Calls a method.
    ///
    /// # Errors
    /// `Ok(Err(_))` is the method's refusal.
    pub(crate) fn call(
        &self,
        method: &'static Method,
        path: &str,
        params: &Map<String, Value>,
    ) -> Result<Result<Answer, ApiError>, RemoteError> {
        self.call_within(DEADLINE, method, path, params)
    }

    /// As [`Remote::call`], of a method that must answer sooner.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub(crate) fn call_within(
        &self,
        deadline: Duration,
        method: &'static Method,
        path: &str,
        params: &Map<String, Value>,
    ) -> Result<Result<Answer, ApiError>, RemoteError> {
        let is_read = matches!(method.verb, Verb::Get | Verb::Delete);
        let form = form(params);
        let mut address = format!("{}/api2/json{}", self.base, encoded_path(path));
        if is_read && !form.is_empty() {
            address = format!("{address}?{form}");
        }
        let mut request = Request::builder()
            .method(method.verb.as_str())
            .uri(address)
            .header(header::AUTHORIZATION, &self.authorization);
        if !is_read {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let body = if is_read { Vec::new() } else { form.into_bytes() };
        let request = request.body(body).map_err(|_| RemoteError::Path)?;
        let (head, body) = self.client.send_within(request, deadline)?.into_parts();
        let status = head.status.as_u16();
        let kind = head
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
        if status == 200 && !is_json {
            // Any web server has a page for whoever asks.
            return match method.download_allowed {
                true => Ok(Ok(Answer::File(body))),
                false => Err(self.no_api()),
            };
        }
        let envelope = serde_json::from_slice::<Value>(&body).ok().filter(Value::is_object);
        match (status, envelope) {
            (200, Some(mut envelope)) => Ok(Ok(Answer::Data(envelope["data"].take()))),
            (200, None) => Err(self.no_api()),
            (_, envelope) => Ok(Err(refusal(status, head.status.canonical_reason(), envelope.as_ref()))),
        }
    }

    /// That an answer is none of the API.
    pub(super) fn no_api(&self) -> RemoteError {
        RemoteError::NoApi(self.server.clone())
    }
}

/// Why a method refused. Some refusals have no body.
fn refusal(status: u16, reason: Option<&str>, envelope: Option<&Value>) -> ApiError {
    let message = envelope.and_then(|envelope| envelope.get("message")?.as_str());
    let errors = envelope.and_then(|envelope| envelope.get("errors")?.as_object());
    let errors: ParamErrors = errors
        .into_iter()
        .flatten()
        .map(|(name, text)| (name.clone(), text.as_str().unwrap_or_default().to_owned()))
        .collect();
    let mut error = ApiError::status(status, message.or(reason).unwrap_or("no reason given"));
    error.errors = errors;
    error
}

/// The path with everything encoded that is no name.
fn encoded_path(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts
        .map(|part| format!("/{}", utf8_percent_encode(part, ENCODED)))
        .collect()
}

/// Parameters as a form.
fn form(params: &Map<String, Value>) -> String {
    let mut pairs = Vec::new();
    for (name, value) in params {
        let values = match value {
            Value::Array(values) => values.iter().collect(),
            value => vec![value],
        };
        for value in values {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
            pairs.push(format!("{}={}", encoded(name), encoded(&text)));
        }
    }
    pairs.join("&")
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use pve_contract::route;
    use serde_json::json;

    use super::*;

    /// What a server answers: status, type, body.
    pub(in super::super) type Told = (u16, &'static str, &'static str);

    /// What the API answers with.
    pub(in super::super) const JSON: &str = "application/json;charset=UTF-8";

    /// A server that answers so, in this order, each on a connection of its own; and the first lines of what it was asked.
    pub(in super::super) fn server(answers: Vec<Told>) -> (Remote, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let (asks, asked) = channel();
        std::thread::spawn(move || {
            for (status, kind, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut lines = Vec::new();
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let line = line.trim_end().to_ascii_lowercase();
                    if let Some(text) = line.strip_prefix("content-length: ") {
                        length = text.parse().unwrap();
                    }
                    if line.is_empty() {
                        break;
                    }
                    lines.push(line);
                }
                reader.read_exact(&mut vec![0; length]).unwrap();
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n");
                let text = format!("{head}connection: close\r\n\r\n{body}");
                asks.send(lines.swap_remove(0)).unwrap();
                stream.write_all(text.as_bytes()).unwrap();
            }
        });
        let remote = Remote::new(Target {
            base: format!("http://{server}"),
            server,
            token: "root@pam!t=s".to_owned(),
            trust: Trust::System,
        });
        (remote.unwrap(), asked)
    }

    /// What a call of a method comes to, as a text.
    fn call(verb: Verb, path: &str, told: Told) -> String {
        let (remote, _asked) = server(vec![told]);
        let method = route(verb, path).unwrap().method;
        let answer = remote.call(method, path, &Map::new());
        match answer {
            Ok(Ok(Answer::Data(data))) => data.to_string(),
            Ok(Ok(Answer::File(bytes))) => format!("file {}", String::from_utf8(bytes).unwrap()),
            Ok(Err(error)) => format!("{} {}", error.status, error.message),
            Err(error) => error.to_string().split_once(' ').unwrap().1.to_owned(),
        }
    }

    #[test]
    fn an_answer_that_is_none_of_the_api_is_no_success() {
        let start = "/nodes/n1/qemu/100/status/start";
        let log = "/nodes/n1/tasks/UPID:n1:00000001:00000001:00000001:qmstart:100:root@pam:/log";
        let no_api = "does not answer as the API does - is it pveproxy?";
        let page = "<html>login</html>";
        for (verb, path, told, expected) in [
            (Verb::Post, start, (200, JSON, "{\"data\":\"UPID\"}"), "\"UPID\""),
            (Verb::Post, start, (200, "text/html", page), no_api),
            (Verb::Get, "/version", (200, "text/html", page), no_api),
            (Verb::Get, "/version", (200, JSON, "[]"), no_api),
            (Verb::Get, "/version", (596, "text/html", ""), "596 no reason given"),
            // This method may be asked for a file.
            (Verb::Get, log, (200, "text/plain", "line"), "file line"),
        ] {
            assert_eq!(call(verb, path, told), expected, "{path} {told:?}");
        }
    }

    #[test]
    fn paths_and_forms_are_encoded() {
        assert_eq!(encoded_path("/"), "");
        assert_eq!(encoded_path("//nodes/n1/"), "/nodes/n1");
        assert_eq!(
            encoded_path("/nodes/n1/storage/local/content/local:iso%a b"),
            "/nodes/n1/storage/local/content/local%3Aiso%25a%20b"
        );
        let params = json!({"net0": "virtio,bridge=vmbr0", "command": ["a b", "c&d"], "n": 1});
        assert_eq!(
            form(params.as_object().unwrap()),
            "command=a%20b&command=c%26d&n=1&net0=virtio%2Cbridge%3Dvmbr0"
        );
    }

    #[test]
    fn refusals_tell_what_the_other_node_told() {
        let envelope =
            json!({"data": null, "message": "Parameter verification failed.\n", "errors": {"vmid": "bad\n"}});
        let error = refusal(400, Some("Bad Request"), Some(&envelope));
        assert_eq!(
            (error.status, error.message.as_str()),
            (400, "Parameter verification failed.\n")
        );
        assert_eq!(error.errors["vmid"], "bad\n");
        let error = refusal(401, Some("Unauthorized"), Some(&json!({"data": null})));
        assert_eq!(error.message, "Unauthorized");
        assert_eq!(refusal(599, None, None).message, "no reason given");
    }
}
