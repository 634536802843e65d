//! Metric servers: the file that says which there are, and sockets at the other end of the way to them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pve_cfs::Cfs;
use pve_metrics::servers::{Limit, Link, Origin, SendError, ServerError, Servers, Told, edit};
use pve_metrics::{Objects, Snapshot};
use pve_schema::{Context, Param, Params};
use pve_testing::held_port;
use serde_json::{Value, json};

/// The longest that one of these takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Lab {
    _root: tempfile::TempDir,
    context: Context,
    cfs: Cfs,
}

impl Lab {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let context = pve_testing::context(root.path(), "n1");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        Self {
            _root: root,
            context,
            cfs,
        }
    }

    fn file(&self) -> String {
        self.cfs.read_text("status.cfg").unwrap().unwrap_or_default()
    }

    fn create(&self, id: &str, kind: &str, options: &[(&str, &str)]) -> Result<(), ServerError> {
        edit::create(&self.context, id, kind, &params(options))
    }

    fn update(&self, id: &str, options: &[(&str, &str)]) -> Result<(), ServerError> {
        edit::update(&self.context, id, &params(options))
    }

    fn token(&self, id: &str) -> Option<String> {
        edit::token(&self.cfs, id).unwrap()
    }
}

fn params(options: &[(&str, &str)]) -> Params {
    let mut params = Params::new();
    for (key, value) in options {
        params.insert(*key, Param::Text((*value).to_owned()));
    }
    params
}

fn text(result: Result<(), ServerError>) -> String {
    result.unwrap_err().to_string()
}

/// Reference 04 §16.1: the example, and what a person wrote around it.
#[test]
fn what_a_person_wrote_in_the_file_stays() {
    let lab = Lab::new();
    let example = "# ours\ngraphite: g1\n\tdisable\n\tserver 10.0.0.5\n\tpath lab.pve\n\tport 2003\n\n\
        influxdb: inf\n\tport 8086\n\tserver inf.example\n\tbucket lab\n\tinfluxdbproto https\n\tfuture 1\n\n\
        statsd: s\n\tserver 10.0.0.6\n\n";
    lab.cfs.write("status.cfg", example.as_bytes()).unwrap();
    lab.update("g1", &[("server", "10.0.0.5"), ("port", "2003")]).unwrap();
    assert_eq!(lab.file(), example);
    let disabled = [("server", "10.0.0.9"), ("port", "2003"), ("disable", "1")];
    lab.create("g2", "graphite", &disabled).unwrap();
    assert_eq!(
        lab.file(),
        format!("{example}graphite: g2\n\tdisable\n\tserver 10.0.0.9\n\tport 2003\n\n")
    );
    let servers = Servers::load(&lab.cfs).unwrap();
    let rows: Vec<Value> = servers.iter().map(|server| server.row()).collect();
    assert_eq!(
        rows,
        [
            json!({"id": "g1", "type": "graphite", "server": "10.0.0.5", "port": 2003, "disable": 1}),
            json!({"id": "g2", "type": "graphite", "server": "10.0.0.9", "port": 2003, "disable": 1}),
            json!({"id": "inf", "type": "influxdb", "server": "inf.example", "port": 8086, "disable": 0}),
        ]
    );
    assert_eq!(
        Value::Object(servers.get("inf").unwrap().to_json()),
        json!({"type": "influxdb", "server": "inf.example", "port": 8086, "bucket": "lab", "influxdbproto": "https"})
    );
    edit::delete(&lab.context, "g2").unwrap();
    assert_eq!(lab.file(), example);
    edit::delete(&lab.context, "g2").unwrap();
}

#[test]
fn a_section_without_a_name_is_named_as_its_type() {
    let servers = Servers::parse(b"graphite:\n\tserver 10.0.0.5\n\nopentelemetry: \n\tserver o.example\n");
    let rows: Vec<Value> = servers.iter().map(|server| server.row()).collect();
    assert_eq!(
        rows,
        [
            json!({"id": "graphite", "type": "graphite", "server": "10.0.0.5", "port": null, "disable": 0}),
            json!({"id": "opentelemetry", "type": "opentelemetry", "server": "o.example", "port": null, "disable": 0}),
        ]
    );
}

