//! What `check` says of settings and the files that they name.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use crate::node::Node;

/// Runs `check` on a root directory: what it prints, and its exit code.
fn check(node: &Node, verb: &str) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_pveproxy"))
        .args([verb, "--node", "node1", "--root"])
        .arg(node.directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace(&format!("{}/", node.directory.path().display()), "/");
    (text, output.status.code())
}

#[test]
fn a_check_finds_nothing_wrong_with_a_good_node() {
    let node = Node::new("MAX_WORKERS=4\nCIPHERS=ECDHE+AESGCM\n");
    for verb in ["check", "--check", "ch"] {
        assert_eq!(
            check(&node, verb),
            ("pveproxy: 0 error(s), 0 warning(s)\n".to_owned(), Some(0)),
            "{verb}"
        );
    }
}

#[test]
fn a_check_names_every_problem_with_file_line_key_and_remedy() {
    let node = Node::new(
        "POLICY=Deny\nMAX_WORKERS=500\nCIPHERS=AES128-SHA\nDHPARAMS=/nowhere/dh.pem\nLISTENIP=::\nPROXY_REAL_IP_HEADER='a b'\n",
    );
    let key = node.path("etc/pve/nodes/node1/pve-ssl.key");
    chown(&key, Some(0), Some(0)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let (text, code) = check(&node, "check");
    assert_eq!(code, Some(1), "{text}");
    let file = "/etc/default/pveproxy";
    for line in [
        format!("{file}:1: error: POLICY: unknown policy 'Deny'\n    Use allow or deny"),
        format!("{file}:2: warning: MAX_WORKERS: "),
        format!("{file}:3: error: CIPHERS: 'AES128-SHA' was not accepted as a valid cipher list - none of its"),
        format!("{file}:4: error: DHPARAMS: /nowhere/dh.pem: failed to open DH parameter file: No such file"),
        format!("{file}:5: warning: LISTENIP: no such setting\n    Did you mean LISTEN_IP?"),
        format!("{file}:6: error: PROXY_REAL_IP_HEADER: 'a b' is no header name\n    Use the name of a header"),
    ] {
        assert!(text.contains(&line), "{line}\nin\n{text}");
    }
    assert!(
        text.contains("pve-ssl.key") && text.contains("Permission denied"),
        "read as www-data: {text}"
    );
    assert!(text.ends_with("pveproxy: 5 error(s), 2 warning(s)\n"), "{text}");
}

#[test]
fn a_check_looks_at_certificates_and_their_ciphers() {
    let node = Node::new("CIPHERS=ECDHE+ECDSA+AESGCM:AES256-SHA\nTLS_KEY_FILE=/nowhere/key\n");
    let (text, code) = check(&node, "check");
    assert_eq!(code, Some(0), "{text}");
    for part in [
        ":1: warning: CIPHERS: left out, without forward secrecy or authenticated encryption: AES256-SHA\n",
        ":1: warning: CIPHERS: no cipher of the list goes with the key of /etc/pve/local/pve-ssl.pem\n",
        ":2: warning: TLS_KEY_FILE: not used: /nowhere/key or pveproxy-ssl.pem is missing\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let key = node.path("etc/pve/nodes/node1/pve-ssl.key");
    let certificate = fs::read(node.path("etc/pve/nodes/node1/pve-ssl.pem")).unwrap();
    node.make_certificate("pve-ssl", "other");
    fs::write(node.path("etc/pve/nodes/node1/pve-ssl.pem"), certificate).unwrap();
    let (text, code) = check(&node, "check");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/etc/pve/local/pve-ssl.pem: error: "), "{text}");
    fs::write(key, "nothing").unwrap();
    let (text, code) = check(&node, "check");
    assert_eq!(code, Some(1), "{text}");
    let expected = "/etc/pve/local/pve-ssl.key: failed to load local private key (key_file or key)\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_check_looks_at_the_dates_and_names_of_certificates() {
    let node = Node::new("");
    let file = "/etc/pve/local/pve-ssl.pem:";
    for (days, subject, expected, code) in [
        (60, "node1", String::new(), 0),
        (20, "node1", format!("{file} warning: the certificate expires in "), 0),
        (
            60,
            "other.example",
            format!("{file} warning: the certificate does not name the node 'node1' in its subjectAltName\n"),
            0,
        ),
        (60, "NODE1.example", String::new(), 0),
    ] {
        node.make_certificate_for(
            "pve-ssl",
            subject,
            days,
            &format!("-addext subjectAltName=DNS:{subject}"),
        );
        let (text, found) = check(&node, "check");
        assert!(text.contains(&expected), "{text}");
        assert_eq!(found, Some(code), "{text}");
        if expected.is_empty() {
            assert_eq!(text, "pveproxy: 0 error(s), 0 warning(s)\n");
        }
    }
    node.make_certificate_for("pve-ssl", "node1", 20, "-addext subjectAltName=DNS:node1");
    assert!(
        check(&node, "check")
            .0
            .contains("day(s)\n    'pvecm updatecerts --force' makes a new one.\n")
    );
    node.make_certificate("pve-ssl", "node1");
    // The web interface's own one may have any name, but must have one.
    node.make_certificate_for(
        "pveproxy-ssl",
        "web.example",
        60,
        "-addext subjectAltName=DNS:web.example",
    );
    assert_eq!(check(&node, "check").0, "pveproxy: 0 error(s), 0 warning(s)\n");
    node.make_certificate_for("pveproxy-ssl", "web.example", 60, "");
    let (text, code) = check(&node, "check");
    let expected = "/etc/pve/local/pveproxy-ssl.pem: warning: the certificate names no host in its subjectAltName";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_check_knows_where_metrics_may_be() {
    for (value, expected, code) in [
        ("127.0.0.1:9226", "pveproxy: 0 error(s)".to_owned(), 0),
        (
            "0.0.0.0:9226",
            "/etc/default/pveproxy:1: error: METRICS_LISTEN: '0.0.0.0:9226' is no loopback address with a port\n    Use"
                .to_owned(),
            1,
        ),
    ] {
        let node = Node::new(&format!("METRICS_LISTEN={value}\n"));
        let (text, found) = check(&node, "check");
        assert!(text.starts_with(&expected), "{text}");
        assert_eq!(found, Some(code));
    }
}
