//! The way to a server.
//!
//! Every wait ends: looking up a name, connecting and each exchange have the time-out that the file says. Sockets live
//! for one snapshot; a connection over HTTP is used again.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request};
use pve_fetch::{Client, FetchError, Trust};
use pve_schema::errno_text;

use super::config::{Graphite, GraphiteWay, Influx, InfluxWay, Otlp, Server, Settings};
use super::error::SendError;
use super::socket::{Limit, send_at_once, send_datagrams, write_within};
use super::{Origin, otlp};
use crate::snapshot::Snapshot;

/// How much of an answer is read: its text is not looked at.
const MAX_ANSWER: u64 = 1 << 16;
/// A request is three steps of an exchange – connecting, asking, being answered – each of which may take the time-out.
const STEPS: u32 = 3;
/// But together no longer than this, unless the time-out itself is: somebody waits for the test of a connection.
const EXCHANGE: Duration = Duration::from_secs(20);
/// The kinds of sockets as messages name them.
const CARBON: &str = "carbon";
const INFLUXDB: &str = "influxdb";

/// What came of telling a server of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// There was nothing to tell, so it was not asked either.
    Nothing,
    /// It was told all of it.
    All,
    /// So many datagrams found no room on the way out.
    AllBut(usize),
}

/// The way to a server.
pub struct Link {
    server: Server,
    token: Option<String>,
    client: Option<Client>,
}

/// Without secrets.
impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Link")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// The way to a server that is told this secret.
    ///
    /// # Errors
    /// [`SendError::NoAnswer`]: requests cannot be made at all.
    pub fn new(server: Server, token: Option<String>) -> Result<Self, SendError> {
        let client = match &server.settings {
            Settings::Otlp(settings) => Some(client(settings.timeout, settings.verifies)?),
            Settings::Influx(settings) => match &settings.way {
                InfluxWay::Http(http) => Some(client(settings.timeout, http.verifies)?),
                InfluxWay::Udp { .. } => None,
            },
            Settings::Graphite(_) => None,
        };
        Ok(Self { server, token, client })
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Tries whether it can be reached. Of one that is sent datagrams only the name is looked up.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub fn test(&self) -> Result<(), SendError> {
        match &self.server.settings {
            Settings::Graphite(settings) => match settings.way {
                GraphiteWay::Udp { .. } => self.udp(CARBON, settings.timeout).map(drop),
                GraphiteWay::Tcp => self.tcp(settings.timeout).map(drop),
            },
            Settings::Influx(settings) => match &settings.way {
                InfluxWay::Udp { .. } => self.udp(INFLUXDB, settings.timeout).map(drop),
                InfluxWay::Http(http) => {
                    let request = self.influx_request(Method::GET, &http.health_url(), Vec::new())?;
                    self.ask(request, settings.timeout, None)
                }
            },
            Settings::Otlp(settings) => {
                self.ask(otlp_request(settings, otlp::nothing(settings))?, settings.timeout, None)
            }
        }
    }

    /// Tells the server of a snapshot.
    ///
    /// # Errors
    /// It cannot be reached, breaks off or refuses, or the limit is reached. What it was told until then it may keep.
    pub fn send(&self, origin: &Origin, snapshot: &Snapshot, limit: &Limit) -> Result<Told, SendError> {
        let batches = self.server.encode(origin, snapshot);
        match batches.is_empty() {
            true => Ok(Told::Nothing),
            false => self.deliver(batches, limit),
        }
    }

    fn deliver(&self, batches: Vec<Vec<u8>>, limit: &Limit) -> Result<Told, SendError> {
        match &self.server.settings {
            Settings::Graphite(Graphite { way, timeout, .. }) => match way {
                GraphiteWay::Udp { .. } => {
                    send_datagrams(&self.udp(CARBON, limit.step(*timeout)?)?, &batches, *timeout, limit)?;
                }
                GraphiteWay::Tcp => write_within(&self.tcp(limit.step(*timeout)?)?, &batches, *timeout, limit)?,
            },
            Settings::Influx(Influx { way, timeout }) => match way {
                InfluxWay::Udp { .. } => {
                    let lost = send_at_once(&self.udp(INFLUXDB, limit.step(*timeout)?)?, &batches, limit)?;
                    return Ok(if lost == 0 { Told::All } else { Told::AllBut(lost) });
                }
                InfluxWay::Http(http) => {
                    let url = http.write_url();
                    let mut batches = batches.into_iter();
                    batches.try_for_each(|lines| {
                        self.ask(self.influx_request(Method::POST, &url, lines)?, *timeout, Some(limit))
                    })?;
                }
            },
            Settings::Otlp(settings) => {
                let mut bodies = batches.into_iter();
                bodies.try_for_each(|body| self.ask(otlp_request(settings, body)?, settings.timeout, Some(limit)))?;
            }
        }
        Ok(Told::All)
    }

    fn influx_request(&self, method: Method, url: &str, body: Vec<u8>) -> Result<Request<Vec<u8>>, SendError> {
        let mut request = Request::builder().method(method).uri(url);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "text/plain; charset=utf-8");
        }
        if let Some(token) = &self.token {
            let mut secret = HeaderValue::from_str(&format!("Token {token}")).map_err(unusable)?;
            secret.set_sensitive(true);
            request = request.header(AUTHORIZATION, secret);
        }
        request.body(body).map_err(unusable)
    }

    /// Sends a request whose answer is to be that all is well.
    fn ask(&self, request: Request<Vec<u8>>, timeout: Duration, limit: Option<&Limit>) -> Result<(), SendError> {
        let Some(client) = &self.client else { return Ok(()) };
        let deadline = limit.map_or(Ok(exchange(timeout)), |limit| limit.step(exchange(timeout)))?;
        let status = client.send_within(request, deadline).map_err(no_answer)?.status();
        if status.is_success() {
            return Ok(());
        }
        Err(SendError::Status {
            code: status.as_u16(),
            reason: status.canonical_reason().unwrap_or_default(),
        })
    }

    fn socket_error(&self, service: &'static str, reason: impl Into<String>) -> SendError {
        SendError::Socket {
            service,
            host: self.server.host.clone(),
            port: self.server.port,
            reason: reason.into(),
        }
    }

    /// A socket whose datagrams go to the server.
    fn udp(&self, service: &'static str, timeout: Duration) -> Result<UdpSocket, SendError> {
        let failed = |error: std::io::Error| self.socket_error(service, errno_text(&error));
        let address = self.first_address(service, timeout)?;
        let any: IpAddr = match address {
            SocketAddr::V4(_) => [0; 4].into(),
            SocketAddr::V6(_) => [0; 16].into(),
        };
        let socket = UdpSocket::bind((any, 0)).map_err(failed)?;
        socket.connect(address).map_err(failed)?;
        Ok(socket)
    }

    /// A connection to the first of the server's addresses that takes one.
    fn tcp(&self, timeout: Duration) -> Result<TcpStream, SendError> {
        let deadline = Instant::now() + timeout;
        let mut failure = None;
        for address in self.addresses(CARBON, timeout)? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(errno_text(&error)),
            }
        }
        Err(self.socket_error(CARBON, failure.unwrap_or_else(|| "Connection timed out".to_owned())))
    }

    fn first_address(&self, service: &'static str, timeout: Duration) -> Result<SocketAddr, SendError> {
        let addresses = self.addresses(service, timeout)?;
        let none = || self.socket_error(service, "Name or service not known");
        addresses.first().copied().ok_or_else(none)
    }

    fn addresses(&self, service: &'static str, timeout: Duration) -> Result<Vec<SocketAddr>, SendError> {
        let failed = |reason: String| self.socket_error(service, reason);
        let port = u16::try_from(self.server.port).map_err(|_| failed("Invalid argument".to_owned()))?;
        if let Ok(address) = self.server.host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        look_up(self.server.host.clone(), port, timeout).map_err(failed)
    }
}

