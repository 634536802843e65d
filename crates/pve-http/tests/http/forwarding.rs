//! Calls that the proxy passes on to the daemon (reference 01 §4.1, §4.2).

use std::time::Duration;

use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Registry, Role};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::calls::echo;
use crate::support::{Client, Lab, Running, TOKEN, soon};

/// Tells who asks, as the daemon sees it.
async fn who(call: Call) -> ApiResult {
    Ok(json!({
        "caller": call.caller.map(|caller| caller.to_string()),
        "address": call.client.address.map(|address| address.to_string()),
        "host": call.client.host,
    })
    .into())
}

async fn refused(_: Call) -> ApiResult {
    Err(ApiError::status(409, "busy\nvery busy\n"))
}

/// A daemon and a proxy before it.
fn pair(lab: &Lab) -> (Running, Running) {
    let mut root = Registry::new();
    root.bind(id::GET_ACCESS_TFA, |call| Box::pin(who(call)));
    root.bind(id::PUT_ACCESS_USERS_USERID, |call| Box::pin(echo(call)));
    root.bind(id::DELETE_ACCESS_USERS_USERID, |call| Box::pin(refused(call)));
    root.bind(id::GET_CLUSTER_BACKUP, |call| {
        Box::pin(async {
            let _ = call;
            let rows: Vec<_> = (0..200).map(|n| json!({"id": format!("job-{n}")})).collect();
            Ok(Value::from(rows).into())
        })
    });
    let daemon = lab.serve(Role::Root, root, |_| {});
    let port = daemon.address.port();
    let proxy = lab.serve(Role::Web, registry_of_the_web_side(), |config| {
        config.daemon_port = port;
    });
    (daemon, proxy)
}

fn registry_of_the_web_side() -> Registry {
    let mut web = Registry::new();
    web.bind(id::GET_VERSION, |_| Box::pin(async { Ok(json!("here").into()) }));
    web
}

#[tokio::test]
async fn unprivileged_methods_run_here_and_the_rest_in_the_daemon() {
    let lab = Lab::new();
    let (_daemon, proxy) = pair(&lab);
    assert_eq!(
        proxy.get("/api2/json/version", TOKEN).await.json(),
        json!({"data": "here"})
    );
    let expected = json!({"caller": "root@pam!ci", "address": "127.0.0.1", "host": "node1:8006"});
    // Twice: the second goes over a connection from the pool.
    for _ in 0..2 {
        let answer = proxy.get("/api2/json/access/tfa", TOKEN).await;
        assert_eq!(answer.line, "HTTP/1.1 200 OK");
        assert_eq!(answer.json()["data"], expected);
        let connection = answer.headers.iter().filter(|(name, _)| name == "Connection").count();
        assert_eq!(connection, 1, "{:?}", answer.headers);
    }
    let (cookie, _) = lab.session("root@pam");
    let answer = proxy
        .get("/api2/json/access/tfa", &format!("{cookie}PVEClientIP: 192.0.2.1\r\n"))
        .await;
    assert_eq!(
        (&answer.json()["data"]["caller"], &answer.json()["data"]["address"]),
        (&json!("root@pam"), &json!("127.0.0.1"))
    );
}

#[tokio::test]
async fn the_daemon_believes_its_proxy_about_the_client() {
    let lab = Lab::new();
    let (daemon, _proxy) = pair(&lab);
    let answer = daemon
        .get(
            "/api2/json/access/tfa",
            &format!("{TOKEN}PVEClientIP: ::ffff:192.0.2.1\r\n"),
        )
        .await;
    assert_eq!(answer.json()["data"]["address"], "::ffff:192.0.2.1");
}

#[tokio::test]
async fn parameters_status_and_reason_pass_unchanged() {
    let lab = Lab::new();
    let (_daemon, proxy) = pair(&lab);
    let (_, session) = lab.session("root@pam");
    let user = "/api2/json/access/users/joe@pve";
    for (headers, body) in [
        (session.clone(), "comment=%C3%A4%20%3D%26%3B%2B"),
        (
            format!("{session}Content-Type: application/json\r\n"),
            "{\"comment\":\"ä =&;+\"}",
        ),
    ] {
        let answer = proxy
            .send("PUT", &format!("{user}?email=a%40b.c"), &headers, body)
            .await;
        assert_eq!(answer.line, "HTTP/1.1 200 OK", "{}", answer.text());
        assert_eq!(
            answer.json()["data"],
            json!({"userid": "joe@pve", "comment": "ä =&;+", "email": "a@b.c"})
        );
    }
    let answer = proxy.ask(&format!("DELETE {user} HTTP/1.1\r\n{session}\r\n")).await;
    assert_eq!(answer.line, "HTTP/1.1 409 busy");
    assert_eq!(answer.json(), json!({"data": null, "message": "busy\nvery busy\n"}));
    let answer = proxy
        .send("PUT", "/api2/extjs/access/users/joe@pve", &session, "nosuch=1")
        .await;
    assert_eq!(
        (answer.line.as_str(), &answer.json()["status"]),
        ("HTTP/1.1 200 OK", &json!(400))
    );
}