#[test]
fn changes_that_cannot_be_are_refused_in_upstreams_words() {
    let lab = Lab::new();
    let base = [("server", "127.0.0.1"), ("port", "9"), ("disable", "1")];
    let with = |more: &[(&'static str, &'static str)]| [base.as_slice(), more].concat();
    lab.create("g", "graphite", &base).unwrap();
    assert_eq!(
        text(lab.create("g", "influxdb", &base)),
        "Metric server 'g' already exists"
    );
    assert_eq!(
        text(lab.create("x", "graphite", &with(&[("bucket", "b")]))),
        "unexpected property 'bucket'"
    );
    assert_eq!(
        text(lab.create("x", "graphite", &with(&[("token", "t")]))),
        "unexpected property 'token'"
    );
    assert_eq!(
        text(lab.create("x", "influxdb", &[("server", "h")])),
        "missing value for required option 'port'"
    );
    assert_eq!(text(lab.update("x", &base)), "no such server 'x'");
    assert_eq!(
        text(lab.update("g", &with(&[("delete", "bogus")]))),
        "no such option 'bogus'"
    );
    assert_eq!(
        text(lab.update("g", &with(&[("delete", "token")]))),
        "no such option 'token'"
    );
    assert_eq!(
        text(lab.update("g", &[("delete", "server")])),
        "unable to delete required option 'server'"
    );
    assert_eq!(
        text(lab.update("g", &with(&[("path", "a"), ("delete", "path")]))),
        "cannot set and delete property 'path' at the same time!"
    );
    let error = text(lab.update("g", &with(&[("digest", "00")])));
    assert!(error.contains("detected modified configuration"), "{error}");
    for bad in ["!", "W10=", "eyJhIjpbXX0="] {
        let error = text(lab.create("o", "opentelemetry", &with(&[("otel-headers", bad)])));
        assert!(
            error.starts_with("invalid value for option 'otel-headers' - "),
            "{error}"
        );
    }
    assert_eq!(lab.file(), "graphite: g\n\tdisable\n\tserver 127.0.0.1\n\tport 9\n\n");
}

#[test]
fn a_token_is_in_a_file_of_its_own_that_only_root_may_read() {
    let lab = Lab::new();
    let base = [("server", "127.0.0.1"), ("port", "8086"), ("disable", "1")];
    let with = |more: &[(&'static str, &'static str)]| [base.as_slice(), more].concat();
    lab.create("i", "influxdb", &with(&[("token", "sesame")])).unwrap();
    let path = lab.cfs.full_path("priv/metricserver/i.pw").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(lab.token("i").as_deref(), Some("sesame"));
    assert!(!lab.file().contains("sesame"));
    lab.update("i", &with(&[("bucket", "b")])).unwrap();
    assert_eq!(lab.token("i").as_deref(), Some("sesame"), "kept");
    lab.update("i", &with(&[("token", "open")])).unwrap();
    assert_eq!(lab.token("i").as_deref(), Some("open"));
    let both = with(&[("token", "a"), ("delete", "token")]);
    assert_eq!(
        text(lab.update("i", &both)),
        "cannot set and delete property 'token' at the same time!"
    );
    lab.update("i", &with(&[("delete", "token")])).unwrap();
    assert_eq!(lab.token("i"), None);
    lab.update("i", &with(&[("token", "again")])).unwrap();
    edit::delete(&lab.context, "i").unwrap();
    assert_eq!((lab.token("i"), path.exists()), (None, false));
    // What was left behind is not the next one's.
    lab.cfs.write("priv/metricserver/i.pw", b"old").unwrap();
    lab.create("i", "influxdb", &base).unwrap();
    assert_eq!(lab.token("i"), None);
}

#[test]
fn a_token_goes_nowhere_else_than_it_was_set_for() {
    let lab = Lab::new();
    let base = [("server", "192.0.2.1"), ("port", "8086"), ("disable", "1")];
    let https = ("influxdbproto", "https");
    let token = ("token", "sesame");
    lab.create("i", "influxdb", &[&base[..], &[https, token]].concat())
        .unwrap();
    for (option, change) in [
        ("server", ("server", "192.0.2.2")),
        ("port", ("port", "8087")),
        ("influxdbproto", ("influxdbproto", "http")),
        ("verify-certificate", ("verify-certificate", "0")),
    ] {
        let others = [base[0], base[1]].into_iter().filter(|(name, _)| *name != option);
        let change: Vec<_> = others.chain([change]).collect();
        let before = lab.file();
        assert_eq!(
            text(lab.update("i", &change)),
            format!("the token must be set again (or deleted) when {option} changes")
        );
        assert_eq!((lab.file(), lab.token("i").as_deref()), (before, Some("sesame")));
        lab.update("i", &[change.as_slice(), &[token]].concat()).unwrap();
        assert_ne!(lab.file(), "", "{option}");
        let back = [&base[..], &[https, ("verify-certificate", "1"), token]].concat();
        lab.update("i", &back).unwrap();
    }
    let moved = [("server", "192.0.2.2"), ("port", "1"), ("delete", "token")];
    lab.update("i", &moved).unwrap();
    assert_eq!(lab.token("i"), None);
    // One without a secret goes where it likes, and so does one whose secret is not concerned.
    lab.update("i", &base[..2]).unwrap();
    lab.update("i", &[base[0], base[1], token]).unwrap();
    lab.update("i", &[base[0], base[1], ("bucket", "b")]).unwrap();
    assert_eq!(lab.token("i").as_deref(), Some("sesame"));
}

