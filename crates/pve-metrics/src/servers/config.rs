//! `status.cfg`: the servers that are told (reference 04 §16.1).

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pve_cfs::Cfs;
use pve_contract::{id, method};
use pve_schema::schema::Kind as ValueKind;
use pve_schema::section_config::{Header, Row, Section, SectionFile, SectionFormat, Use, Value as Option_};
use pve_schema::text;
use serde_json::{Map, Value, json};

use super::error::ServerError;

/// The file.
pub(super) const STATUS_CFG: &str = "status.cfg";
/// What IP and UDP need of a packet, and some more for tunnels.
const HEADERS: usize = 50;
/// The longest that one step of an exchange may take, whatever the file says: servers are told every ten seconds.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// What a time-out of zero, which elsewhere means none, means here: every wait ends.
const NO_TIMEOUT: Duration = Duration::from_secs(10);

/// What kind of server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Graphite,
    Influx,
    Otlp,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Graphite, Self::Influx, Self::Otlp];

    fn as_str(self) -> &'static str {
        match self {
            Self::Graphite => "graphite",
            Self::Influx => "influxdb",
            Self::Otlp => "opentelemetry",
        }
    }
}

const ALL: &[Kind] = &Kind::ALL;
const GRAPHITE: &[Kind] = &[Kind::Graphite];
const INFLUX: &[Kind] = &[Kind::Influx];
const OTLP: &[Kind] = &[Kind::Otlp];

/// Options and who has them. An InfluxDB's token is no option: it is in a file of its own.
const TABLE: &[Row<Kind>] = &[
    ("server", &[(ALL, Use::REQUIRED)]),
    ("port", &[(INFLUX, Use::REQUIRED), (ALL, Use::OPTIONAL)]),
    ("disable", &[(ALL, Use::OPTIONAL)]),
    ("mtu", &[(&[Kind::Graphite, Kind::Influx], Use::OPTIONAL)]),
    ("timeout", &[(&[Kind::Graphite, Kind::Influx], Use::OPTIONAL)]),
    ("proto", &[(GRAPHITE, Use::OPTIONAL)]),
    ("path", &[(GRAPHITE, Use::OPTIONAL)]),
    ("influxdbproto", &[(INFLUX, Use::OPTIONAL)]),
    ("organization", &[(INFLUX, Use::OPTIONAL)]),
    ("bucket", &[(INFLUX, Use::OPTIONAL)]),
    ("api-path-prefix", &[(INFLUX, Use::OPTIONAL)]),
    ("max-body-size", &[(INFLUX, Use::OPTIONAL)]),
    ("verify-certificate", &[(INFLUX, Use::OPTIONAL)]),
    ("otel-protocol", &[(OTLP, Use::OPTIONAL)]),
    ("otel-path", &[(OTLP, Use::OPTIONAL)]),
    ("otel-timeout", &[(OTLP, Use::OPTIONAL)]),
    ("otel-headers", &[(OTLP, Use::OPTIONAL)]),
    ("otel-verify-ssl", &[(OTLP, Use::OPTIONAL)]),
    ("otel-max-body-size", &[(OTLP, Use::OPTIONAL)]),
    ("otel-resource-attributes", &[(OTLP, Use::OPTIONAL)]),
    ("otel-compression", &[(OTLP, Use::OPTIONAL)]),
];

/// What the file may hold. What values may look like is told by the method that adds servers.
pub(super) fn format() -> &'static SectionFormat {
    static FORMAT: LazyLock<SectionFormat> = LazyLock::new(|| {
        let mut format = SectionFormat::new(STATUS_CFG);
        format.parse_header = parse_header;
        format.table(&Kind::ALL, Kind::as_str, TABLE, |key| {
            Some(method(id::POST_CLUSTER_METRICS_SERVER_ID).parameter(key)?.schema)
        })
    });
    &FORMAT
}

/// `KIND: ID`, or `KIND:` for a server that is named as its kind.
fn parse_header(line: &str) -> Option<Header> {
    Header::parse(line).or_else(|| {
        let kind = line.trim_end().strip_suffix(':')?;
        let is_word = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_word.then(|| Header {
            kind: kind.to_owned(),
            id: kind.to_owned(),
        })
    })
}

/// The servers that there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Servers {
    servers: Vec<Server>,
    /// The digest of the file.
    pub digest: String,
}

/// A server, and how it is told.
#[derive(Clone, PartialEq)]
pub struct Server {
    /// Its name.
    pub id: String,
    /// Whether it is left alone at the moment.
    pub is_disabled: bool,
    /// Where it is: an address or a name.
    pub host: String,
    /// Its port. The file takes one that is none, 65536.
    pub port: u32,
    pub(super) settings: Settings,
    section: Section,
}

