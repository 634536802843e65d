//! Requests that are meant to do harm: what is smuggled, injected, forged, oversized. How many connections and how much
//! memory an attacker gets is shown with whole daemons in `tests/e2e/test_abuse.py`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pve_contract::id;
use pve_http::AccessLog;
use pve_rest::{ApiError, ApiResult, Call, Registry, Role};
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{Client, Lab, Running, TOKEN, soon};

/// How often a change was made.
static CHANGES: AtomicUsize = AtomicUsize::new(0);

async fn change(_: Call) -> ApiResult {
    CHANGES.fetch_add(1, Ordering::SeqCst);
    Ok(json!("changed").into())
}

/// Fails with the text that the client sent: the worst that a handler can do.
async fn repeat(call: Call) -> ApiResult {
    let text = call.params.text("comment").unwrap_or_default();
    Err(ApiError::plain(text))
}

fn serve(lab: &Lab) -> Running {
    let mut registry = Registry::new();
    registry.bind(id::GET_VERSION, |_| Box::pin(async { Ok(json!("here").into()) }));
    registry.bind(id::POST_ACCESS_TICKET, |_| {
        Box::pin(async { Ok(json!("ticket").into()) })
    });
    registry.bind(id::DELETE_ACCESS_USERS_USERID, |call| Box::pin(change(call)));
    registry.bind(id::PUT_ACCESS_USERS_USERID, |call| Box::pin(repeat(call)));
    lab.serve(Role::Root, registry, |_| {})
}

/// All that comes back.
async fn all(server: &Running, request: &[u8]) -> String {
    let mut client = server.connect().await;
    // A server that refuses early may have closed by the time the last byte is sent.
    let _ = soon(tokio::io::AsyncWriteExt::write_all(&mut client.stream, request)).await;
    String::from_utf8_lossy(&client.rest().await).into_owned()
}

fn answers(text: &str) -> usize {
    text.matches("HTTP/1.").count()
}

