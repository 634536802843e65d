//! What answers look like, and what the log says of them.

use crate::node::Node;

#[test]
fn answers_are_compressed_unless_that_is_switched_off() {
    // The answer repeats the path, which makes it long enough.
    let path = "a".repeat(1100);
    let ask = format!("-H Accept-Encoding:gzip -D - -o /dev/null https://127.0.0.1:8006/{path}");
    for (settings, expected) in [("", true), ("COMPRESSION=1", true), ("COMPRESSION=0", false)] {
        let node = Node::start(settings);
        let head = node.curl(&ask);
        assert!(head.starts_with("HTTP/1.1 500 no such file"), "{head}");
        assert_eq!(head.contains("Content-Encoding: gzip"), expected, "{settings}: {head}");
    }
}

#[test]
fn http2_is_offered_where_it_is_switched_on() {
    let node = Node::start("");
    let version = |option: &str| {
        let words = format!("-o /dev/null -w %{{http_version}} {option} https://localhost:8006/");
        node.curl(&words)
    };
    assert_eq!(version("--http2"), "1.1");
    node.settings("HTTP2=1\n");
    let old = node.workers();
    node.reload();
    // Until the new ones are ready the old ones answer, too.
    node.until("the new workers alone", || {
        let now = node.workers();
        !now.is_empty() && now.iter().all(|pid| !old.contains(pid)) && version("--http2") == "2"
    });
    assert_eq!(version("--http1.1"), "1.1");
    // Requests side by side on few connections, by a client of its own make.
    let load = "-n 2000 -c 4 -m 50 https://localhost:8006/";
    let words: Vec<&str> = load.split(' ').collect();
    let output = node.run("h2load", &words);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("Application protocol: h2"), "{told}");
    assert!(
        told.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
        "{told}"
    );
    assert!(node.access_log().contains("\"GET / HTTP/2.0\" 200 "));
}

#[test]
fn the_address_behind_a_reverse_proxy_is_logged_if_it_may_be_believed() {
    let node = Node::start("PROXY_REAL_IP_HEADER=X-Real-IP\nPROXY_REAL_IP_ALLOW_FROM=127.0.0.2,::1\n");
    for (client, server, value, expected) in [
        ("127.0.0.2", "127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.2", "127.0.0.1", "2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("127.0.0.2", "127.0.0.1", "1.2.3.4,5.6.7.8", "::ffff:127.0.0.2"),
        ("127.0.0.3", "127.0.0.1", "198.51.100.7", "::ffff:127.0.0.3"),
        ("::1", "[::1]", "198.51.100.8", "198.51.100.8"),
    ] {
        let before = node.access_log().len();
        let ask = format!("--interface {client} -H x-real-ip:{value} https://{server}:8006/");
        assert_eq!(node.code(&ask), "200");
        node.until("a line", || node.access_log().len() > before);
        let line = node.access_log().split_off(before);
        assert!(
            line.starts_with(&format!("{expected} - - [")),
            "{client} {value}: {line}"
        );
    }
}
