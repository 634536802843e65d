//! TLS as `openssl s_client` sees it: ciphers, versions, Diffie-Hellman, and certificates that change.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pve_http::TlsSettings;
use pve_http::tls::TicketSecret;
use pve_rest::{Registry, Role};

use crate::support::{Lab, Running, until};

/// What a client and the server agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    version: String,
    cipher: String,
    /// As s_client prints it: `X25519, 253 bits` or `DH, 2048 bits`.
    key_exchange: String,
    subject: String,
}

/// Connects with `openssl s_client`; `None` if there is no session.
async fn client(address: SocketAddr, options: &str) -> Option<Session> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string()]);
    command.args(options.split_whitespace()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("New, "))?;
    let (version, cipher) = line.split_once(", Cipher is ")?;
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(label))
            .unwrap_or_default()
            .to_owned()
    };
    (cipher != "(NONE)").then(|| Session {
        version: version.to_owned(),
        cipher: cipher.to_owned(),
        key_exchange: after("Server Temp Key: "),
        subject: after("subject="),
    })
}

/// The cipher of a session.
async fn cipher(address: SocketAddr, options: &str) -> Option<String> {
    client(address, options).await.map(|session| session.cipher)
}

fn openssl(arguments: &str) {
    let run = Command::new("openssl")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// Writes a certificate with this subject, and its key: `rsa:2048` or `ec -pkeyopt ec_paramgen_curve:P-256`.
fn make_certificate(lab: &Lab, name: &str, subject: &str, key: &str) {
    let base = lab.path("etc/pve/nodes/node1").join(name);
    let base = base.display();
    // Each is complete before it takes its place.
    openssl(&format!(
        "req -x509 -nodes -newkey {key} -subj /CN={subject} -days 2 -keyout {base}.key.new -out {base}.pem.new"
    ));
    for ending in ["key", "pem"] {
        std::fs::rename(format!("{base}.{ending}.new"), format!("{base}.{ending}")).unwrap();
    }
}

const RSA: &str = "rsa:2048";
const EC: &str = "ec -pkeyopt ec_paramgen_curve:P-256";

fn lab_with(key: &str) -> Lab {
    let lab = Lab::new();
    make_certificate(&lab, "pve-ssl", "node1", key);
    lab
}

fn serve(lab: &Lab, adjust: impl FnOnce(&mut TlsSettings)) -> Running {
    lab.serve(Role::Web, Registry::new(), |config| {
        let mut settings = TlsSettings::new(lab.context.clone());
        settings.recheck = Duration::from_millis(50);
        adjust(&mut settings);
        config.tls = Some(settings);
        // An open connection waits while keys are made.
        config.limits.idle = Duration::from_secs(600);
    })
}

fn list(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn only_listed_ciphers_are_spoken_and_in_the_servers_order() {
    let lab = lab_with(RSA);
    let ciphers = "AES256-SHA:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384";
    let server = serve(&lab, |tls| tls.ciphers = list(ciphers));
    let both = "-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256";
    let small = Some("ECDHE-RSA-AES128-GCM-SHA256".to_owned());
    let large = Some("ECDHE-RSA-AES256-GCM-SHA384".to_owned());
    assert_eq!(cipher(server.address, both).await, small);
    assert_eq!(
        cipher(server.address, "-tls1_2 -cipher ECDHE-RSA-AES256-GCM-SHA384").await,
        large
    );
    for other in ["ECDHE-RSA-CHACHA20-POLY1305", "AES256-SHA", "DHE-RSA-AES256-GCM-SHA384"] {
        let options = format!("-tls1_2 -cipher {other}");
        assert_eq!(cipher(server.address, &options).await, None, "{other}");
    }
    // The list is not TLS 1.3's.
    assert_eq!(client(server.address, "").await.unwrap().version, "TLSv1.3");
    let server = serve(&lab, |tls| {
        tls.ciphers = list(ciphers);
        tls.honor_cipher_order = false;
    });
    assert_eq!(cipher(server.address, both).await, large, "the client's order");
}

#[tokio::test]
async fn the_suites_of_tls_1_3_have_their_own_list() {
    let lab = lab_with(EC);
    let suites = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256";
    let server = serve(&lab, |tls| tls.cipher_suites = list(suites));
    let chacha = Some("TLS_CHACHA20_POLY1305_SHA256".to_owned());
    assert_eq!(cipher(server.address, "").await, chacha);
    let both = "-ciphersuites TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
    assert_eq!(cipher(server.address, both).await, chacha);
    assert_eq!(
        cipher(server.address, "-tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384").await,
        None
    );
    let default = serve(&lab, |tls| tls.cipher_suites = list("NOTHING"));
    let expected = Some("TLS_AES_256_GCM_SHA384".to_owned());
    assert_eq!(cipher(default.address, "").await, expected, "the default stays");
}

#[tokio::test]
async fn the_default_lists_are_upstreams() {
    for (key, kind) in [(RSA, "RSA"), (EC, "ECDSA")] {
        let lab = lab_with(key);
        let server = serve(&lab, |_| {});
        assert_eq!(
            cipher(server.address, "").await,
            Some("TLS_AES_256_GCM_SHA384".to_owned())
        );
        let expected = format!("ECDHE-{kind}-AES256-GCM-SHA384");
        assert_eq!(cipher(server.address, "-tls1_2").await, Some(expected));
        let options = format!("-tls1_2 -cipher ECDHE-{kind}-AES128-GCM-SHA256:ECDHE-{kind}-CHACHA20-POLY1305");
        assert_eq!(
            cipher(server.address, &options).await,
            Some(format!("ECDHE-{kind}-CHACHA20-POLY1305"))
        );
        assert_eq!(cipher(server.address, "-tls1_2 -cipher DHE").await, None);
    }
}

/// What `s_client` says of the session with a server.
async fn session(address: SocketAddr, options: String) -> String {
    let run = tokio::task::spawn_blocking(move || {
        Command::new("openssl")
            .args(["s_client", "-connect", &address.to_string()])
            .args(options.split_ascii_whitespace())
            // A request: in TLS 1.3 the tickets come after the handshake, and the server closes after the answer.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .and_then(|mut child| {
                child.stdin.take().unwrap().write_all(b"GET / HTTP/1.0\r\n\r\n")?;
                child.wait_with_output()
            })
    });
    String::from_utf8_lossy(&run.await.unwrap().unwrap().stdout).into_owned()
}

