//! The path of a request, from its head to its answer, as one list.
//!
//! The order is client-visible (reference 01 §3.2): method, transfer encoding, redirect, real address, place,
//! authentication, body, handler, format. A refusal at any step ends it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::header::{ACCEPT_ENCODING, HOST, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pve_contract::Verb;
use pve_rest::call::Client;
use pve_rest::{Admitted, ApiError, Endpoint, ForwardTo, Outcome, Reply, RequestHead, Role};
use pve_schema::decode;

use crate::access_log::Entry;
use crate::answer::{Answer, Body, Payload, Terms};
use crate::counters::{self, Handled, InFlight};
use crate::files;
use crate::format::Format;
use crate::forward;
use crate::head::{self, Place};
use crate::html::{self, Page};
use crate::index::{self, Visit};
use crate::metrics;
use crate::openapi;
use crate::params::{self, Encoding, Input};
use crate::refusal::Refusal;
use crate::server::bodies::Room;
use crate::server::{Connection, Shared};
use crate::transport::Transport;
use crate::upload::{self, SpoolFile};
use crate::websocket::{self, Backend};

/// Tells our proxy the status of an answer whose format always says 200: it decides about the spooled file.
pub(crate) const INNER_STATUS: &str = "pveapistatus";

/// Answers one request.
///
/// # Errors
/// There is nobody to answer: the connection is closed without a word.
pub(crate) async fn serve(connection: Arc<Connection>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let started = Instant::now();
    let shared = Arc::clone(&connection.shared);
    let flight = InFlight::new(head::verb(&request).ok());
    let keep_alive = connection.spend() && head::wants_keep_alive(&request);
    let accept_encoding = shared.accept_encoding(request.headers());
    let wordless = request.version() == Version::HTTP_2;
    let log = shared.config.access_log.clone();
    let mut entry = Entry::new(log, connection.peer.ip().to_string(), head::request_line(&request));
    let answer = match connection.answer(request, &mut entry, started).await {
        Ok(answer) => answer,
        Err(Refusal::Vanished(reason)) => {
            entry.problem = reason;
            return Err(Refusal::Vanished(reason));
        }
        Err(refusal) => refusal.into(),
    };
    let answer = answer.packed(accept_encoding.as_deref()).await;
    connection.be_patient(answer.patient);
    let now = shared.pipeline.context.now();
    let (response, length) = answer.finish(&Terms {
        keep_alive: keep_alive && !connection.is_draining(),
        accept_encoding: accept_encoding.as_deref(),
        wordless,
        now,
    });
    entry.write(now, response.status().as_u16(), length);
    counters::took(entry.handled, started.elapsed());
    flight.answered(response.status());
    Ok(response)
}