/// Whoever reads both meanwhile must not see the new secret with the old address, or the other way round.
#[test]
fn a_new_token_is_never_beside_an_old_address() {
    let lab = Lab::new();
    let options = |round: usize| (format!("192.0.2.{round}"), format!("token-{round}"));
    let (address, token) = options(1);
    let create = [
        ("server", address.as_str()),
        ("port", "1"),
        ("disable", "1"),
        ("token", &token),
    ];
    lab.create("i", "influxdb", &create).unwrap();
    let (context, (stop, wait)) = (lab.context.clone(), mpsc::channel::<()>());
    let watcher = thread::spawn(move || {
        let cfs = Cfs::new(&context);
        let file = || cfs.read_text("status.cfg").unwrap().unwrap_or_default();
        let mut pairs = 0;
        while wait.try_recv() == Err(mpsc::TryRecvError::Empty) {
            // As the daemon looks.
            let before = file();
            let Some(token) = edit::token(&cfs, "i").unwrap() else {
                continue;
            };
            if file() == before {
                let round = token.trim_start_matches("token-");
                assert!(
                    before.contains(&format!("192.0.2.{round}\n")),
                    "{token} beside {before}"
                );
                pairs += 1;
            }
        }
        pairs
    });
    for round in 2..200 {
        let (address, token) = options(round);
        let change = [("server", address.as_str()), ("port", "1"), ("token", &token)];
        lab.update("i", &change).unwrap();
    }
    drop(stop);
    assert!(watcher.join().unwrap() > 0);
}

/// A server that answers each request alike; what it was asked.
fn web_server(answer: &'static str) -> (u16, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap_or(0) == 0 {
                        break;
                    }
                }
                if head.is_empty() {
                    break;
                }
                let lower = head.to_ascii_lowercase();
                let length = lower
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                if sender.send((lower, body)).is_err() || reader.get_mut().write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }
    });
    (port, asked)
}

const FINE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

fn link(config: &str, token: Option<&str>) -> Link {
    let servers = Servers::parse(config.as_bytes());
    Link::new(servers.iter().next().unwrap().clone(), token.map(str::to_owned)).unwrap()
}

fn snapshot(fields: usize) -> Snapshot {
    let fields: serde_json::Map<String, Value> = (0..fields).map(|n| (format!("k{n}"), json!(n))).collect();
    Snapshot {
        time: 1_700_000_000,
        objects: Objects::Node(fields),
    }
}

fn send(link: &Link, snapshot: &Snapshot) -> Result<Told, SendError> {
    let origin = Origin {
        node: "n1".parse().unwrap(),
        cluster: None,
        version: "9.2/0".to_owned(),
    };
    link.send(&origin, snapshot, &Limit::of(PATIENCE))
}

