//! Requests to servers that answer well, badly or not at all.
#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use http::Request;
use pve_fetch::{Client, FetchError, Settings, Trust};
use pve_testing::held_port;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Names the server to the process that trusts its certificate.
const URL: &str = "PVE_FETCH_TEST_URL";

/// Takes one request off a connection and answers; gives its head and body back.
fn serve(mut stream: impl Read + Write, answer: &str) -> String {
    let mut reader = BufReader::new(&mut stream);
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        reader.read_line(&mut text).unwrap();
    }
    let length = text
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(answer.as_bytes()).unwrap();
    stream.flush().unwrap();
    text + &String::from_utf8(body).unwrap()
}

/// A server for one request, its URL, and what it was asked.
fn server(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/path", listener.local_addr().unwrap());
    (url, thread::spawn(move || serve(listener.accept().unwrap().0, answer)))
}

fn get(url: &str) -> Request<Vec<u8>> {
    Request::get(url).body(Vec::new()).unwrap()
}

fn client(settings: Settings) -> Client {
    Client::new(&settings).unwrap()
}

#[test]
fn a_request_goes_out_and_its_answer_comes_back_whatever_its_status() {
    let (url, asked) = server("HTTP/1.1 503 No\r\nX-A: b\r\nContent-Length: 4\r\n\r\nbody");
    let request = Request::post(&url).header("x-c", "d").body(b"k=v".to_vec()).unwrap();
    let answer = client(Settings::default()).send(request).unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-a"]),
        (503, &"b".parse().unwrap())
    );
    assert_eq!(answer.body(), b"body");
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("POST /path HTTP/1.1\r\n") && asked.ends_with("k=v"),
        "{asked}"
    );
    assert!(asked.contains("x-c: d\r\n"), "{asked}");
}

#[test]
fn a_redirect_is_an_answer_like_another() {
    let (url, asked) = server("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    let answer = client(Settings::default()).send(get(&url)).unwrap();
    assert_eq!(answer.status().as_u16(), 302);
    asked.join().unwrap();
}

#[test]
fn a_request_goes_by_the_proxy() {
    let (url, asked) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let proxy = url.trim_end_matches("/path").to_owned();
    let through = client(Settings {
        proxy: Some(proxy),
        ..Settings::default()
    });
    // Plain requests, too, go through a tunnel, whose answer ends this one.
    let _ = through.send(get("http://idp.example/x?secret=1"));
    assert!(asked.join().unwrap().starts_with("CONNECT idp.example:80 HTTP/1.1\r\n"));
}

#[test]
fn what_goes_wrong_is_told_without_secrets() {
    let small = Settings {
        largest: 3,
        ..Settings::default()
    };
    let through = |proxy: &str| Settings {
        proxy: Some(proxy.to_owned()),
        ..Settings::default()
    };
    let ask = |settings: &Settings, server: &str| {
        let url = format!("{}/x?secret=1", server.trim_end_matches("/path"));
        let error = Client::new(settings)
            .and_then(|client| client.send(get(&url)))
            .unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        error
    };

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let hasty = Settings {
        deadline: Duration::from_millis(300),
        ..Settings::default()
    };
    let start = Instant::now();
    let error = ask(&hasty, &format!("http://{address}"));
    assert_eq!(error.to_string(), format!("{address} does not answer - timeout"));
    assert!(start.elapsed() < Duration::from_secs(20));

    let (_held, address) = held_port([127, 0, 0, 1]);
    let error = ask(&small, &format!("http://{address}"));
    assert!(
        error.to_string().starts_with(&format!("can't connect to {address} - ")),
        "{error}"
    );
    let proxy = format!("http://user:secret@{address}");
    let error = ask(&through(&proxy), "http://idp.example").to_string();
    let expected = format!("can't connect to idp.example through the proxy {address} - ");
    assert!(error.starts_with(&expected), "{error}");

    let (url, _asked) = server("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");
    assert!(matches!(ask(&small, &url), FetchError::TooLarge(_)));
    let (url, _asked) = server("SSH-2.0-OpenSSH\r\n\r\n");
    assert!(matches!(ask(&small, &url), FetchError::Protocol { .. }));
    let error = ask(&small, "ftp://idp.example");
    assert_eq!(
        error.to_string(),
        "no proper answer from idp.example - the URL cannot be asked"
    );

    // No resolver asks others for a name with a part as long as this.
    let unknown = format!("{}.example", "x".repeat(64));
    let error = ask(&small, &format!("http://{unknown}"));
    assert_eq!(error.to_string(), format!("can't find {unknown} - name lookup failed"));
    let proxy = format!("http://user:secret@{unknown}:3128");
    let error = ask(&through(&proxy), "http://idp.example");
    assert_eq!(
        error.to_string(),
        format!("can't find {unknown}:3128 - name lookup failed")
    );

    for scheme in ["gopher", "socks", "socks4", "socks4a", "socks5", "socks5h"] {
        let settings = through(&format!("{scheme}://user:secret@proxy.example:1080"));
        let error = ask(&settings, "http://idp.example");
        assert!(matches!(error, FetchError::Proxy(_)), "{error}");
        assert!(error.to_string().contains("'…@proxy.example:1080'"), "{error}");
        let text = format!("{settings:?}");
        assert!(
            text.contains("…@proxy.example:1080") && !text.contains("secret"),
            "{text}"
        );
    }
}

/// What a server with this certificate needs.
fn tls_config(pair: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

/// The certificates that count are the system's: this test runs itself once more, where the server's is one of them.
#[test]
fn a_server_needs_a_certificate_that_the_system_trusts() {
    if let Ok(url) = std::env::var(URL) {
        assert_eq!(client(Settings::default()).send(get(&url)).unwrap().body(), b"safe");
        return;
    }
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = tls_config(&pair);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());

    let server = thread::spawn(move || {
        // The first client goes away when it sees the certificate.
        let mut refused = listener.accept().unwrap().0;
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        assert!(tls.complete_io(&mut refused).is_err());
        let tls = ServerConnection::new(config).unwrap();
        let stream = StreamOwned::new(tls, listener.accept().unwrap().0);
        serve(stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsafe");
    });
    let error = client(Settings::default()).send(get(&url)).unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error:?}");

    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("ca.pem");
    std::fs::write(&trusted, pair.cert.pem()).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_needs_a_certificate_that_the_system_trusts"])
        .env(URL, &url)
        .env("SSL_CERT_FILE", &trusted)
        .status();
    assert!(status.unwrap().success());
    server.join().unwrap();
}

/// A server with a certificate of its own for each connection that is to come; its port, and the certificate.
fn encrypted(answers: usize) -> (u16, String) {
    let pair = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap();
    let config = tls_config(&pair);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for _ in 0..answers {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(tls, listener.accept().unwrap().0);
            // Who does not like the certificate goes away.
            if stream.conn.complete_io(&mut stream.sock).is_ok() {
                serve(stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsafe");
            }
        }
    });
    (port, pair.cert.pem())
}