/// What two servers could read in two ways gets one refusal, and nothing behind it is a request.
#[tokio::test]
async fn nothing_is_smuggled() {
    let lab = Lab::new();
    let server = serve(&lab);
    let hidden = format!("DELETE /api2/json/access/users/joe@pve HTTP/1.1\r\n{TOKEN}\r\n");
    let length = hidden.len();
    let put = format!("PUT /api2/json/access/users/joe@pve HTTP/1.1\r\nHost: node1\r\n{TOKEN}");
    let get = format!("GET /api2/json/version HTTP/1.1\r\nHost: node1\r\n{TOKEN}");
    let long = "x".repeat(524_289);
    for (what, request) in [
        (
            "chunked",
            format!("{put}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "chunked and a length",
            format!("{put}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a length and chunked",
            format!("{put}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "another encoding",
            format!("{put}Transfer-Encoding: gzip\r\n\r\n{hidden}"),
        ),
        ("xchunked", format!("{put}Transfer-Encoding: xchunked\r\n\r\n{hidden}")),
        (
            "identity",
            format!("{put}Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n{hidden}"),
        ),
        (
            "two encodings",
            format!("{put}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a list of encodings",
            format!("{put}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a tab before chunked",
            format!("{put}Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a space before the colon",
            format!("{put}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a folded encoding",
            format!("{put}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("a folded length", format!("{put}Content-Length:\r\n 0\r\n\r\n{hidden}")),
        (
            "two lengths",
            format!("{put}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        ),
        (
            "a list of lengths",
            format!("{put}Content-Length: 0, {length}\r\n\r\n{hidden}"),
        ),
        ("a plus", format!("{put}Content-Length: +0\r\n\r\n{hidden}")),
        ("a minus", format!("{put}Content-Length: -1\r\n\r\n{hidden}")),
        ("hexadecimal", format!("{put}Content-Length: 0x0\r\n\r\n{hidden}")),
        ("a fraction", format!("{put}Content-Length: 0.0\r\n\r\n{hidden}")),
        ("two words", format!("{put}Content-Length: 0 0\r\n\r\n{hidden}")),
        ("an empty length", format!("{put}Content-Length: \r\n\r\n{hidden}")),
        (
            "more than a number can be",
            format!("{put}Content-Length: 18446744073709551616\r\n\r\n{hidden}"),
        ),
        (
            "NUL in a value",
            format!("{put}Content-Length: 0\r\nX: a\0b\r\n\r\n{hidden}"),
        ),
        (
            "NUL in a name",
            format!("{put}Content-Length: 0\r\nX\0: b\r\n\r\n{hidden}"),
        ),
        (
            "a lone CR in a value",
            format!("{put}X: a\rContent-Length: 0\r\n\r\n{hidden}"),
        ),
        ("an empty name", format!("{put}: x\r\n\r\n{hidden}")),
        (
            "a body where none may be",
            format!("{get}Content-Length: {length}\r\n\r\n{hidden}"),
        ),
        (
            "a refused body",
            format!("{put}Content-Length: 524289\r\n\r\n{long}{hidden}"),
        ),
        (
            "a body of a wrong type",
            format!("{put}Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{hidden}{hidden}"),
        ),
        (
            "a version of its own",
            format!("GET / HTTP/1.1 HTTP/1.1\r\n\r\n{hidden}"),
        ),
        ("version 0.9", format!("GET /api2/json/version\r\n\r\n{hidden}")),
        ("version 3", format!("GET / HTTP/3.0\r\n\r\n{hidden}")),
        (
            "an authority",
            format!("GET node1:8006 HTTP/1.1\r\n{TOKEN}\r\n{hidden}"),
        ),
        ("CONNECT", format!("CONNECT node1:22 HTTP/1.1\r\n{TOKEN}\r\n{hidden}")),
        (
            "HTTP/2 without asking",
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{hidden}"),
        ),
    ] {
        let text = all(&server, request.as_bytes()).await;
        let code = text.split(' ').nth(1).unwrap_or("4");
        assert!(code.starts_with(['4', '5']), "{what}: {text}");
        assert!(answers(&text) <= 1, "{what}: {text}");
        assert_eq!(CHANGES.load(Ordering::SeqCst), 0, "{what}: the hidden request was run");
    }
    // The same in good order is two requests: the test can fail.
    let text = all(&server, format!("{get}\r\n{hidden}").as_bytes()).await;
    assert_eq!((answers(&text), CHANGES.load(Ordering::SeqCst)), (2, 1), "{text}");
}

/// Bare line feeds are line ends, as upstream has it, and an absolute target is its path: what stands in front is not
/// believed.
#[tokio::test]
async fn what_is_only_unusual_is_one_request() {
    let lab = Lab::new();
    let server = serve(&lab);
    for request in [
        format!("GET /api2/json/version HTTP/1.1\nHost: a\nConnection: close\n{TOKEN}\n"),
        format!("\r\n\r\nGET /api2/json/version HTTP/1.1\r\nConnection: close\r\n{TOKEN}\r\n"),
        format!("GET http://evil.example/api2/json/version HTTP/1.1\r\nConnection: close\r\n{TOKEN}\r\n"),
    ] {
        let text = all(&server, request.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{request}{text}");
        assert_eq!(answers(&text), 1);
    }
}

#[tokio::test]
async fn heads_without_measure_are_refused() {
    let lab = Lab::new();
    let server = serve(&lab);
    let many: String = (0..100_000).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (what, request) in [
        ("a line", format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20))),
        ("a method", format!("{} / HTTP/1.1\r\n\r\n", "X".repeat(1 << 20))),
        (
            "a value",
            format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)),
        ),
        (
            "a name",
            format!("GET / HTTP/1.1\r\n{}: x\r\n\r\n", "X".repeat(1 << 20)),
        ),
        ("a head that does not end", format!("GET / HTTP/1.1\r\n{many}")),
        ("blank lines", "\r\n".repeat(1 << 20)),
        (
            "a cookie",
            format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "a=b; ".repeat(100_000)),
        ),
    ] {
        let text = all(&server, request.as_bytes()).await;
        let code = text.split(' ').nth(1).unwrap_or("4");
        assert!(code.starts_with(['4', '5']), "{what}: {text:.200}");
    }
    let query = format!(
        "GET /api2/json/version?_dc={} HTTP/1.1\r\n{TOKEN}\r\n",
        "x".repeat(60_000)
    );
    let answer = server.ask(&query).await;
    assert_eq!(answer.line, "HTTP/1.1 200 OK", "a long query is in order");
}

/// Whatever a handler or a client says: the answer has the headers that we gave it, and no others.
#[tokio::test]
async fn no_header_is_injected() {
    let lab = Lab::new();
    let server = serve(&lab);
    let target = "/api2/json/access/users/joe@pve";
    for text in [
        "a%0d%0aX-Evil: 1",
        "a%0dX-Evil: 1",
        "a%0aX-Evil: 1",
        "a%00%1b%7f",
        "%0d%0a%0d%0a<script>",
        "%e2%80%a8X-Evil: 1",
    ] {
        for target in [target.to_owned(), target.replace("json", "extjs")] {
            let body = format!("comment={}", text.replace(' ', "+"));
            let answer = server.send("PUT", &target, TOKEN, &body).await;
            assert_eq!(answer.header("X-Evil"), None);
            assert!(!answer.line.contains(|c: char| c.is_control()), "{:?}", answer.line);
        }
        for path in [
            format!("/{text}"),
            format!("/api2/json/{text}"),
            format!("/api2/{text}/x"),
            format!("/pve2/{text}"),
        ] {
            let path = path.replace(' ', "%20");
            let answer = server.get(&path, TOKEN).await;
            assert_eq!(answer.header("X-Evil"), None, "{path}");
            assert!(!answer.line.starts_with("HTTP/1.1 200"), "{path}");
            assert!(!answer.line.contains(|c: char| c.is_control()), "{:?}", answer.line);
        }
    }
}

/// No path leads to a file, however it is written.
#[tokio::test]
async fn no_path_leads_out() {
    let lab = Lab::new();
    lab.put("etc/passwd", "root:x:0:0:");
    let server = lab.serve(Role::Web, Registry::new(), |_| {});
    for path in [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/%252e%252e/%252e%252e/etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/..%5c..%5c..%5cetc%5cpasswd",
        "/..\\..\\etc\\passwd",
        "/pve2/js/../../../../etc/passwd",
        "/pve2/js/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/pve2/images/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/pve2/images/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
        "/pve2/css/x.css%00.png",
        "/pve2/css//etc/passwd",
        "/pve-docs/%2fetc%2fpasswd",
        "//etc/passwd",
        "/./etc/passwd",
        "/etc/passwd",
        "/api2/../etc/passwd",
        "/api2/json/../../etc/passwd",
        "/novnc/....//....//etc/passwd",
    ] {
        for host in [path.to_owned(), format!("http://node1{path}")] {
            let text = all(
                &server,
                format!("GET {host} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .await;
            assert!(!text.contains("root:"), "{path}: {text}");
            assert!(!text.starts_with("HTTP/1.1 200"), "{path}: {text}");
        }
    }
}

/// One worker has eight places; many times as many clients hold on to them in every way there is.
async fn is_served_among(server: &Running, crowd: Vec<Vec<u8>>) {
    let mut held = Vec::new();
    for (number, start) in crowd.iter().cycle().take(60).enumerate() {
        let Ok(stream) = soon(TcpStream::connect(server.address)).await else {
            panic!("client {number} cannot connect")
        };
        let mut client = Client::new(stream);
        client.send(start).await;
        held.push(client);
    }
    let answer = server.get("/api2/json/version", TOKEN).await;
    assert_eq!(answer.line, "HTTP/1.1 200 OK");
    drop(held);
}

#[tokio::test]
async fn who_says_nothing_makes_room_for_who_does() {
    let lab = Lab::new();
    let log = Arc::new(AccessLog::open(lab.path("var/log/access.log")).unwrap());
    let mut registry = Registry::new();
    registry.bind(id::GET_VERSION, |_| Box::pin(async { Ok(json!("here").into()) }));
    registry.bind(id::POST_ACCESS_TICKET, |_| {
        Box::pin(async { Ok(json!("ticket").into()) })
    });
    let server = lab.serve(Role::Root, registry, |config| {
        config.limits.connections = 8;
        // Longer than anybody here waits for an answer: nobody leaves by himself.
        config.limits.idle = Duration::from_secs(600);
        config.access_log = Some(log);
    });
    let slow_body = "POST /api2/json/access/ticket HTTP/1.1\r\nContent-Length: 2000\r\n\r\nusername=";
    let idle = format!("GET /api2/json/version HTTP/1.1\r\n{TOKEN}\r\n");
    is_served_among(&server, vec![Vec::new()]).await;
    is_served_among(&server, vec![b"GET / HTTP/1.1\r\nX: ".to_vec()]).await;
    is_served_among(&server, vec![slow_body.into()]).await;
    is_served_among(&server, vec![idle.into()]).await;
    is_served_among(&server, vec![Vec::new(), b"G".to_vec(), slow_body.into()]).await;
}

/// Whoever has not logged in cannot make a worker hold much.
#[tokio::test]
async fn strangers_bodies_are_small() {
    let lab = Lab::new();
    let server = serve(&lab);
    let ticket = "/api2/json/access/ticket";
    let good = format!("username=root@pam&password={}", "x".repeat(4000));
    assert_eq!(server.send("POST", ticket, "", &good).await.line, "HTTP/1.1 200 OK");
    let answer = server
        .ask(&format!(
            "POST {ticket} HTTP/1.1\r\nContent-Length: 32769\r\n\r\nusername="
        ))
        .await;
    assert_eq!(answer.line, "HTTP/1.1 501 for data too large");
}