#[test]
fn a_connection_is_tried_before_a_server_is_added() {
    let lab = Lab::new();
    let create = |kind: &str, port: u16, more: &[(&str, &str)]| {
        let port = port.to_string();
        let options = [&[("server", "127.0.0.1"), ("port", port.as_str())], more].concat();
        lab.create("s", kind, &options).map_err(|error| error.to_string())
    };
    let (_held, closed) = held_port([127, 0, 0, 1]);
    let closed = closed.port();
    let refused = |service: &str| format!("couldn't create {service} socket [127.0.0.1]:{closed} - Connection refused");
    assert_eq!(create("graphite", closed, &[("proto", "tcp")]), Err(refused("carbon")));
    let http = [("influxdbproto", "http"), ("token", "sesame")];
    let error = create("influxdb", closed, &http).unwrap_err();
    assert!(
        error.starts_with(&format!("500 Can't connect to 127.0.0.1:{closed} (")),
        "{error}"
    );
    let (port, _asked) = web_server(UNAUTHORIZED);
    assert_eq!(create("influxdb", port, &http), Err("401 Unauthorized".to_owned()));
    let otlp = [("otel-protocol", "http")];
    let failed = "Connection test failed: 401 Unauthorized";
    assert_eq!(create("opentelemetry", port, &otlp), Err(failed.to_owned()));
    assert_eq!(
        (lab.file(), lab.token("s")),
        (String::new(), None),
        "nothing is left behind"
    );
    let name = [("server", "no-such-host.invalid"), ("port", "1")];
    let error = text(lab.create("s", "graphite", &name));
    assert!(
        error.starts_with("couldn't create carbon socket [no-such-host.invalid]:1 - "),
        "{error}"
    );

    let (port, asked) = web_server(FINE);
    create("influxdb", port, &http).unwrap();
    let (head, _) = asked.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("get /health http/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: token sesame\r\n"), "{head}");
    // The old secret is told when none is sent.
    let port_text = port.to_string();
    lab.update(
        "s",
        &[("server", "127.0.0.1"), ("port", &port_text), ("api-path-prefix", "/p")],
    )
    .unwrap();
    let (head, _) = asked.recv_timeout(PATIENCE).unwrap();
    assert!(
        head.starts_with("get /p/health http/1.1\r\n") && head.contains("token sesame"),
        "{head}"
    );
    edit::delete(&lab.context, "s").unwrap();

    create("opentelemetry", port, &otlp).unwrap();
    let (head, _) = asked.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("post /v1/metrics http/1.1\r\n"), "{head}");
    edit::delete(&lab.context, "s").unwrap();
    // Datagrams need nobody at the other end.
    create("graphite", closed, &[]).unwrap();
}

#[test]
fn lines_go_to_influx_by_post_with_the_token() {
    let (port, asked) = web_server(FINE);
    let config = format!(
        "influxdb: i\n\tserver 127.0.0.1\n\tport {port}\n\tinfluxdbproto http\n\torganization my org\n\tmax-body-size 60\n"
    );
    let link = link(&config, Some("sesame"));
    let node = json!({"a": {"x": 1}, "b": {"x": 2}});
    let snapshot = Snapshot {
        time: 1,
        objects: Objects::Node(node.as_object().unwrap().clone()),
    };
    send(&link, &snapshot).unwrap();
    for line in [
        "a,object=nodes,host=n1 x=1 1000000000\n",
        "b,object=nodes,host=n1 x=2 1000000000\n",
    ] {
        let (head, body) = asked.recv_timeout(PATIENCE).unwrap();
        assert!(
            head.starts_with("post /api/v2/write?org=my%20org&bucket=proxmox http/1.1\r\n"),
            "{head}"
        );
        assert!(head.contains("authorization: token sesame\r\n"), "{head}");
        assert_eq!(String::from_utf8(body).unwrap(), line);
    }
}

#[test]
fn metrics_go_to_a_collector_with_the_headers_that_the_file_names() {
    let (port, asked) = web_server(FINE);
    // {"X-Scope-OrgID": "lab", "Content-Type": "application/json; x=1"}
    let headers = "eyJYLVNjb3BlLU9yZ0lEIjogImxhYiIsICJDb250ZW50LVR5cGUiOiAiYXBwbGljYXRpb24vanNvbjsgeD0xIn0=";
    let config = format!(
        "opentelemetry: o\n\tserver 127.0.0.1\n\tport {port}\n\totel-protocol http\n\totel-headers {headers}\n"
    );
    send(&link(&config, None), &snapshot(3)).unwrap();
    let (head, body) = asked.recv_timeout(PATIENCE).unwrap();
    for line in [
        "x-scope-orgid: lab\r\n",
        "content-type: application/json; x=1\r\n",
        "content-encoding: gzip\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(head.matches("content-type").count(), 1);
    let mut text = String::new();
    flate2::read::GzDecoder::new(body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("\"name\":\"proxmox_node_k2\""), "{text}");
}

#[test]
fn answers_that_are_none_of_well_being_are_errors() {
    for (answer, error) in [
        (UNAUTHORIZED, "401 Unauthorized"),
        (BROKEN, "500 Internal Server Error"),
    ] {
        let (port, _asked) = web_server(answer);
        for config in [
            format!("influxdb: i\n\tserver 127.0.0.1\n\tport {port}\n\tinfluxdbproto http\n"),
            format!("opentelemetry: o\n\tserver 127.0.0.1\n\tport {port}\n\totel-protocol http\n"),
        ] {
            assert_eq!(send(&link(&config, None), &snapshot(1)).unwrap_err().to_string(), error);
        }
    }
}

#[test]
fn datagrams_fit_into_packets_and_hold_whole_lines() {
    for kind in ["graphite", "influxdb"] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let link = link(
            &format!("{kind}: s\n\tserver 127.0.0.1\n\tport {port}\n\tmtu 600\n"),
            None,
        );
        link.test().unwrap();
        let fields: serde_json::Map<String, Value> = (0..20).map(|n| (format!("p{n:02}"), json!({"x": n}))).collect();
        let snapshot = Snapshot {
            time: 1,
            objects: Objects::Node(fields),
        };
        send(&link, &snapshot).unwrap();
        let mut seen = String::new();
        let mut datagram = [0; 4096];
        while seen.lines().count() < 20 {
            let size = socket.recv(&mut datagram).unwrap();
            let text = std::str::from_utf8(&datagram[..size]).unwrap();
            assert!(size < 550 && text.ends_with('\n'), "{text}");
            seen.push_str(text);
        }
        assert_eq!(seen.lines().count(), 20);
    }
}