#[tokio::test]
async fn a_session_goes_on_with_any_worker() {
    let lab = lab_with(EC);
    let secret = TicketSecret::random();
    let workers = [0, 1].map(|_| serve(&lab, |tls| tls.tickets = secret.clone()));
    let stranger = serve(&lab, |_| {});
    for version in ["-tls1_2", "-tls1_3"] {
        let file = lab.path("session");
        let (out, back) = (
            format!("{version} -ign_eof -sess_out {}", file.display()),
            format!("{version} -ign_eof -sess_in {}", file.display()),
        );
        assert!(
            session(workers[0].address, out).await.contains("New, TLSv1."),
            "{version}"
        );
        assert!(
            session(workers[1].address, back.clone())
                .await
                .contains("Reused, TLSv1."),
            "{version}"
        );
        assert!(
            session(stranger.address, back).await.contains("New, TLSv1."),
            "{version}"
        );
    }
}

#[tokio::test]
async fn versions_can_be_switched_off() {
    let lab = lab_with(EC);
    let only13 = serve(&lab, |tls| tls.disable_tls12 = true);
    assert_eq!(client(only13.address, "").await.unwrap().version, "TLSv1.3");
    assert_eq!(client(only13.address, "-tls1_2").await, None);
    let only12 = serve(&lab, |tls| tls.disable_tls13 = true);
    assert_eq!(client(only12.address, "").await.unwrap().version, "TLSv1.2");
    assert_eq!(client(only12.address, "-tls1_3").await, None);
    let both = serve(&lab, |_| {});
    assert_eq!(client(both.address, "-tls1_1 -cipher ALL:@SECLEVEL=0").await, None);
}

