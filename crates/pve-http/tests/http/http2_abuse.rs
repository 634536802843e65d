//! HTTP/2 as nobody well-behaved speaks it: frames by hand.

use std::sync::Arc;
use std::time::Duration;

use pve_http::{ServerConfig, TlsSettings};
use pve_rest::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::calls::registry;
use crate::connections::{secure, tls_lab};
use crate::support::{Running, TOKEN, soon};

/// What a client says first, and settings that change nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `GET https://n/`, by the static table and one literal (RFC 7541).
const HEADERS: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'n'];

const HEADERS_FRAME: u8 = 1;
const RESET_FRAME: u8 = 3;
const SETTINGS_FRAME: u8 = 4;
const PING_FRAME: u8 = 6;
const GOAWAY_FRAME: u8 = 7;
const CONTINUATION_FRAME: u8 = 9;
const END_STREAM_AND_HEADERS: u8 = 5;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

async fn connect(server: &Running, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let mut config = connector.config().as_ref().clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("node1").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream))
        .await
        .unwrap()
}

fn serve(adjust: impl FnOnce(&mut ServerConfig)) -> (Running, TlsConnector) {
    let (lab, connector) = tls_lab();
    let server = lab.serve(Role::Web, registry(), |config| {
        config.tls = Some(TlsSettings {
            http2: true,
            ..TlsSettings::new(lab.context.clone())
        });
        adjust(config);
    });
    (server, connector)
}

/// Sends frames until the server hangs up; the kinds of those that it sent, in order, and the last one's payload.
async fn flood(
    stream: TlsStream<TcpStream>,
    frames: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> (Vec<u8>, Vec<u8>) {
    let (mut from, mut to) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        if to.write_all(PREFACE).await.is_err() {
            return;
        }
        for frame in frames {
            if to.write_all(&frame).await.is_err() {
                return;
            }
        }
    });
    let mut told = Vec::new();
    // A reset may follow the last word.
    let _ = soon(from.read_to_end(&mut told)).await;
    soon(sending).await.unwrap();
    let (mut kinds, mut last, mut rest) = (Vec::new(), Vec::new(), told.as_slice());
    while let [a, b, c, kind, _flags, _, _, _, _, more @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        let Some((payload, more)) = more.split_at_checked(length) else {
            break;
        };
        kinds.push(*kind);
        last = payload.to_vec();
        rest = more;
    }
    (kinds, last)
}

async fn is_served(server: &Running, connector: &TlsConnector) {
    let mut client = secure(server, connector).await;
    client
        .send(format!("GET /api2/json/version HTTP/1.1\r\n{TOKEN}\r\n").as_bytes())
        .await;
    assert_eq!(client.answer().await.line, "HTTP/1.1 200 OK");
}

/// CVE-2023-44487.
#[tokio::test]
async fn requests_that_are_cancelled_at_once_end_the_connection() {
    let (server, connector) = serve(|_| {});
    let stream = connect(&server, &connector).await;
    let flood_of = (0..200_000_u32).map(|number| {
        let stream = number * 2 + 1;
        let mut both = frame(HEADERS_FRAME, END_STREAM_AND_HEADERS, stream, HEADERS);
        both.extend(frame(RESET_FRAME, 0, stream, &8_u32.to_be_bytes()));
        both
    });
    let (kinds, last) = flood(stream, flood_of).await;
    assert_eq!(kinds.last(), Some(&GOAWAY_FRAME), "{kinds:?}");
    // ENHANCE_YOUR_CALM
    assert_eq!(last.get(4..8), Some(&11_u32.to_be_bytes()[..]));
    is_served(&server, &connector).await;
}

/// CVE-2024-27316: headers that never end.
#[tokio::test]
async fn headers_without_an_end_end_the_connection() {
    let (server, connector) = serve(|_| {});
    let stream = connect(&server, &connector).await;
    let begin = std::iter::once(frame(HEADERS_FRAME, END_STREAM, 1, HEADERS));
    // A literal that is not indexed: `x: ` and 100 bytes.
    let line = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
    let more = std::iter::repeat_n(frame(CONTINUATION_FRAME, 0, 1, &line.repeat(100)), 100_000);
    let (kinds, _) = flood(stream, begin.chain(more)).await;
    assert_eq!(kinds.last(), Some(&GOAWAY_FRAME), "{kinds:?}");
    is_served(&server, &connector).await;
}