#[test]
fn one_certificate_can_be_all_that_is_trusted() {
    let (port, pem) = encrypted(1);
    let only = |pem: &str| Settings {
        trust: Trust::Only(pem.as_bytes().to_vec()),
        ..Settings::default()
    };
    let url = format!("https://127.0.0.1:{port}/");
    // Its name is another one, and nobody signed it.
    assert_eq!(client(only(&pem)).send(get(&url)).unwrap().body(), b"safe");

    let (other, _) = encrypted(1);
    let error = client(only(&pem))
        .send(get(&format!("https://127.0.0.1:{other}/")))
        .unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error:?}");
    assert!(matches!(Client::new(&only("none")), Err(FetchError::Certificate(_))));
}

#[test]
fn the_sum_of_a_certificate_can_be_all_that_is_trusted() {
    let (port, pem) = encrypted(1);
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut sum: [u8; 32] = digest(&SHA256, &der).as_ref().try_into().unwrap();
    let only = |sum: [u8; 32]| Settings {
        trust: Trust::Fingerprint(sum),
        ..Settings::default()
    };
    let url = format!("https://127.0.0.1:{port}/");
    assert_eq!(client(only(sum)).send(get(&url)).unwrap().body(), b"safe");
    sum[31] ^= 1;
    let (other, _) = encrypted(1);
    let error = client(only(sum))
        .send(get(&format!("https://127.0.0.1:{other}/")))
        .unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error:?}");
}

#[test]
fn an_authority_can_be_all_that_is_trusted() {
    let (port, pem) = encrypted(2);
    let only = |pem: &str| Settings {
        trust: Trust::Authority(pem.as_bytes().to_vec()),
        ..Settings::default()
    };
    // The name counts: nobody vouches for this one.
    let by_address = client(only(&pem)).send(get(&format!("https://127.0.0.1:{port}/")));
    assert!(matches!(by_address, Err(FetchError::Connect { .. })), "{by_address:?}");
    assert!(matches!(Client::new(&only("none")), Err(FetchError::Certificate(_))));
}

/// Shows a certificate whose key it does not have: anybody can copy one.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[test]
fn a_certificate_without_its_key_proves_nothing() {
    let generate = || rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap();
    let (pinned, own) = (generate(), generate());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = CertifiedKey::new(vec![pinned.cert.der().clone()], key);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Impostor(Arc::new(shown.clone()))));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
            let mut socket = listener.accept().unwrap().0;
            assert!(tls.complete_io(&mut socket).is_err(), "the client went on");
        });
        let only = Settings {
            trust: Trust::Only(pinned.cert.pem().into_bytes()),
            ..Settings::default()
        };
        let error = client(only).send(get(&url)).unwrap_err();
        assert!(matches!(error, FetchError::Connect { .. }), "{error:?}");
        server.join().unwrap();
    }
}

#[test]
fn certificates_need_not_be_checked() {
    let (port, _) = encrypted(1);
    let anybody = Settings {
        trust: Trust::Anybody,
        ..Settings::default()
    };
    let answer = client(anybody)
        .send(get(&format!("https://127.0.0.1:{port}/")))
        .unwrap();
    assert_eq!(answer.body(), b"safe");
}
