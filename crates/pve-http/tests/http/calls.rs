//! What a call is answered: refusals, formats, parameters (reference 01 §6, vectors 1 to 33).

use std::time::{Duration, Instant};

use pve_contract::id;
use pve_http::AccessLog;
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply, Role};
use pve_schema::Param;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::{Lab, TOKEN, soon};

async fn version(_: Call) -> ApiResult {
    Ok(json!({"version": "9.2", "release": "9.2", "repoid": "0"}).into())
}

/// Answers with the parameters that reached it.
pub(crate) async fn echo(call: Call) -> ApiResult {
    let text = |param: &Param| match param {
        Param::Text(text) => Value::from(text.as_str()),
        other => Value::from(format!("{other:?}")),
    };
    let params: serde_json::Map<_, _> = call
        .params
        .iter()
        .map(|(name, value)| (name.to_owned(), text(value)))
        .collect();
    Ok(Value::Object(params).into())
}

async fn two_lines(_: Call) -> ApiResult {
    Err(ApiError::plain("unable to do it: reason\nsecond line"))
}

async fn carriage_return(_: Call) -> ApiResult {
    Err(ApiError::plain("bad\rthing"))
}

async fn many_rows(_: Call) -> ApiResult {
    let rows: Vec<_> = (0..200).map(|n| json!({"subdir": format!("row{n}")})).collect();
    Ok(Reply::page(rows.into(), 200))
}

async fn unauthorized(_: Call) -> ApiResult {
    Err(ApiError::status(401, "authentication failure\n"))
}

/// Methods of every kind, executed where they are called.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.bind(id::GET_VERSION, |call| Box::pin(version(call)));
    registry.bind(id::PUT_ACCESS_USERS_USERID, |call| Box::pin(echo(call)));
    registry.bind(id::GET_CLUSTER_NEXTID, |call| Box::pin(two_lines(call)));
    registry.bind(id::GET_CLUSTER_TASKS, |call| Box::pin(carriage_return(call)));
    registry.bind(id::GET_CLUSTER, |call| Box::pin(many_rows(call)));
    registry.bind(id::GET_ACCESS, |call| Box::pin(unauthorized(call)));
    registry
}

#[tokio::test]
async fn malformed_heads_are_refused_and_the_connection_closed() {
    let server = Lab::new().serve(Role::Web, registry(), |_| {});
    let many: String = (0..63).map(|n| format!("X-{n}: 1\r\n")).collect();
    for head in [
        "GARBAGE\r\n\r\n".to_owned(),
        "GET / HTTP/2.0\r\n\r\n".to_owned(),
        "GET u@h/x HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nnocolonhere\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8192 - 3)),
        "POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n".to_owned(),
    ] {
        let mut client = server.connect().await;
        client.send(head.as_bytes()).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        let code = answer.split(' ').nth(1).unwrap_or("4xx");
        assert!(code.starts_with('4') || code.starts_with('5'), "{head:.40} -> {answer}");
    }
    let many: String = (0..62).map(|n| format!("X-{n}: 1\r\n")).collect();
    let answer = server.ask(&format!("GET / HTTP/1.1\r\n{many}\r\n")).await;
    assert_eq!(answer.line, "HTTP/1.1 200 OK");
    let answer = server
        .ask(&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8191 - 3)))
        .await;
    assert_eq!(answer.line, "HTTP/1.1 200 OK");
}

