//! Keys and certificates as `openssl` sees them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pve_node::{Report, fingerprint, updatecerts};
use pve_schema::site::Ids;
use pve_schema::{Context, Site};

fn context(root: &Path) -> Context {
    Context::new(Site {
        root: root.to_owned(),
        instance: None,
        address: [127, 0, 0, 7].into(),
        node: "pve1".parse().unwrap(),
        root_user: Ids { uid: 0, gid: 0 },
        web_user: Ids { uid: 33, gid: 33 },
    })
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
    text
}

struct Node {
    _dir: tempfile::TempDir,
    context: Context,
    etc: PathBuf,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/ssh")).unwrap();
        fs::write(dir.path().join("etc/resolv.conf"), "search lab.example\n").unwrap();
        fs::write(dir.path().join("etc/ssh/ssh_host_rsa_key.pub"), "ssh-rsa QUJD root@x\n").unwrap();
        Self {
            context: context(dir.path()),
            etc: dir.path().join("etc/pve"),
            _dir: dir,
        }
    }

    fn run(&self) -> Report {
        updatecerts(&self.context).unwrap()
    }

    fn path(&self, rel: &str) -> String {
        self.etc.join(rel).to_str().unwrap().to_owned()
    }

    fn read(&self, rel: &str) -> String {
        fs::read_to_string(self.etc.join(rel)).unwrap()
    }

    fn show(&self, rel: &str) -> String {
        openssl(&[
            "x509",
            "-in",
            &self.path(rel),
            "-noout",
            "-text",
            "-nameopt",
            "RFC2253,-dn_rev",
        ])
    }
}

#[test]
fn a_fresh_node_gets_keys_and_certificates_that_openssl_accepts() {
    let node = Node::new();
    let report = node.run();
    assert_eq!(
        report.created,
        [
            "priv/authkey.key",
            "authkey.pub",
            "pve-www.key",
            "nodes/pve1/pve-ssl.key",
            "priv/pve-root-ca.key",
            "pve-root-ca.pem",
            "priv/pve-root-ca.srl",
            "nodes/pve1/pve-ssl.pem",
            "nodes/pve1/ssh_known_hosts",
        ]
    );
    assert_eq!(report.renewed, None);
    for (rel, mode) in [
        ("priv/authkey.key", 0o600),
        ("authkey.pub", 0o640),
        ("pve-www.key", 0o640),
        ("priv/pve-root-ca.key", 0o600),
        ("pve-root-ca.pem", 0o640),
        ("nodes/pve1/pve-ssl.key", 0o640),
    ] {
        let meta = fs::metadata(node.etc.join(rel)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{rel}");
    }
    for (rel, bits) in [
        ("priv/authkey.key", 2048),
        ("pve-www.key", 2048),
        ("nodes/pve1/pve-ssl.key", 2048),
        ("priv/pve-root-ca.key", 4096),
    ] {
        assert!(node.read(rel).starts_with("-----BEGIN PRIVATE KEY-----\n"), "{rel}");
        let text = openssl(&["pkey", "-in", &node.path(rel), "-noout", "-text"]);
        assert!(text.contains(&format!("({bits} bit")), "{rel}: {text}");
    }
    let public = openssl(&["pkey", "-in", &node.path("priv/authkey.key"), "-pubout"]);
    assert_eq!(node.read("authkey.pub").replace("\r\n", "\n"), public);
    assert_eq!(node.read("priv/pve-root-ca.srl"), "01\n");
    assert_eq!(node.read("nodes/pve1/ssh_known_hosts"), "pve1 ssh-rsa QUJD");

    let authority = node.path("pve-root-ca.pem");
    for host in ["pve1", "pve1.lab.example", "localhost"] {
        openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            host,
            "-CAfile",
            &authority,
            &node.path("local/pve-ssl.pem"),
        ]);
    }
    for address in ["127.0.0.1", "::1", "127.0.0.7"] {
        openssl(&[
            "verify",
            "-x509_strict",
            "-verify_ip",
            address,
            "-CAfile",
            &authority,
            &node.path("local/pve-ssl.pem"),
        ]);
    }
}

