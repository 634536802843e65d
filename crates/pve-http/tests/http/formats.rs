//! Formats for people and pictures, through real sockets: `html` and `png` (reference 01 §3.8, §3.9).

use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry, Role};
use serde_json::json;

use crate::support::{Lab, TOKEN};

/// The smallest picture there is, one byte a character as a handler answers it.
const PICTURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

async fn graph(_: Call) -> ApiResult {
    let image: String = PICTURE.iter().copied().map(char::from).collect();
    Ok(json!({"filename": "/var/lib/rrdcached/db/pve-node-9.0/node1_cpu.png", "image": image}).into())
}

fn registry() -> Registry {
    let mut registry = crate::calls::registry();
    registry.bind(id::GET_NODES_NODE_RRD, |call| Box::pin(graph(call)));
    registry.bind(id::GET_NODES, |_| {
        Box::pin(async { Ok(json!([{"node": "node1", "status": "online"}]).into()) })
    });
    registry.bind(id::GET_ACCESS_TICKET, |_| Box::pin(async { Ok(json!(null).into()) }));
    registry.bind(id::POST_ACCESS_TICKET, |_| {
        Box::pin(async { Ok(json!({"ticket": "PVE:root@pam:65B0C0DE::aGVsbG8+/w=="}).into()) })
    });
    registry
}

#[tokio::test]
async fn png_is_a_picture_on_its_way_through_both_daemons() {
    let lab = Lab::new();
    let daemon = lab.serve(Role::Root, registry(), |_| {});
    let server = lab.serve(Role::Web, Registry::new(), |config| {
        config.daemon_port = daemon.address.port()
    });
    let target = "nodes/node1/rrd?timeframe=hour&ds=cpu";
    let answer = server
        .get(
            &format!("/api2/png/{target}"),
            &format!("{TOKEN}Accept-Encoding: gzip\r\n"),
        )
        .await;
    assert_eq!(
        (answer.line.as_str(), answer.body.as_slice()),
        ("HTTP/1.1 200 OK", &PICTURE[..])
    );
    assert_eq!(answer.header("Content-Type"), Some("image/png"));
    assert_eq!(answer.header("Content-Encoding"), None);
    let answer = server.get(&format!("/api2/json/{target}"), TOKEN).await;
    assert!(
        answer.json()["data"]["filename"]
            .as_str()
            .unwrap()
            .ends_with("node1_cpu.png")
    );
    let answer = server
        .get("/api2/png/nodes/node1/rrd?timeframe=eon&ds=cpu", TOKEN)
        .await;
    assert_eq!(
        (answer.line.as_str(), answer.text()),
        ("HTTP/1.1 400 Parameter verification failed.", "")
    );
}

#[tokio::test]
async fn html_is_for_people() {
    let lab = Lab::new();
    let (cookie, _) = lab.session("root@pam");
    let server = lab.serve(Role::Root, registry(), |_| {});
    let answer = server.get("/api2/html/nodes/", &cookie).await;
    assert_eq!(answer.header("Content-Type"), Some("text/html;charset=UTF-8"));
    let page = answer.text();
    assert!(page.contains("<a href=\"/api2/html/nodes/node1\">node1</a>"), "{page}");
    assert!(page.contains("<script>const CSRFPreventionToken = \""), "{page}");
    let answer = server.get("/api2/html/version", TOKEN).await;
    assert!(answer.text().contains("&quot;version&quot;: &quot;9.2&quot;"));
    assert!(!answer.text().contains("<script>"), "a token needs no other");
    let answer = server.get("/api2/html/cluster/nextid", TOKEN).await;
    assert_eq!(answer.line, "HTTP/1.1 500 unable to do it: reason");
    assert!(
        answer
            .text()
            .contains("<b>Error 500:</b> unable to do it: reason\nsecond line")
    );
}

/// Vector 18, and what follows it: the form, and the way in.
#[tokio::test]
async fn html_sends_strangers_to_its_form() {
    let server = Lab::new().serve(Role::Root, registry(), |_| {});
    let answer = server.get("/api2/html/nodes", "").await;
    assert_eq!(answer.line, "HTTP/1.1 301 Moved");
    assert_eq!(answer.header("Location"), Some("/api2/html/access/ticket"));
    let answer = server.get("/api2/html/access/ticket", "").await;
    assert_eq!(answer.line, "HTTP/1.1 200 OK");
    assert!(
        answer
            .text()
            .contains("<form method=\"post\" action=\"/api2/html/access/ticket\">")
    );
    let answer = server
        .send(
            "POST",
            "/api2/html/access/ticket",
            "",
            "username=root@pam&password=secret",
        )
        .await;
    assert_eq!(
        (answer.line.as_str(), answer.header("Location")),
        ("HTTP/1.1 303 See Other", Some("/api2/html"))
    );
    assert_eq!(
        answer.header("Set-Cookie"),
        Some("PVEAuthCookie=PVE%3Aroot%40pam%3A65B0C0DE%3A%3AaGVsbG8%2B%2Fw%3D%3D; path=/; secure; SameSite=Lax;")
    );
}

/// Who is sent to us by a page of another site is not logged in under that page's name.
#[tokio::test]
async fn a_form_of_another_site_logs_nobody_in() {
    let server = Lab::new().serve(Role::Root, registry(), |_| {});
    for (headers, expected) in [
        ("Origin: https://evil.example\r\n", "403"),
        ("Origin: null\r\n", "403"),
        ("Sec-Fetch-Site: cross-site\r\n", "403"),
        ("Sec-Fetch-Site: same-site\r\nOrigin: https://node1:8006\r\n", "403"),
        ("Sec-Fetch-Site: same-origin\r\n", "303"),
        ("Origin: https://node1:8006\r\n", "303"),
        ("", "303"),
    ] {
        let form = "username=root@pam&password=secret";
        let answer = server.send("POST", "/api2/html/access/ticket", headers, form).await;
        assert!(
            answer.line.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{headers}: {}",
            answer.line
        );
        assert_eq!(answer.header("Set-Cookie").is_some(), expected == "303", "{headers}");
    }
    // Scripts of other sites cannot read an answer, so other formats are as ever.
    let answer = server
        .send(
            "POST",
            "/api2/json/access/ticket",
            "Origin: https://evil.example\r\n",
            "username=root@pam&password=secret",
        )
        .await;
    assert_eq!(answer.line, "HTTP/1.1 200 OK");
}