/// Each is answered, so who does not read the answers must not go on asking.
#[tokio::test]
async fn floods_of_settings_and_pings_are_not_gathered() {
    let (server, connector) = serve(|config| config.limits.idle = Duration::from_millis(500));
    for (kind, payload) in [(SETTINGS_FRAME, &[][..]), (PING_FRAME, &[0; 8][..])] {
        let mut stream = connect(&server, &connector).await;
        stream.write_all(PREFACE).await.unwrap();
        let many = frame(kind, 0, 0, payload).repeat(1000);
        // Nothing is read here; the server stops to read, and then to wait.
        soon(async { while stream.write_all(&many).await.is_ok() {} }).await;
    }
    is_served(&server, &connector).await;
}

#[tokio::test]
async fn who_says_nothing_after_the_handshake_is_hung_up_on() {
    let (server, connector) = serve(|config| config.limits.idle = Duration::from_millis(200));
    for said in [&b""[..], &PREFACE[..10], PREFACE] {
        let mut stream = connect(&server, &connector).await;
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(stream.read_to_end(&mut rest)).await;
    }
    // Half a request.
    let mut stream = connect(&server, &connector).await;
    stream
        .write_all(&[PREFACE, &frame(HEADERS_FRAME, END_STREAM, 1, HEADERS)].concat())
        .await
        .unwrap();
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn idle_connections_make_room() {
    let (server, connector) = serve(|config| {
        config.limits.connections = 2;
        config.limits.idle = Duration::from_secs(600);
        config.limits.stream_stall = Duration::from_secs(1);
    });
    let mut silent = connect(&server, &connector).await;
    silent.write_all(PREFACE).await.unwrap();
    let mut guest = connect(&server, &connector).await;
    let asked = [PREFACE, &frame(HEADERS_FRAME, END_STREAM_AND_HEADERS, 1, HEADERS)].concat();
    guest.write_all(&asked).await.unwrap();
    let mut told = Vec::new();
    soon(async {
        while !told.windows(7).any(|part| part == b"</html>") {
            assert!(guest.read_buf(&mut told).await.unwrap() > 0, "answered");
        }
    })
    .await;
    // Who has had an answer goes after who has not, so the two newcomers ask.
    let mut newcomers = Vec::new();
    for left in [&mut silent, &mut guest] {
        let mut newcomer = secure(&server, &connector).await;
        newcomer
            .send(format!("GET /api2/json/version HTTP/1.1\r\n{TOKEN}\r\n").as_bytes())
            .await;
        assert_eq!(newcomer.answer().await.line, "HTTP/1.1 200 OK");
        newcomers.push(newcomer);
        soon(left.read_to_end(&mut told)).await.ok();
    }
}

#[tokio::test]
async fn large_heads_are_refused_as_on_http_1() {
    let (server, connector) = serve(|_| {});
    for (lines, size) in [(1, 8200), (63, 1), (1, 15_000)] {
        let mut headers = HEADERS.to_vec();
        for _ in 0..lines {
            // A length above 126 goes on in groups of seven bits.
            headers.extend([0, 1, b'x']);
            match size {
                0..=126 => headers.push(size as u8),
                _ => {
                    let rest = size - 127;
                    headers.extend([127, (rest & 127) as u8 | 128, (rest >> 7) as u8]);
                }
            }
            headers.extend(vec![b'y'; size]);
        }
        let mut stream = connect(&server, &connector).await;
        stream.write_all(PREFACE).await.unwrap();
        stream
            .write_all(&frame(HEADERS_FRAME, END_STREAM_AND_HEADERS, 1, &headers))
            .await
            .unwrap();
        let mut told = Vec::new();
        // The text of the refusal, which the library leaves to us up to its own limit.
        let refused = async {
            while !told.windows(24).any(|part| part == b"request header too large") {
                assert!(
                    stream.read_buf(&mut told).await.unwrap() > 0,
                    "{lines} {size}: {told:?}"
                );
            }
        };
        soon(refused).await;
    }
}