/// Where it is, and nothing of its headers, which may be secret.
impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Server")
            .field("kind", &self.section.kind)
            .field("id", &self.id)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// What the kinds of servers need to know.
#[derive(Clone, PartialEq)]
pub(super) enum Settings {
    Graphite(Graphite),
    Influx(Influx),
    Otlp(Otlp),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Graphite {
    pub(super) way: GraphiteWay,
    /// Stands in front of every path.
    pub(super) path: String,
    pub(super) timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum GraphiteWay {
    Udp {
        /// Most bytes in one.
        datagram: usize,
    },
    Tcp,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Influx {
    pub(super) way: InfluxWay,
    pub(super) timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum InfluxWay {
    Udp {
        /// Most bytes in one.
        datagram: usize,
    },
    Http(InfluxHttp),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct InfluxHttp {
    /// `https://HOST:PORT/`, with the prefix.
    pub(super) base: String,
    pub(super) organization: String,
    pub(super) bucket: String,
    /// Most bytes of a body.
    pub(super) largest: usize,
    pub(super) verifies: bool,
}

impl InfluxHttp {
    /// Where figures go.
    pub(super) fn write_url(&self) -> String {
        let (organization, bucket) = (
            text::encode_component(&self.organization),
            text::encode_component(&self.bucket),
        );
        format!("{}api/v2/write?org={organization}&bucket={bucket}", self.base)
    }

    /// Where the server says that it is well.
    pub(super) fn health_url(&self) -> String {
        format!("{}health", self.base)
    }
}

#[derive(Clone, PartialEq)]
pub(super) struct Otlp {
    pub(super) url: String,
    pub(super) timeout: Duration,
    pub(super) headers: Vec<(String, String)>,
    pub(super) verifies: bool,
    /// Most bytes of a body, as it is sent.
    pub(super) largest: usize,
    /// What is told of this site in every request.
    pub(super) attributes: Vec<(String, String)>,
    pub(super) is_compressed: bool,
}

impl Servers {
    /// Loads the servers.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(cfs: &Cfs) -> Result<Arc<Self>, ServerError> {
        let servers = cfs.cached(STATUS_CFG, "metric servers", |bytes, _| {
            Self::parse(bytes.unwrap_or_default())
        })?;
        Ok(servers)
    }

    /// Reads the file's content. What does not fit is left out, with a warning in the log.
    pub fn parse(bytes: &[u8]) -> Self {
        let file = SectionFile::parse(format(), bytes);
        for warning in &file.warnings {
            log::warn!("{warning}");
        }
        let mut servers: Vec<Server> = file.sections().filter_map(Server::of).collect();
        servers.sort_by(|a, b| a.id.cmp(&b.id));
        Self {
            servers,
            digest: file.digest,
        }
    }

    /// All servers, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter()
    }

    /// A server by its name.
    pub fn get(&self, id: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.id == id)
    }
}

impl Server {
    /// The server of a section; `None` if the section says too little.
    pub(super) fn of(section: &Section) -> Option<Self> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == section.kind)?;
        let host = section.text("server")?.to_owned();
        let port = number(section, "port");
        let otlp_is_open = section.text("otel-protocol") == Some("http");
        let port = match kind {
            Kind::Influx => port?,
            Kind::Graphite => port.unwrap_or(2003),
            Kind::Otlp if otlp_is_open => port.unwrap_or(4317),
            Kind::Otlp => port.unwrap_or(4318),
        };
        let settings = match kind {
            Kind::Graphite => Settings::Graphite(graphite(section)),
            Kind::Influx => Settings::Influx(influx(section, &host, port)),
            Kind::Otlp => Settings::Otlp(otlp(section, &host, port)),
        };
        Some(Self {
            id: section.id.clone(),
            is_disabled: section.is_set("disable"),
            host,
            port,
            settings,
            section: section.clone(),
        })
    }

    /// The row of a list.
    pub fn row(&self) -> Value {
        json!({
            "id": self.id,
            "type": self.section.kind,
            "server": self.host,
            "port": number::<u32>(&self.section, "port"),
            "disable": u8::from(self.is_disabled),
        })
    }