/// Vectors 4 to 6, 8 to 10, 13 to 15.
#[tokio::test]
async fn refusals_have_their_texts() {
    let server = Lab::new().serve(Role::Web, registry(), |_| {});
    let version = "/api2/json/version";
    let put = "/api2/json/access/users/joe@pve";
    for (request, line, body) in [
        (
            "HEAD / HTTP/1.1\r\n\r\n".to_owned(),
            "501 method 'HEAD' not available",
            "",
        ),
        (
            format!("get {version} HTTP/1.1\r\n\r\n"),
            "501 method 'get' not available",
            "",
        ),
        (
            format!("POST {version} HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n"),
            "501 chunked transfer encoding not supported",
            "chunked transfer encoding not supported",
        ),
        (
            format!("DELETE {version} HTTP/1.1\r\n{TOKEN}Content-Length: 2\r\n\r\nab"),
            "501 Unexpected content for method 'DELETE'",
            "Unexpected content for method 'DELETE'",
        ),
        (
            format!(
                "PUT {put} HTTP/1.1\r\n{TOKEN}Content-Length: 524289\r\n\r\n{}",
                "x".repeat(524_289)
            ),
            "501 for data too large",
            "for data too large",
        ),
        (
            format!(
                "PUT {put} HTTP/1.1\r\n{TOKEN}Content-Type: Application/JSON\r\nContent-Length: 7\r\n\r\n{{\"a\":1}}"
            ),
            "506 upload 'Content-Type 'Application/JSON' not implemented",
            "upload 'Content-Type 'Application/JSON' not implemented",
        ),
        (
            "GET /nosuch HTTP/1.1\r\n\r\n".to_owned(),
            "500 no such file '/nosuch'",
            "no such file '/nosuch'\n",
        ),
        (
            "POST / HTTP/1.1\r\n\r\n".to_owned(),
            "500 no such file '/'",
            "no such file '/'\n",
        ),
        (
            "GET /favicon.ico HTTP/1.1\r\n\r\n".to_owned(),
            "500 no such file '/favicon.ico'",
            "no such file '/favicon.ico'\n",
        ),
        (
            "GET /api2 HTTP/1.1\r\n\r\n".to_owned(),
            "501 no such uri",
            "no such uri",
        ),
        (
            "GET /api2/x/ok HTTP/1.1\r\n\r\n".to_owned(),
            "501 no such uri",
            "no such uri",
        ),
        (
            "GET /api2foo/json/ok HTTP/1.1\r\n\r\n".to_owned(),
            "501 no such uri",
            "no such uri",
        ),
        (
            format!("GET /api2/foo/version HTTP/1.1\r\n{TOKEN}\r\n"),
            "501 no formatter for uri /version, foo",
            "no formatter for uri /version, foo",
        ),
    ] {
        let mut client = server.connect().await;
        client.send(request.as_bytes()).await;
        let (head, rest) = {
            let all = String::from_utf8(client.rest().await).unwrap();
            let (head, rest) = all.split_once("\r\n\r\n").expect(&all);
            (head.to_owned(), rest.to_owned())
        };
        assert_eq!(head.lines().next().unwrap(), format!("HTTP/1.1 {line}"));
        assert_eq!(rest, body, "{line}");
        assert!(head.contains("\r\nConnection: close"), "{head}");
        assert!(!head.contains("\r\nContent-Type"), "{head}");
    }
}

#[tokio::test]
async fn a_body_of_512_kib_is_accepted() {
    let lab = Lab::new();
    let server = lab.serve(Role::Root, registry(), |_| {});
    let body = format!("comment=x&{}", "&".repeat(524_288 - 10));
    let answer = server
        .send("PUT", "/api2/json/access/users/joe@pve", TOKEN, &body)
        .await;
    assert_eq!(
        (answer.line.as_str(), &answer.json()["data"]["comment"]),
        ("HTTP/1.1 200 OK", &json!("x"))
    );
}

/// Vectors 16 to 18, with the shipped delay.
#[tokio::test]
async fn strangers_wait_three_seconds_for_an_empty_answer() {
    let lab = Lab::new();
    let (cookie, _) = lab.session("root@pam");
    let server = lab.serve(Role::Web, registry(), |config| {
        config.limits.refusal_delay = pve_http::Limits::default().refusal_delay;
    });
    let started = Instant::now();
    let (none, wrong, csrf, html) = tokio::join!(
        server.get("/api2/json/version", ""),
        server.get(
            "/api2/extjs/version",
            "Authorization: PVEAPIToken=root@pam!ci=wrong\r\n"
        ),
        server.send("PUT", "/api2/json/access/users/joe@pve", &cookie, "comment=x"),
        server.get("/api2/html/nodes", ""),
    );
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    for (answer, line) in [
        (&none, "401 No ticket"),
        (&wrong, "401 Authentication failed!"),
        (&csrf, "401 Permission denied - invalid csrf token"),
        (&html, "301 Moved"),
    ] {
        assert_eq!(answer.line, format!("HTTP/1.1 {line}"));
        assert_eq!(
            (answer.header("Content-Length"), answer.header("Content-Type")),
            (Some("0"), None)
        );
    }
    assert_eq!(html.header("Location"), Some("/api2/html/access/ticket"));
    assert_eq!(none.header("Connection"), Some("close"));
}

#[tokio::test]
async fn a_refusal_by_a_handler_takes_as_long_but_has_an_envelope() {
    let server = Lab::new().serve(Role::Root, registry(), |config| {
        config.limits.refusal_delay = Duration::from_millis(400);
    });
    let started = Instant::now();
    let answer = server.get("/api2/json/access", TOKEN).await;
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!(answer.line, "HTTP/1.1 401 authentication failure");
    assert_eq!(
        answer.json(),
        json!({"data": null, "message": "authentication failure\n"})
    );
}