/// Looks up a name. The resolver knows no deadline of ours, so it runs aside; a thread that is late ends by itself.
fn look_up(host: String, port: u16, timeout: Duration) -> Result<Vec<SocketAddr>, String> {
    let (answer, answered) = mpsc::channel();
    let look = move || {
        let found = (host.as_str(), port).to_socket_addrs();
        let _ = answer.send(
            found
                .map(Iterator::collect::<Vec<_>>)
                .map_err(|error| error.to_string()),
        );
    };
    let spawned = std::thread::Builder::new().name("resolver".to_owned()).spawn(look);
    spawned.map_err(|error| errno_text(&error))?;
    let late = "Temporary failure in name resolution";
    let found = answered.recv_timeout(timeout).unwrap_or_else(|_| Err(late.to_owned()));
    // The resolver's own words, without what the standard library puts before them.
    found.map_err(|text| {
        text.rsplit_once("information: ")
            .map_or(text.clone(), |(_, tail)| tail.to_owned())
    })
}

/// How long an exchange may take.
fn exchange(timeout: Duration) -> Duration {
    (timeout * STEPS).min(EXCHANGE.max(timeout))
}

fn client(timeout: Duration, verifies: bool) -> Result<Client, SendError> {
    let settings = pve_fetch::Settings {
        deadline: exchange(timeout),
        largest: MAX_ANSWER,
        proxy: None,
        trust: if verifies { Trust::System } else { Trust::Anybody },
    };
    Client::new(&settings).map_err(no_answer)
}

fn otlp_request(settings: &Otlp, body: Vec<u8>) -> Result<Request<Vec<u8>>, SendError> {
    let mut request = Request::post(&settings.url).header(CONTENT_TYPE, "application/json");
    if settings.is_compressed {
        request = request.header(CONTENT_ENCODING, "gzip");
    }
    let mut request = request.body(body).map_err(unusable)?;
    for (name, value) in &settings.headers {
        let name = HeaderName::try_from(name).map_err(unusable)?;
        let mut value = HeaderValue::try_from(value).map_err(unusable)?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// Something in the file cannot be a part of a request.
fn unusable(error: impl std::fmt::Display) -> SendError {
    SendError::NoAnswer(error.to_string())
}

fn no_answer(error: FetchError) -> SendError {
    SendError::NoAnswer(match error {
        FetchError::Timeout(_) => "read timeout".to_owned(),
        FetchError::Connect { server, reason } => format!("Can't connect to {server} ({reason})"),
        FetchError::Unknown(server) => format!("Can't connect to {server} (Name or service not known)"),
        error => error.to_string(),
    })
}