#[tokio::test]
async fn a_security_level_leaves_out_what_is_below_it() {
    let lab = lab_with(EC);
    let server = serve(&lab, |tls| tls.ciphers = list("ECDHE+AESGCM:@SECLEVEL=4"));
    let session = client(server.address, "-tls1_2").await.unwrap();
    assert_eq!(session.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");
    assert!(session.key_exchange.ends_with(" 384 bits"), "{session:?}");
    assert_eq!(
        cipher(server.address, "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256").await,
        None
    );
    assert_eq!(
        cipher(server.address, "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256").await,
        None
    );
}

/// Writes a file of Diffie-Hellman parameters.
fn parameters(lab: &Lab, options: &str) -> std::path::PathBuf {
    let path = lab.path("dh.pem");
    // What follows a number of bits is not looked at.
    let (verb, rest) = options.split_once(' ').unwrap();
    openssl(&format!("{verb} -out {} {rest}", path.display()));
    path
}

/// Every kind of client gets the server's own group: one that names no groups (TLS 1.2 only), one that names all, one
/// that names a group of another length.
async fn has_group(address: SocketAddr, bits: u32) {
    let expected = format!("DH, {bits} bits");
    for suite in ["AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305"] {
        for options in ["-tls1_2", "", "-groups X25519:ffdhe3072", "-groups X25519:ffdhe8192"] {
            let options = format!("{options} -cipher DHE-RSA-{suite}");
            let session = client(address, &options).await;
            let session = session.unwrap_or_else(|| panic!("no session with {options}"));
            assert_eq!(session.cipher, format!("DHE-RSA-{suite}"), "{options}");
            assert_eq!(session.key_exchange, expected, "{options}");
        }
    }
}

#[tokio::test]
async fn without_a_file_the_built_in_group_is_used() {
    let lab = lab_with(RSA);
    let server = serve(&lab, |tls| {
        tls.ciphers = list("DHE+AESGCM:DHE+CHACHA20");
        tls.disable_tls13 = true;
    });
    has_group(server.address, 2048).await;
}

#[tokio::test]
async fn groups_of_a_file_are_used_whatever_the_client_names() {
    let lab = lab_with(RSA);
    for (make, bits) in [
        ("genpkey -genparam -algorithm DH -pkeyopt group:modp_3072", 3072),
        ("genpkey -genparam -algorithm DH -pkeyopt group:modp_4096", 4096),
        ("dhparam -dsaparam 2048", 2048),
    ] {
        let file = parameters(&lab, make);
        let server = serve(&lab, |tls| {
            tls.ciphers = list("kDHE+aRSA");
            tls.dh_params = Some(file);
            tls.disable_tls13 = true;
        });
        has_group(server.address, bits).await;
    }
}

#[tokio::test]
async fn a_client_of_tls_1_3_with_nothing_but_finite_fields_gets_a_standard_group() {
    let lab = lab_with(RSA);
    let file = parameters(&lab, "genpkey -genparam -algorithm DH -pkeyopt group:modp_3072");
    let server = serve(&lab, |tls| {
        tls.ciphers = list("ECDHE+AESGCM:DHE+AESGCM");
        tls.dh_params = Some(file);
    });
    let session = client(server.address, "-groups ffdhe2048").await.unwrap();
    assert_eq!(
        (session.version.as_str(), session.key_exchange.as_str()),
        ("TLSv1.3", "DH, 2048 bits")
    );
    let session = client(server.address, "-tls1_2 -cipher DHE").await.unwrap();
    assert_eq!(session.key_exchange, "DH, 3072 bits");
    // Elliptic curves cost a twentieth, and stand first.
    let session = client(server.address, "-tls1_2 -cipher DHE:ECDHE").await.unwrap();
    assert_eq!(session.cipher, "ECDHE-RSA-AES256-GCM-SHA384");
}

async fn subject(address: SocketAddr) -> Option<String> {
    client(address, "").await.map(|session| session.subject)
}

async fn until_subject(address: SocketAddr, expected: &str) {
    let expected = Some(format!("CN = {expected}"));
    until(async || subject(address).await == expected).await;
}

#[tokio::test]
async fn a_changed_certificate_is_shown_without_a_reload_and_open_connections_stay() {
    let lab = lab_with(EC);
    let server = serve(&lab, |_| {});
    until_subject(server.address, "node1").await;
    // Two words of HTTP on one connection, with the change in between.
    let mut held = Held::open(server.address);
    held = held.ask().await;
    make_certificate(&lab, "pve-ssl", "renewed", RSA);
    until_subject(server.address, "renewed").await;
    held = held.ask().await;
    make_certificate(&lab, "pveproxy-ssl", "own", EC);
    until_subject(server.address, "own").await;
    // Half a change keeps what was.
    let key = lab.path("etc/pve/nodes/node1/pveproxy-ssl.key");
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no key").unwrap();
    let certificate = lab.path("etc/pve/nodes/node1/pve-ssl.pem");
    std::fs::write(&certificate, "nothing").unwrap();
    assert_eq!(subject(server.address).await, Some("CN = own".to_owned()));
    std::fs::write(&key, good).unwrap();
    held = held.ask().await;
    // Without its key it is not used, and the node's is broken: what was stays; repaired, it is used.
    std::fs::remove_file(&key).unwrap();
    make_certificate(&lab, "pve-ssl", "node-again", EC);
    until_subject(server.address, "node-again").await;
    held.ask().await;
}

/// A connection of `openssl s_client` that stays open.
struct Held {
    child: std::process::Child,
    output: std::io::BufReader<std::process::ChildStdout>,
}

impl Held {
    fn open(address: SocketAddr) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// One request on it, which must be answered.
    async fn ask(mut self) -> Self {
        let asked = tokio::task::spawn_blocking(move || {
            self.converse();
            self
        });
        crate::support::soon(asked).await.unwrap()
    }

    fn converse(&mut self) {
        use std::io::{BufRead as _, Read as _, Write as _};
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(b"GET / HTTP/1.1\r\nHost: node1\r\n\r\n").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 200 OK\r\n");
        let mut length = 0;
        loop {
            line.clear();
            self.output.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        self.output.read_exact(&mut vec![0; length]).unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_cannot_be_used_is_an_error_with_its_reason() {
    let lab = lab_with(EC);
    let dh = lab.path("dh.pem");
    let wrong = |adjust: &dyn Fn(&mut TlsSettings)| {
        let mut settings = TlsSettings::new(lab.context.clone());
        adjust(&mut settings);
        pve_http::tls::server_config(&settings).unwrap_err().to_string()
    };
    let ciphers = |text: &str| wrong(&|tls| tls.ciphers = list(text));
    let refused = "was not accepted as a valid cipher list - ";
    assert_eq!(ciphers("FOO"), format!("'FOO' {refused}no cipher matches"));
    assert_eq!(
        ciphers("ECDHE/x"),
        format!("'ECDHE/x' {refused}no cipher is named at '/x'")
    );
    let none = format!("{refused}none of its ciphers is supported: ");
    assert_eq!(
        ciphers("AES128-SHA:AES256-SHA"),
        format!("'AES128-SHA:AES256-SHA' {none}AES128-SHA, AES256-SHA")
    );
    assert_eq!(
        ciphers("ECDHE:@SECLEVEL=5"),
        format!("'ECDHE:@SECLEVEL=5' {refused}nothing reaches its security level")
    );
    let read = |path: &Path| wrong(&|tls| tls.dh_params = Some(path.to_owned()));
    let shown = dh.display();
    assert_eq!(
        read(&dh),
        format!("{shown}: failed to open DH parameter file: No such file or directory")
    );
    lab.put("dh.pem", "what");
    assert_eq!(
        read(&dh),
        format!("{shown}: failed to parse DH parameters - not PEM format?")
    );
    parameters(&lab, "dhparam -dsaparam 1024");
    assert_eq!(
        read(&dh),
        format!("{shown}: DH parameters of 1024 bits - use 2048 to 8192")
    );
}