#[test]
fn a_datagram_that_is_too_large_is_lost_alone() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let link = link(&format!("influxdb: s\n\tserver 127.0.0.1\n\tport {port}\n"), None);
    let fields = json!({"a": {"x": 1}, "b": {"x": "long".repeat(20_000)}, "c": {"x": 3}});
    let snapshot = Snapshot {
        time: 1,
        objects: Objects::Node(fields.as_object().unwrap().clone()),
    };
    assert_eq!(send(&link, &snapshot), Ok(Told::AllBut(1)));
    for start in ["a,", "c,"] {
        let mut datagram = [0; 4096];
        let size = socket.recv(&mut datagram).unwrap();
        let text = String::from_utf8_lossy(&datagram[..size]);
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn secrets_are_not_part_of_what_is_printed_for_debugging() {
    use base64::Engine as _;
    let headers = base64::engine::general_purpose::STANDARD.encode(r#"{"X-Key": "hush"}"#);
    let config = format!("opentelemetry: o\n\tserver h.example\n\totel-headers {headers}\n");
    let text = format!("{:?}", link(&config, Some("sesame")));
    assert!(text.contains("h.example"), "{text}");
    for secret in ["sesame", "hush", headers.as_str()] {
        assert!(!text.contains(secret), "{text}");
    }
}

fn tcp_graphite(port: u16) -> Link {
    link(
        &format!("graphite: g\n\tserver 127.0.0.1\n\tport {port}\n\tproto tcp\n"),
        None,
    )
}

#[test]
fn lines_go_to_graphite_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reader: JoinHandle<String> = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    send(&tcp_graphite(port), &snapshot(5000)).unwrap();
    let text = reader.join().unwrap();
    assert_eq!(text.lines().count(), 5000);
    assert!(
        text.lines()
            .all(|line| line.starts_with("proxmox.nodes.n1.k") && line.split(' ').count() == 3)
    );
}

#[test]
fn who_never_reads_is_waited_for_as_long_as_the_file_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let start = Instant::now();
    // More than all buffers on the way hold.
    let error = send(&tcp_graphite(port), &snapshot(300_000)).unwrap_err();
    assert_eq!(error, SendError::Broken("Connection timed out".to_owned()));
    assert!(error.asks_for_a_pause());
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());

    for config in [
        format!("influxdb: i\n\tserver 127.0.0.1\n\tport {port}\n\tinfluxdbproto http\n"),
        format!("opentelemetry: o\n\tserver 127.0.0.1\n\tport {port}\n\totel-protocol http\n\totel-timeout 1\n"),
    ] {
        let error = send(&link(&config, None), &snapshot(1)).unwrap_err();
        assert_eq!(error.to_string(), "500 read timeout");
    }
}

#[test]
fn nothing_to_tell_says_nothing_of_the_server() {
    let (_held, closed) = held_port([127, 0, 0, 1]);
    let link = tcp_graphite(closed.port());
    assert_eq!(send(&link, &snapshot(0)), Ok(Told::Nothing));
    assert!(send(&link, &snapshot(1)).is_err());
}

#[test]
fn who_hangs_up_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // Unread bytes make this a reset.
            let _ = stream.peek(&mut [0]);
        }
    });
    let error = send(&tcp_graphite(port), &snapshot(300_000)).unwrap_err();
    assert!(matches!(error, SendError::Broken(_)), "{error}");
    let config = format!("influxdb: i\n\tserver 127.0.0.1\n\tport {port}\n\tinfluxdbproto http\n");
    let error = send(&link(&config, None), &snapshot(1)).unwrap_err();
    assert!(
        matches!(error, SendError::NoAnswer(_)) && error.asks_for_a_pause(),
        "{error}"
    );
}
