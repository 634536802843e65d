//! The vectors of reference 01 §6 that no other test has, through real sockets. Where the others are:
//!
//! | vectors | test |
//! |---|---|
//! | 1–3, 7, 11, 12 | `calls::malformed_heads_…`, and for port 3128 `tunnel::request` |
//! | 4–6, 8–10, 13–15 | `calls::refusals_have_their_texts`, `calls::a_body_of_512_kib_is_accepted` |
//! | 16–18 | `calls::strangers_wait_three_seconds_for_an_empty_answer` |
//! | 19, 20 | `connections::the_tls_port_serves_tls_and_redirects_the_rest` |
//! | 21, 22 | `connections::the_keep_alive_budget_…`, `connections::http_1_0_…` |
//! | 23, 24, 31 | `calls::errors_carry_…` |
//! | 27 | `forwarding::a_daemon_that_is_down_is_a_595` |
//! | 34–41 | also `pve_schema::decode` |
//! | 42–48 | also `pve_access::credentials`; 48 towards the daemon: `forwarding::only_a_get_…` |
//! | 49–52 | `pve_access::secret`, `tunnels::tickets_are_judged_as_the_vectors_say` |
//! | 53, websocket | `websocket`, `websockets::frames_follow_the_vectors` |
//! | 54, 55, 59 | `pve_daemon::settings`, `pve_daemon::acl` |
//! | SPICE | `tunnels::a_good_ticket_gets_exactly_19_bytes_and_then_the_guest` |

use std::io::Read as _;
use std::sync::Arc;

use flate2::read::ZlibDecoder;
use pve_contract::id;
use pve_daemon::settings::Settings;
use pve_http::{AccessLog, RealIp};
use pve_rest::{ApiResult, Call, Registry, Reply, Role};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::calls::echo;
use crate::support::{Client, Lab, Running, TOKEN, soon, until};

/// The length of vector 26's body.
const LONG: usize = 2011;
const USER: &str = "/api2/json/access/users/joe@pve";

/// Answers with the result that the parameter `comment` names, or with the parameters.
async fn result(call: Call) -> ApiResult {
    match call.params.text("comment") {
        Some("null") => Ok(Reply::null()),
        Some("full") => Ok(Reply {
            data: json!([1, 2]),
            total: Some(5),
            changes: Some("abc".into()),
            ..Reply::default()
        }),
        Some("object") => Ok(json!({"x": 1}).into()),
        Some("long") => Ok(json!("x".repeat(LONG - "{\"data\":\"\"}".len())).into()),
        _ => echo(call).await,
    }
}

fn serve(lab: &Lab) -> Running {
    let mut registry = Registry::new();
    registry.bind(id::GET_VERSION, |_| Box::pin(async { Ok(json!("in").into()) }));
    registry.bind(id::PUT_ACCESS_USERS_USERID, |call| Box::pin(result(call)));
    lab.serve(Role::Root, registry, |_| {})
}

/// Vector 26.
#[tokio::test]
async fn a_body_of_2011_bytes_is_deflated() {
    let server = serve(&Lab::new());
    let accept = format!("{TOKEN}Accept-Encoding: deflate\r\n");
    let answer = server.send("PUT", USER, &accept, "comment=long").await;
    assert_eq!(answer.header("Content-Encoding"), Some("deflate"));
    assert_eq!(answer.body[0], 0x78);
    let mut plain = String::new();
    ZlibDecoder::new(answer.body.as_slice())
        .read_to_string(&mut plain)
        .unwrap();
    assert_eq!(plain.len(), LONG);
    assert!(
        plain.starts_with("{\"data\":\"xxx") && plain.ends_with("xxx\"}"),
        "{plain}"
    );
}