impl Connection {
    /// The list.
    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        entry: &mut Entry,
        started: Instant,
    ) -> Result<Answer, Refusal> {
        let verb = head::verb(&request)?;
        head::check_transfer_encoding(request.headers())?;
        head::check_size(request.headers())?;
        if self.plain_on_tls {
            return redirect_to_tls(&request, verb);
        }
        self.note_real_ip(request.headers(), entry);
        match head::place(request.uri().path()) {
            Place::Start if verb == Verb::Get && self.shared.pipeline.role == Role::Web => {
                let head = self.request_head(&request, verb, String::new());
                let visit = Visit::new(request.uri().query().unwrap_or_default(), request.headers());
                let shared = &self.shared;
                Ok(Box::pin(index::answer(
                    &shared.pipeline,
                    shared.config.files.as_ref(),
                    head,
                    visit,
                ))
                .await)
            }
            Place::Start => Err(Refusal::NoSuchFile("/".to_owned())),
            Place::Description if verb == Verb::Get => {
                let accepted = self.shared.accept_encoding(request.headers());
                openapi::description(accepted.as_deref())
            }
            Place::Metrics if verb == Verb::Get && self.shared.pipeline.role == Role::Web => {
                let head = self.request_head(&request, verb, String::new());
                self.metrics(request.headers(), head, entry, started).await
            }
            Place::Description | Place::Metrics => Err(Refusal::NoSuchUri),
            Place::File(path) => match &self.shared.config.files {
                Some(files) if verb == Verb::Get => {
                    let accepted = self.shared.accept_encoding(request.headers());
                    files::answer(files, path, request.headers(), accepted.as_deref()).await
                }
                _ => Err(Refusal::NoSuchFile(path)),
            },
            Place::NoCall => Err(Refusal::NoSuchUri),
            Place::Api { format, path } => {
                let head = self.request_head(&request, verb, path);
                self.call(request, head, &format, entry, started).await
            }
        }
    }

    /// A call of the API: who is it, what is in the body, run it, format what came out.
    async fn call(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        head: RequestHead,
        format_name: &str,
        entry: &mut Entry,
        started: Instant,
    ) -> Result<Answer, Refusal> {
        let admitted = match self.shared.pipeline.authenticate(head).await {
            Ok(admitted) => admitted,
            Err(error) => return Ok(self.stranger(&error, format_name, entry, started).await),
        };
        entry.caller.clone_from(&admitted.caller);
        // The root side gets an upload as an ordinary call that names the spooled file.
        let is_upload = admitted.upload && self.shared.pipeline.role == Role::Web;
        let format = Format::named(format_name).ok_or_else(|| Refusal::NoFormatter {
            uri: admitted.head.path.clone(),
            format: format_name.to_owned(),
        })?;
        let page = (format == Format::Html).then(|| Page::new(&self.shared.pipeline, &admitted));
        if let Some(page) = page.as_ref().filter(|page| page.is_login())
            && head::is_from_another_site(request.headers())
        {
            return Ok(page.error(&ApiError::status(403, html::FOREIGN_LOGIN)));
        }
        let wants_websocket =
            admitted.head.verb == Verb::Get && websocket::is_wanted(&admitted.head.path, request.headers());
        let upgrade = wants_websocket.then(|| hyper::upgrade::on(&mut request));
        let target = head::target(&request).to_owned();
        let (parts, body) = request.into_parts();
        let room = match &admitted.caller {
            Some(caller) if !is_upload => {
                let length = params::longest(&parts.headers, &body).min(params::MAX_BODY);
                self.shared.bodies.room(caller, length).await?
            }
            _ => None,
        };
        let (input, spool) = if is_upload {
            Box::pin(self.upload(&parts, body)).await?
        } else {
            (self.parameters(&parts, &admitted, body).await?, None)
        };
        let job = Job {
            admitted,
            target,
            input,
            spool,
            accept_encoding: self.shared.accept_encoding(&parts.headers),
            _room: room,
        };
        let shared = Arc::clone(&self.shared);
        // A client that hangs up does not stop a change half-way.
        let executed = self.detached(async move { job.execute(&shared).await }).await;
        let executed = executed.map(|(executed, handled)| {
            entry.handled = handled;
            executed
        });
        let mut answer = match executed {
            None => format.error(&ApiError::plain("internal error: the request's worker died")),
            Some(Executed::Elsewhere(answer)) => answer,
            Some(Executed::Failed(error)) => self.failed(format, page.as_ref(), &error, started).await,
            Some(Executed::Here(reply)) => match (reply.websocket.clone(), upgrade) {
                (Some(endpoint), Some(upgrade)) => Box::pin(self.switch(&parts.headers, &endpoint, upgrade)).await?,
                _ => replied(format, page.as_ref(), reply),
            },
        };
        answer.close |= is_upload;
        Ok(answer)
    }

    /// What is known before the body.
    fn request_head(&self, request: &Request<Incoming>, verb: Verb, path: String) -> RequestHead {
        let headers = request.headers();
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let trusted = self.shared.config.trusted;
        let reported = head::reported_client(headers).filter(|_| trusted);
        RequestHead {
            verb,
            path,
            credentials: head::credentials(headers),
            csrf: text("CSRFPreventionToken"),
            client: Client {
                address: Some(reported.unwrap_or(self.peer.ip())),
                host: head::host(headers).map(ToOwned::to_owned),
                ..Client::default()
            },
            proxied: headers.contains_key("PVEDisableProxy"),
            request_id: text(crate::REQUEST_ID)
                .filter(|_| trusted)
                .unwrap_or_else(request_id)
                .into(),
        }
    }

    /// The parameters of an ordinary call.
    async fn parameters(&self, parts: &Parts, admitted: &Admitted, body: Incoming) -> Result<Input, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        let terms = params::Terms {
            limit: match admitted.caller {
                Some(_) => params::MAX_BODY,
                None => params::MAX_STRANGERS_BODY,
            },
            idle: self.shared.config.limits.idle,
        };
        self.place.waits_for_stranger();
        let input = params::read(admitted.head.verb, query, &parts.headers, body, &terms).await;
        self.place.works();
        input
    }

    /// The parameters of an upload, and its file.
    async fn upload(&self, parts: &Parts, body: Incoming) -> Result<(Input, Option<SpoolFile>), Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        let idle = self.shared.config.limits.idle;
        let site = &self.shared.pipeline.context.site;
        let upload = upload::receive(site, &decode::form(query), &parts.headers, body, idle).await?;
        Ok((Input::new(query, upload.params, Encoding::Form), upload.spool))
    }

    /// Connects the endpoint and lets the client's bytes through to it.
    async fn switch(
        self: &Arc<Self>,
        headers: &HeaderMap,
        endpoint: &Endpoint,
        upgrade: hyper::upgrade::OnUpgrade,
    ) -> Result<Answer, Refusal> {
        let answer = websocket::handshake(headers)?;
        let address = self.shared.pipeline.context.site.address;
        let backend = Backend::connect(endpoint, address).await?;
        let connection = Arc::clone(self);
        tokio::spawn(async move {
            // Keeps the connection's slot taken and the draining worker alive.
            let (connection, _counted) = (connection, counters::websocket());
            let Ok(upgraded) = upgrade.await else { return };
            connection.place.works();
            if let Ok(parts) = upgraded.downcast::<TokioIo<Transport>>() {
                let client = parts.io.into_inner().without_stall_limit();
                websocket::relay(client, parts.read_buf, backend).await;
            }
        });
        Ok(answer)
    }

    /// A failed call: who has to guess is told late, and a proxy is told the status that the format hides.
    async fn failed(&self, format: Format, page: Option<&Page>, error: &ApiError, started: Instant) -> Answer {
        if error.status == 401 {
            counters::login_failed();
            self.delay_until(started).await;
        }
        let mut answer = page.map_or_else(|| format.error(error), |page| page.error(error));
        if self.shared.config.trusted && answer.status == StatusCode::OK {
            let name = HeaderName::from_static(INNER_STATUS);
            answer.headers.insert(name, HeaderValue::from(error.status));
        }
        answer
    }

    /// Tells somebody we do not know so, late.
    async fn stranger(&self, error: &ApiError, format_name: &str, entry: &mut Entry, started: Instant) -> Answer {
        entry.handled = Handled::Refused;
        counters::refused();
        self.delay_until(started).await;
        stranger(error, format_name)
    }

    /// The metrics of all daemons, for whoever may see how the node is.
    async fn metrics(
        &self,
        headers: &HeaderMap,
        head: RequestHead,
        entry: &mut Entry,
        started: Instant,
    ) -> Result<Answer, Refusal> {
        let pipeline = &self.shared.pipeline;
        let caller = match pipeline.identify(&head).await {
            Ok(caller) => caller,
            Err(error) => return Ok(self.stranger(&error, "text", entry, started).await),
        };
        entry.caller = Some(caller.clone());
        let node = format!("/nodes/{}", pipeline.context.site.node);
        if let Err(error) = pipeline.require(&caller, &node, "Sys.Audit") {
            return Ok(Answer::bare(error.status, &error.message));
        }
        Ok(metrics::answer(&pipeline.context, headers).await)
    }

    /// Waits until a refusal may be told.
    async fn delay_until(&self, started: Instant) {
        let delay = self.shared.config.limits.refusal_delay;
        tokio::time::sleep_until((started + delay).into()).await;
    }

    /// Shows the address that a reverse proxy reports in the access log, if it may.
    fn note_real_ip(&self, headers: &HeaderMap, entry: &mut Entry) {
        let Some(real_ip) = &self.shared.config.real_ip else {
            return;
        };
        let value = headers.get(&real_ip.header).and_then(|value| value.to_str().ok());
        if let Some(shown) = value.and_then(|value| (real_ip.accept)(self.peer.ip(), value)) {
            entry.address = shown;
        }
    }
}