#[tokio::test]
async fn a_session_with_its_csrf_token_may_change_things() {
    let lab = Lab::new();
    let (cookie, full) = lab.session("root@pam");
    let server = lab.serve(Role::Root, registry(), |_| {});
    assert_eq!(server.get("/api2/json/version", &cookie).await.line, "HTTP/1.1 200 OK");
    let answer = server
        .send("PUT", "/api2/json/access/users/joe@pve", &full, "comment=x")
        .await;
    assert_eq!(answer.json()["data"], json!({"userid": "joe@pve", "comment": "x"}));
    let (joe, _) = lab.session("joe@pve");
    let answer = server.get("/api2/json/cluster/tasks", &joe).await;
    assert_eq!(
        answer.line, "HTTP/1.1 400 Bad Request",
        "vector 23: tasks are for every user"
    );
    let answer = server
        .send("PUT", "/api2/json/access/users/joe@pve", &joe, "comment=x&nosuch=1")
        .await;
    assert_eq!(
        answer.line,
        "HTTP/1.1 403 Permission check failed (/access/groups, User.Modify)"
    );
}

/// Vectors 23, 24, 30, 31.
#[tokio::test]
async fn errors_carry_the_first_line_as_reason_and_all_in_the_envelope() {
    let server = Lab::new().serve(Role::Root, registry(), |_| {});
    let answer = server.get("/api2/json/cluster/tasks", TOKEN).await;
    assert_eq!((answer.line.as_str(), answer.text()), ("HTTP/1.1 400 Bad Request", ""));
    let answer = server.get("/api2/json/cluster/nextid", TOKEN).await;
    assert_eq!(answer.line, "HTTP/1.1 500 unable to do it: reason");
    let message = "unable to do it: reason\nsecond line\n";
    assert_eq!(answer.json(), json!({"data": null, "message": message}));
    let answer = server.get("/api2/extjs/cluster/nextid", TOKEN).await;
    assert_eq!(
        (answer.line.as_str(), answer.header("Connection")),
        ("HTTP/1.1 200 OK", Some("Keep-Alive"))
    );
    assert_eq!(
        answer.json(),
        json!({"data": null, "message": message, "status": 500, "success": 0})
    );
    let answer = server.get("/api2/json/nosuch?x=1", TOKEN).await;
    assert_eq!(answer.line, "HTTP/1.1 501 Method 'GET /nosuch' not implemented");
    assert_eq!(
        answer.json(),
        json!({"data": null, "message": "Method 'GET /nosuch' not implemented"})
    );
    let answer = server.get("/api2/json/version?a=x", TOKEN).await;
    assert_eq!(answer.line, "HTTP/1.1 400 Parameter verification failed.");
    let text = "property is not defined in schema and the schema does not allow additional properties";
    let errors = json!({"data": null, "errors": {"a": text}, "message": "Parameter verification failed.\n"});
    assert_eq!(answer.json(), errors);
}

#[tokio::test]
async fn an_answer_has_upstreams_headers() {
    let server = Lab::new().serve(Role::Root, registry(), |_| {});
    let answer = server.get("/api2/json/version", TOKEN).await;
    let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Cache-Control",
            "Connection",
            "Date",
            "Pragma",
            "Server",
            "Content-Length",
            "Content-Type",
            "Expires"
        ]
    );
    assert_eq!(answer.header("Server"), Some("pve-api-daemon/3.0"));
    assert_eq!(answer.header("Cache-Control"), Some("max-age=0"));
    assert_eq!(answer.header("Date"), answer.header("Expires"));
    assert_eq!(answer.header("Content-Type"), Some("application/json;charset=UTF-8"));
    let answer = server.get("/api2/htmljs/version", TOKEN).await;
    assert_eq!(answer.header("Content-Type"), Some("text/html;charset=UTF-8"));
    assert!(answer.text().starts_with("{&quot;data&quot;:{"), "{}", answer.text());
}