    /// All options that are set, with their JSON types; never a secret.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, value) in self.section.iter() {
            // No option is a list.
            let Option_::Text(text) = value else { continue };
            let kind = format().schema(key).map(|schema| schema.kind);
            let value = match text.parse::<i64>() {
                Ok(number) if matches!(kind, Some(ValueKind::Boolean | ValueKind::Integer)) => number.into(),
                _ => text.as_str().into(),
            };
            object.insert(key.to_owned(), value);
        }
        object.insert("type".to_owned(), self.section.kind.as_str().into());
        object
    }

    /// Whether this kind of server is told a secret.
    pub(super) fn has_token(kind: &str) -> bool {
        kind == Kind::Influx.as_str()
    }

    /// Which option, if any, makes this server another addressee of a secret than it was before, or a less certain one.
    pub(super) fn secret_goes_elsewhere(&self, before: &Self) -> Option<&'static str> {
        let (Settings::Influx(now), Settings::Influx(then)) = (&self.settings, &before.settings) else {
            return None;
        };
        let way = |influx: &Influx| match &influx.way {
            InfluxWay::Udp { .. } => (None, true),
            InfluxWay::Http(http) => (
                http.base.split_once(':').map(|(scheme, _)| scheme.to_owned()),
                http.verifies,
            ),
        };
        let ((scheme, verifies), (old_scheme, verified)) = (way(now), way(then));
        let changes = [
            ("server", self.host != before.host),
            ("port", self.port != before.port),
            // Datagrams carry no secret.
            ("influxdbproto", scheme.is_some() && scheme != old_scheme),
            ("verify-certificate", verified && !verifies),
        ];
        changes
            .into_iter()
            .find_map(|(option, changed)| changed.then_some(option))
    }

    /// Whether this server is told a secret that stands in a file of its own.
    pub fn takes_token(&self) -> bool {
        Self::has_token(&self.section.kind)
    }
}

fn number<T: std::str::FromStr>(section: &Section, key: &str) -> Option<T> {
    section.text(key)?.parse().ok()
}

fn word(section: &Section, key: &str, default: &str) -> String {
    section.text(key).unwrap_or(default).to_owned()
}

fn datagram(section: &Section) -> usize {
    number(section, "mtu").unwrap_or(1500_usize).saturating_sub(HEADERS)
}

fn timeout(section: &Section, key: &str, default: u64) -> Duration {
    match number(section, key).unwrap_or(default) {
        0 => NO_TIMEOUT,
        seconds => Duration::from_secs(seconds).min(MAX_TIMEOUT),
    }
}

/// A host as URLs have it.
fn in_url(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

fn graphite(section: &Section) -> Graphite {
    let way = match section.text("proto") {
        Some("tcp") => GraphiteWay::Tcp,
        _ => GraphiteWay::Udp {
            datagram: datagram(section),
        },
    };
    Graphite {
        way,
        path: word(section, "path", "proxmox"),
        timeout: timeout(section, "timeout", 1),
    }
}

fn influx(section: &Section, host: &str, port: u32) -> Influx {
    let way = match section.text("influxdbproto") {
        Some(scheme @ ("http" | "https")) => {
            let prefix = match section
                .text("api-path-prefix")
                .map(|prefix| prefix.trim_start_matches('/'))
            {
                Some(prefix) if !prefix.is_empty() => format!("{}/", prefix.trim_end_matches('/')),
                _ => String::new(),
            };
            InfluxWay::Http(InfluxHttp {
                base: format!("{scheme}://{}:{port}/{prefix}", in_url(host)),
                organization: word(section, "organization", "proxmox"),
                bucket: word(section, "bucket", "proxmox"),
                largest: number(section, "max-body-size").unwrap_or(25_000_000),
                verifies: section.flag("verify-certificate").unwrap_or(true),
            })
        }
        _ => InfluxWay::Udp {
            datagram: datagram(section),
        },
    };
    Influx {
        way,
        timeout: timeout(section, "timeout", 1),
    }
}

fn otlp(section: &Section, host: &str, port: u32) -> Otlp {
    let scheme = word(section, "otel-protocol", "https");
    let path = word(section, "otel-path", "/v1/metrics");
    let slash = if path.starts_with('/') { "" } else { "/" };
    // What is no such object is refused when it is set; a file that was written by hand loses it with a word.
    let pairs = |key: &str| {
        let pairs = section.text(key).map(pairs);
        pairs.unwrap_or(Ok(Vec::new())).unwrap_or_else(|reason| {
            log::warn!("metric server '{}' - {key}: {reason}", section.id);
            Vec::new()
        })
    };
    Otlp {
        url: format!("{scheme}://{}:{port}{slash}{path}", in_url(host)),
        timeout: timeout(section, "otel-timeout", 5),
        headers: pairs("otel-headers"),
        verifies: section.flag("otel-verify-ssl").unwrap_or(true),
        largest: number(section, "otel-max-body-size").unwrap_or(10_000_000),
        attributes: pairs("otel-resource-attributes"),
        is_compressed: section.text("otel-compression") != Some("none"),
    }
}

/// The pairs of an object that is written as base64 of its JSON; scalars only.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    const NONE: &str = "value is no JSON object in base64";
    let bytes = STANDARD.decode(text.trim()).map_err(|_| NONE)?;
    let object: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| NONE)?;
    let pair = |(key, value): (&str, &Value)| {
        let text = super::value::text(value).ok_or("values must be texts or numbers")?;
        Ok((key.to_owned(), text))
    };
    super::sorted(&object).into_iter().map(pair).collect()
}