#[tokio::test]
async fn the_daemon_compresses_for_the_proxys_client() {
    let lab = Lab::new();
    let (_daemon, proxy) = pair(&lab);
    let plain = proxy.get("/api2/json/cluster/backup", TOKEN).await;
    assert_eq!(plain.json()["data"].as_array().unwrap().len(), 200);
    let packed = proxy
        .get(
            "/api2/json/cluster/backup",
            &format!("{TOKEN}Accept-Encoding: br, gzip\r\n"),
        )
        .await;
    assert_eq!(
        (packed.header("Content-Encoding"), packed.body[0]),
        (Some("gzip"), 0x1f)
    );
}

/// Vector 27.
#[tokio::test]
async fn a_daemon_that_is_down_is_a_595() {
    let lab = Lab::new();
    let (_held, closed) = pve_testing::held_port([127, 0, 0, 1]);
    let proxy = lab.serve(Role::Web, Registry::new(), |config| config.daemon_port = closed.port());
    let answer = proxy.get("/api2/json/access/tfa", TOKEN).await;
    assert_eq!(
        (answer.line.as_str(), answer.text()),
        ("HTTP/1.1 595 Connection refused", "")
    );
}

#[tokio::test]
async fn a_daemon_that_says_nothing_is_a_596() {
    let lab = Lab::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let proxy = lab.serve(Role::Web, Registry::new(), |config| {
        config.daemon_port = port;
        config.limits.backend_idle = Duration::from_millis(200);
    });
    let answer = proxy.get("/api2/json/access/tfa", TOKEN).await;
    assert_eq!(
        (answer.line.as_str(), answer.text()),
        ("HTTP/1.1 596 Connection timed out", "")
    );
}

/// A GET may be said twice, a change may not.
#[tokio::test]
async fn only_a_get_is_repeated_when_the_connection_breaks() {
    let lab = Lab::new();
    let breaking = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = breaking.local_addr().unwrap().port();
    let (seen, mut heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = breaking.accept().await {
            let mut bytes = vec![0; 4096];
            let count = stream.read(&mut bytes).await.unwrap_or(0);
            let _ = seen.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }
    });
    let proxy = lab.serve(Role::Web, Registry::new(), |config| config.daemon_port = port);
    let (_, session) = lab.session("root@pam");
    let answer = proxy
        .send("PUT", "/api2/json/access/users/joe@pve?a=%20b", &session, "comment=x")
        .await;
    assert_eq!(answer.line, "HTTP/1.1 596 Broken pipe");
    let head = soon(heads.recv()).await.unwrap();
    for expected in [
        "PUT /api2/json/access/users/joe@pve?a=%20b HTTP/1.1\r\n",
        "Host: node1:8006\r\n",
        "Pvedisableproxy: true\r\n",
        "Pveclientip: 127.0.0.1\r\n",
        "Cookie: PVEAuthCookie=PVE%3Aroot%40pam%3A",
        "; path=/; secure; SameSite=Lax;\r\n",
        "Csrfpreventiontoken: ",
        "Content-Type: application/x-www-form-urlencoded\r\n",
    ] {
        assert!(head.contains(expected), "{expected} in {head}");
    }
    assert!(heads.try_recv().is_err(), "said once");
    assert_eq!(
        proxy.get("/api2/json/access/tfa", TOKEN).await.line,
        "HTTP/1.1 596 Broken pipe"
    );
    let first = soon(heads.recv()).await.unwrap();
    assert!(
        first.contains("Authorization: PVEAPIToken root%40pam%21ci%3D6f9c0d53-"),
        "{first}"
    );
    assert_eq!(
        soon(heads.recv()).await.unwrap().lines().next(),
        first.lines().next(),
        "said twice"
    );
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_a_change() {
    static DONE: tokio::sync::Notify = tokio::sync::Notify::const_new();
    static BEGUN: tokio::sync::Notify = tokio::sync::Notify::const_new();
    static GONE: tokio::sync::Notify = tokio::sync::Notify::const_new();
    let lab = Lab::new();
    let mut root = Registry::new();
    root.bind(id::PUT_ACCESS_USERS_USERID, |_| {
        Box::pin(async {
            BEGUN.notify_one();
            GONE.notified().await;
            DONE.notify_one();
            Ok(Value::Null.into())
        })
    });
    let daemon = lab.serve(Role::Root, root, |_| {});
    let mut client: Client<_> = daemon.connect().await;
    let head = format!("PUT /api2/json/access/users/joe@pve HTTP/1.1\r\n{TOKEN}Content-Length: 0\r\n\r\n");
    client.send(head.as_bytes()).await;
    soon(BEGUN.notified()).await;
    drop(client);
    GONE.notify_one();
    soon(DONE.notified()).await;
}