impl Shared {
    /// The client's `Accept-Encoding`, if there is compression.
    fn accept_encoding(&self, headers: &HeaderMap) -> Option<String> {
        let wanted = self.config.compression && headers.contains_key(ACCEPT_ENCODING);
        wanted.then(|| head::joined(headers, &ACCEPT_ENCODING))
    }
}

/// A request that is ready to run.
struct Job {
    admitted: Admitted,
    target: String,
    input: Input,
    spool: Option<SpoolFile>,
    accept_encoding: Option<String>,
    /// Taken until the call has ended, for its body.
    _room: Option<Room>,
}

/// What came of it.
enum Executed {
    Here(Reply),
    Failed(ApiError),
    Elsewhere(Answer),
}

impl Job {
    async fn execute(mut self, shared: &Shared) -> (Executed, Handled) {
        let params = std::mem::take(&mut self.input.merged);
        let (executed, handled) = match shared.pipeline.dispatch(&self.admitted, params).await {
            Outcome::Reply(reply) => (Executed::Here(reply), Handled::Here),
            Outcome::Error(error) => (Executed::Failed(error), Handled::Here),
            Outcome::Forward(to) => {
                let handled = match to {
                    ForwardTo::Daemon => Handled::Daemon,
                    ForwardTo::Node(_) => Handled::Node,
                };
                // Boxed as the other ways that few requests take: their state would be part of every request's, and
                // moved about with it.
                (Box::pin(self.forward(shared, &to)).await.into(), handled)
            }
        };
        if let Some(spool) = self.spool
            && executed.is_success()
        {
            spool.hand_over();
        }
        (executed, handled)
    }