#[test]
fn certificates_say_what_upstreams_say() {
    let node = Node::new();
    node.run();
    let authority = node.show("pve-root-ca.pem");
    for part in [
        "Signature Algorithm: sha256WithRSAEncryption",
        "Subject: CN=Proxmox Virtual Environment,OU=",
        ",O=PVE Cluster Manager CA",
        "X509v3 Basic Constraints: critical\n                CA:TRUE",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(authority.contains(part), "{part}\n{authority}");
    }
    let own = node.show("nodes/pve1/pve-ssl.pem");
    for part in [
        "Serial Number: 1 (0x1)",
        "Subject: OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN=pve1.lab.example",
        "IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:localhost, IP Address:127.0.0.7, DNS:pve1, DNS:pve1.lab.example",
        "CA:FALSE",
        "TLS Web Server Authentication",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(own.contains(part), "{part}\n{own}");
    }
    let now = self::now();
    let within = |rel: &str, days: i64| {
        let end = now + days * 86_400 - 86_400;
        let flag = |seconds: i64| {
            Command::new("openssl")
                .args([
                    "x509",
                    "-in",
                    &node.path(rel),
                    "-noout",
                    "-checkend",
                    &(seconds - now).to_string(),
                ])
                .status()
                .unwrap()
                .success()
        };
        assert!(
            flag(end - 600) && !flag(end + 600),
            "{rel} is valid for {days} days from yesterday"
        );
    };
    within("pve-root-ca.pem", 3650);
    within("nodes/pve1/pve-ssl.pem", 730);
}

fn now() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    now.as_secs().try_into().unwrap()
}

#[test]
fn the_fingerprint_is_openssls() {
    let node = Node::new();
    let cfs = pve_cfs::Cfs::new(&node.context);
    assert_eq!(fingerprint(&cfs, "pve1").unwrap(), None);
    node.run();
    let text = openssl(&[
        "x509",
        "-in",
        &node.path("local/pve-ssl.pem"),
        "-noout",
        "-fingerprint",
        "-sha256",
    ]);
    assert_eq!(
        fingerprint(&cfs, "pve1").unwrap().as_deref(),
        text.trim().split('=').nth(1)
    );
}

#[test]
fn a_second_run_changes_nothing_and_a_lost_file_is_made_again() {
    let node = Node::new();
    node.run();
    let before = node.read("nodes/pve1/pve-ssl.pem");
    assert!(node.run().is_empty());
    fs::remove_file(node.etc.join("authkey.pub")).unwrap();
    assert_eq!(node.run().created, ["authkey.pub"], "made from the private key");
    let public = openssl(&["pkey", "-in", &node.path("priv/authkey.key"), "-pubout"]);
    assert_eq!(node.read("authkey.pub").replace("\r\n", "\n"), public);

    fs::remove_file(node.etc.join("pve-root-ca.pem")).unwrap();
    let report = node.run();
    assert_eq!(
        report.created,
        ["pve-root-ca.pem", "priv/pve-root-ca.srl", "nodes/pve1/pve-ssl.pem"]
    );
    assert_eq!(report.renewed.as_deref(), Some("new CA"));
    assert_ne!(node.read("nodes/pve1/pve-ssl.pem"), before);
    assert_eq!(node.read("priv/pve-root-ca.srl"), "02\n");
    openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        &node.path("pve-root-ca.pem"),
        &node.path("local/pve-ssl.pem"),
    ]);
}

#[test]
fn a_new_domain_renews_and_a_certificate_of_ones_own_stays() {
    let node = Node::new();
    node.run();
    fs::write(node.context.site.path("/etc/resolv.conf"), "search other.example\n").unwrap();
    let report = node.run();
    assert_eq!(report.renewed.as_deref(), Some("the node's name has changed"));
    assert!(node.show("nodes/pve1/pve-ssl.pem").contains("DNS:pve1.other.example"));

    let (key, own) = (node.path("nodes/pve1/pve-ssl.key"), node.path("nodes/pve1/pve-ssl.pem"));
    openssl(&[
        "req", "-x509", "-key", &key, "-subj", "/CN=mine", "-days", "3", "-out", &own,
    ]);
    let mine = node.read("nodes/pve1/pve-ssl.pem");
    assert!(node.run().is_empty());
    assert_eq!(node.read("nodes/pve1/pve-ssl.pem"), mine);
}

#[test]
fn a_ca_of_openssl_with_an_older_kind_of_key_signs_too() {
    let node = Node::new();
    fs::create_dir_all(node.etc.join("priv")).unwrap();
    let (key, pem) = (node.path("priv/pve-root-ca.key"), node.path("pve-root-ca.pem"));
    openssl(&["genrsa", "-traditional", "-out", &key, "2048"]);
    openssl(&[
        "req",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-x509",
        "-key",
        &key,
        "-subj",
        "/CN=Proxmox Virtual Environment/OU=x/O=PVE Cluster Manager CA",
        "-days",
        "100",
        "-out",
        &pem,
    ]);
    node.run();
    openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        &pem,
        &node.path("local/pve-ssl.pem"),
    ]);

    openssl(&[
        "req",
        "-x509",
        "-key",
        &key,
        "-subj",
        "/CN=short",
        "-days",
        "13",
        "-out",
        &pem,
    ]);
    fs::remove_file(node.path("nodes/pve1/pve-ssl.pem")).unwrap();
    assert_eq!(
        updatecerts(&node.context).unwrap_err().to_string(),
        "CA expires in less than 2 weeks, unable to generate certificate."
    );
}
