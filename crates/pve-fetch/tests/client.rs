//! Requests to servers that answer well, badly or not at all.
#![allow(clippy::unwrap_used, reason = "a test states what must hold")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use http::Request;
use pve_fetch::{Client, FetchError, Settings};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

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
    let short = Settings {
        deadline: Duration::from_millis(300),
        largest: 3,
        ..Settings::default()
    };
    let ask = |url: &str| client(short.clone()).send(get(url)).unwrap_err();

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let start = Instant::now();
    let error = ask(&format!("http://{address}/x?secret=1"));
    assert_eq!(error.to_string(), format!("{address} does not answer - timeout"));
    assert!(start.elapsed() < Duration::from_secs(20));
    drop(silent);
    let error = ask(&format!("http://{address}/x?secret=1"));
    assert!(
        error.to_string().starts_with(&format!("can't connect to {address} - ")),
        "{error}"
    );

    let (url, _asked) = server("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");
    assert!(matches!(ask(&url), FetchError::TooLarge(_)));
    let (url, _asked) = server("SSH-2.0-OpenSSH\r\n\r\n");
    assert!(matches!(ask(&url), FetchError::Protocol { .. }));

    let proxied = Client::new(&Settings {
        proxy: Some("gopher://user:secret@proxy.example".to_owned()),
        ..Settings::default()
    });
    let text = proxied.unwrap_err().to_string();
    assert!(text.contains("'…@proxy.example'") && !text.contains("secret"), "{text}");
}

/// The certificates that count are the system's: this test runs itself once more, where the server's is one of them.
#[test]
fn a_server_needs_a_certificate_that_the_system_trusts() {
    if let Ok(url) = std::env::var(URL) {
        assert_eq!(client(Settings::default()).send(get(&url)).unwrap().body(), b"safe");
        return;
    }
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
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