/// Vector 26 and its like.
#[tokio::test]
async fn large_answers_are_compressed_if_the_client_can_read_that() {
    let lab = Lab::new();
    let server = lab.serve(Role::Root, registry(), |_| {});
    let plain = server.get("/api2/json/cluster", TOKEN).await;
    assert_eq!(plain.header("Content-Encoding"), None);
    assert_eq!(plain.json()["total"], 200);
    for (accept, encoding, start) in [("deflate", "deflate", 0x78), ("gzip, deflate, br", "gzip", 0x1f)] {
        let headers = format!("{TOKEN}Accept-Encoding: {accept}\r\n");
        let packed = server.get("/api2/json/cluster", &headers).await;
        assert_eq!(packed.header("Content-Encoding"), Some(encoding));
        assert_eq!(packed.body[0], start);
        assert!(packed.body.len() * 3 < plain.body.len());
        let small = server.get("/api2/json/version", &headers).await;
        assert_eq!(small.header("Content-Encoding"), None);
    }
    let off = lab.serve(Role::Root, registry(), |config| config.compression = false);
    let answer = off
        .get("/api2/json/cluster", &format!("{TOKEN}Accept-Encoding: gzip\r\n"))
        .await;
    assert_eq!(answer.body, plain.body);
}

#[tokio::test]
async fn parameters_come_from_form_json_and_query() {
    let server = Lab::new().serve(Role::Root, registry(), |_| {});
    let target = "/api2/json/access/users/joe@pve";
    let form = format!("{TOKEN}Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n");
    let json_type = format!("{TOKEN}Content-Type: application/json\r\n");
    for (query, headers, body, comment) in [
        ("", &form, "comment=%C3%A4+x%2B", json!("ä x+")),
        ("?comment=q&_dc=1", &form, "comment=b", json!("q")),
        ("", &json_type, "{\"comment\":\"j\"}", json!("j")),
        ("", &json_type, "", Value::Null),
    ] {
        let answer = server.send("PUT", &format!("{target}{query}"), headers, body).await;
        assert_eq!(answer.line, "HTTP/1.1 200 OK", "{}", answer.text());
        assert_eq!(
            answer.json()["data"].get("comment").cloned().unwrap_or_default(),
            comment
        );
    }
    for body in ["{", "[1]"] {
        let answer = server.send("PUT", target, &json_type, body).await;
        assert!(
            answer.line.starts_with("HTTP/1.1 400 malformed JSON string, "),
            "{}",
            answer.line
        );
    }
}

#[tokio::test]
async fn every_request_leaves_one_line_in_the_access_log() {
    let lab = Lab::new();
    let path = lab.path("var/log/access.log");
    let log = Arc::new(AccessLog::open(&path).unwrap());
    let server = lab.serve(Role::Root, registry(), |config| {
        config.access_log = Some(Arc::clone(&log))
    });
    let length = server.get("/api2/json/version?_dc=%41", TOKEN).await.body.len();
    server.get("/api2/json/version", "").await;
    server.get("/nosuch", "").await;
    // A request whose body never comes whole.
    let mut client = server.connect().await;
    let head = format!("PUT /api2/json/access/users/joe@pve HTTP/1.1\r\n{TOKEN}Content-Length: 9\r\n\r\nabc");
    client.send(head.as_bytes()).await;
    drop(client);
    let lines = soon(async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.lines().count() >= 4 {
                break text;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let tails: Vec<_> = lines.lines().map(|line| line.split_once('[').unwrap()).collect();
    let expected = [
        (
            "root@pam!ci",
            format!("\"GET /api2/json/version?_dc=%41 HTTP/1.1\" 200 {length}"),
        ),
        ("-", "\"GET /api2/json/version HTTP/1.1\" 401 -".to_owned()),
        ("-", "\"GET /nosuch HTTP/1.1\" 500 23".to_owned()),
        (
            "root@pam!ci",
            "\"PUT /api2/json/access/users/joe@pve HTTP/1.1\" 500 -".to_owned(),
        ),
    ];
    for ((before, after), (user, tail)) in tails.iter().zip(expected) {
        assert_eq!(*before, format!("127.0.0.1 - {user} "));
        assert_eq!(after.split_once("] ").unwrap().1, tail);
    }
}

#[tokio::test]
async fn the_start_page_needs_no_login_and_trusts_no_host() {
    let server = Lab::new().serve(Role::Web, registry(), |_| {});
    let answer = server.get("/", "").await;
    assert_eq!(
        (answer.line.as_str(), answer.header("Content-Type")),
        ("HTTP/1.1 200 OK", Some("text/html; charset=utf-8"))
    );
    assert!(answer.text().contains("https://node1:8006/api2/json/access/ticket"));
    let answer = server.ask("GET / HTTP/1.1\r\nHost: <script>\r\n\r\n").await;
    assert!(!answer.text().contains("<script>"));
}