    async fn forward(&self, shared: &Shared, to: &ForwardTo) -> Result<Answer, ApiError> {
        let call = forward::Call {
            head: &self.admitted.head,
            target: &self.target,
            input: &self.input,
            accept_encoding: self.accept_encoding.as_deref(),
        };
        match to {
            ForwardTo::Daemon => shared.forwarder.call(&call).await,
            ForwardTo::Node(node) => shared.forwarder.call_node(node, &call).await,
        }
    }
}

impl From<Result<Answer, ApiError>> for Executed {
    fn from(forwarded: Result<Answer, ApiError>) -> Self {
        match forwarded {
            Ok(answer) => Self::Elsewhere(answer),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Executed {
    /// Whether the handler did what it was asked; takes the inner status off on the way.
    fn is_success(&self) -> bool {
        match self {
            Self::Here(_) => true,
            Self::Failed(_) => false,
            Self::Elsewhere(answer) => answer.status == StatusCode::OK && !answer.hides_failure,
        }
    }
}

fn replied(format: Format, page: Option<&Page>, reply: Reply) -> Answer {
    match (reply, page) {
        (
            Reply {
                download: Some(download),
                ..
            },
            _,
        ) => download.into(),
        (reply, Some(page)) => page.reply(&reply.settled().data),
        (reply, None) => format.reply(reply),
    }
}

/// Nobody we know: status and reason only. The HTML format sends people to its login form.
fn stranger(error: &ApiError, format_name: &str) -> Answer {
    if format_name == "html" && error.status == 401 {
        return Answer::redirect(StatusCode::MOVED_PERMANENTLY, "Moved", "/api2/html/access/ticket");
    }
    let mut answer = Answer::bare(error.status, &error.message);
    answer.close = true;
    answer
}

/// Sends a plain-HTTP client to the same place by HTTPS (reference 01 §3.3).
fn redirect_to_tls(request: &Request<Incoming>, verb: Verb) -> Result<Answer, Refusal> {
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .ok_or(Refusal::NoHost)?;
    let host = host
        .strip_prefix("https://")
        .or_else(|| host.strip_prefix("http://"))
        .unwrap_or(host);
    let (status, text) = match verb {
        Verb::Get => (StatusCode::MOVED_PERMANENTLY, "Moved Permanently"),
        _ => (StatusCode::PERMANENT_REDIRECT, "Permanent Redirect"),
    };
    let location = format!("https://{host}{}", head::target(request));
    let mut answer = Answer::redirect(status, text, &location).with_body(Payload::Whole(text.into()));
    answer.close = true;
    if answer.headers.contains_key(LOCATION) {
        Ok(answer)
    } else {
        Err(Refusal::NoHost)
    }
}

/// An id that no other request has: a number that each worker draws by lot for its first one, and counts up. Drawn for
/// every request it would be one more call of the kernel.
fn request_id() -> String {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
        let mut random = [0_u8; 8];
        // Without randomness the ids are of less use, not harmful.
        let _ = getrandom::fill(&mut random);
        AtomicU64::new(u64::from_ne_bytes(random))
    });
    format!("{:016x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