/// Vectors 28, 29, 32, 33.
#[tokio::test]
async fn envelopes_of_results() {
    let server = serve(&Lab::new());
    for (result, format, expected) in [
        ("null", "json", r#"{"data":null}"#),
        ("null", "extjs", r#"{"data":null,"success":1}"#),
        ("full", "json", r#"{"changes":"abc","data":[1,2],"total":5}"#),
        (
            "full",
            "extjs",
            r#"{"changes":"abc","data":[1,2],"success":1,"total":5}"#,
        ),
        (
            "object",
            "htmljs",
            "{&quot;data&quot;:{&quot;x&quot;:1},&quot;success&quot;:1}",
        ),
        ("object", "spiceconfig", "[virt-viewer]\nx=1\n"),
    ] {
        let target = USER.replace("json", format);
        let answer = server.send("PUT", &target, TOKEN, &format!("comment={result}")).await;
        assert_eq!(answer.line, "HTTP/1.1 200 OK");
        match serde_json::from_str::<Value>(expected) {
            Ok(expected) => assert_eq!(answer.json(), expected, "{format}"),
            Err(_) => assert_eq!(answer.text(), expected, "{format}"),
        }
    }
}

/// Vectors 30 and 31.
#[tokio::test]
async fn envelopes_of_errors() {
    let lab = Lab::new();
    let server = serve(&lab);
    let wrong = json!({"data": null, "message": "Parameter verification failed.\n",
        "errors": {"expire": "type check ('integer') failed - got 'x'"}});
    let unknown = json!({"data": null, "message": "Method 'PUT /nosuch' not implemented"});
    for (path, status, line, mut expected) in [
        ("access/users/joe@pve", 400, "400 Parameter verification failed.", wrong),
        ("nosuch", 501, "501 Method 'PUT /nosuch' not implemented", unknown),
    ] {
        let answer = server
            .send("PUT", &format!("/api2/json/{path}"), TOKEN, "expire=x")
            .await;
        assert_eq!(answer.line, format!("HTTP/1.1 {line}"));
        assert_eq!(answer.json(), expected);
        let answer = server
            .send("PUT", &format!("/api2/extjs/{path}"), TOKEN, "expire=x")
            .await;
        expected["success"] = json!(0);
        expected["status"] = json!(status);
        assert_eq!((answer.line.as_str(), answer.json()), ("HTTP/1.1 200 OK", expected));
    }
}

/// Vectors 34 to 41, with names that the method has: in a body, and in a query.
#[tokio::test]
async fn parameters_are_decoded() {
    let lab = Lab::new();
    let server = serve(&lab);
    for (query, body, expected) in [
        ("", "comment=1;email=2@x.y", json!({"comment": "1", "email": "2@x.y"})),
        ("", "groups=a&groups=b&groups=c", json!({"groups": "a,b,c"})),
        ("", "comment=", json!({"comment": ""})),
        ("", "comment=b=c", json!({"comment": "b"})),
        ("", "comment=%C3%A4+x%2B", json!({"comment": "ä x+"})),
        ("", "comment=%zz", json!({"comment": "%zz"})),
        (
            "comment=2&lastname=3",
            "comment=1",
            json!({"comment": "2", "lastname": "3"}),
        ),
        ("", "_dc=99&comment=1", json!({"comment": "1"})),
        ("comment=%C3%A4+x%2B;_dc=7", "", json!({"comment": "ä x+"})),
        ("comment=b=c", "", json!({"comment": "b"})),
        (
            "comment=%zz&groups=a&groups=b",
            "",
            json!({"comment": "%zz", "groups": "a,b"}),
        ),
    ] {
        let answer = server.send("PUT", &format!("{USER}?{query}"), TOKEN, body).await;
        let mut expected = expected;
        expected["userid"] = json!("joe@pve");
        assert_eq!(answer.json()["data"], expected, "{query} {body}: {}", answer.text());
    }
    // What `a` alone means: a null, which is as good as nothing sent.
    let answer = server.send("PUT", USER, TOKEN, "comment").await;
    assert_eq!(answer.json()["data"], json!({"userid": "joe@pve"}));
}

/// Vectors 42 to 47: who is let in.
#[tokio::test]
async fn credentials_are_found() {
    let lab = Lab::new();
    let server = serve(&lab);
    let secret = "6f9c0d53-0000-4000-8000-000000000001";
    let (cookie, _) = lab.session("root@pam");
    let ticket = cookie.trim_end().split_once("PVEAuthCookie=").unwrap().1.to_owned();
    for (header, let_in) in [
        (format!("Authorization: PVEAPIToken=root@pam!ci={secret}"), true),
        (format!("Authorization: PVEAPIToken root%40pam%21ci%3D{secret}"), true),
        (format!("Authorization: pveapitoken=root@pam!ci={secret}"), false),
        (format!("Authorization: PVEAPIToken:root@pam!ci={secret}"), false),
        (format!("Authorization: PVEAPITokenX=root@pam!ci={secret}"), false),
        (format!("Cookie: a=b; PVEAuthCookie={ticket}; c"), true),
        (format!("Cookie: a=b;PVEAuthCookie={ticket}"), false),
        (format!("Cookie: PVEAuthCookie={}", ticket.replace("%3A", ":")), true),
        (format!("Cookie: XPVEAuthCookie={ticket}"), false),
    ] {
        let answer = server.get("/api2/json/version", &format!("{header}\r\n")).await;
        let line = if let_in {
            "HTTP/1.1 200 OK"
        } else {
            "HTTP/1.1 401 No ticket"
        };
        assert_eq!(answer.line, line, "{header}");
    }
}

/// A server with the settings that a file has, as `pveproxy` reads them.
fn with_settings(lab: &Lab, file: &str) -> Running {
    std::fs::create_dir_all(lab.path("etc/default")).unwrap();
    lab.put("etc/default/pveproxy", file);
    let settings = Settings::read(&lab.context.site, "pveproxy").unwrap();
    let log = Arc::new(AccessLog::open(lab.path("var/log/access.log")).unwrap());
    let (hosts, rule) = (settings.hosts, settings.real_ip);
    lab.serve(Role::Web, Registry::new(), move |config| {
        config.access_log = Some(log);
        config.allow = Some(Arc::new(move |peer| hosts.permits(peer)));
        config.real_ip = rule.header.clone().map(|header| RealIp {
            header: header.parse().unwrap(),
            accept: Arc::new(move |peer, value| rule.accept(peer, value)),
        });
    })
}

/// Vectors 56 to 58, with addresses that a test can have.
#[tokio::test]
async fn hosts_are_let_in_as_the_lists_say() {
    let lists = "ALLOW_FROM=\"127.0.0.1-127.0.0.5,127.0.4.0/22\"\nDENY_FROM=\"all\"\n";
    for (file, peer, let_in) in [
        (format!("{lists}POLICY=\"allow\"\n"), "127.0.0.3", true),
        (format!("{lists}POLICY=\"allow\"\n"), "127.0.7.255", true),
        (format!("{lists}POLICY=\"allow\"\n"), "127.0.0.9", false),
        (format!("{lists}POLICY=\"allow\"\n"), "127.0.8.0", false),
        (format!("{lists}POLICY=deny\n"), "127.0.0.3", false),
        ("DENY_FROM=127.0.0.0/24\n".to_owned(), "127.0.0.3", false),
        ("DENY_FROM=127.0.0.0/24\n".to_owned(), "127.0.1.3", true),
    ] {
        let lab = Lab::new();
        let server = with_settings(&lab, &file);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{peer}:0").parse().unwrap()).unwrap();
        let mut client = Client::new(soon(socket.connect(server.address)).await.unwrap());
        // The other end may be closed already.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"GET /x HTTP/1.0\r\n\r\n").await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        let line = answer.lines().next().unwrap_or_default();
        assert_eq!(
            line == "HTTP/1.0 500 no such file '/x'",
            let_in,
            "{file} {peer}: {line:?}"
        );
        assert_eq!(answer.is_empty(), !let_in);
    }
}

/// Vector 60.
#[tokio::test]
async fn the_real_address_is_logged_if_it_is_one() {
    let lab = Lab::new();
    let server = with_settings(
        &lab,
        "PROXY_REAL_IP_HEADER=\"X-Real-IP\"\nPROXY_REAL_IP_ALLOW_FROM=127.0.0.0/8\n",
    );
    for (count, (value, logged)) in [
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("1.2.3.4, 5.6.7.8", "127.0.0.1"),
        ("::ffff:1.2.3.4", "::ffff:102:304"),
    ]
    .into_iter()
    .enumerate()
    {
        server.get("/x", &format!("x-real-ip: {value}\r\n")).await;
        let text = || std::fs::read_to_string(lab.path("var/log/access.log")).unwrap();
        until(async || text().lines().count() == count + 1).await;
        let last = text().lines().last().unwrap().to_owned();
        assert!(last.starts_with(&format!("{logged} - - [")), "{value}: {last}");
    }
}
