//! Every setting of `/etc/default/pveproxy` through real sockets: the daemon as it is installed – `/`, port 8006, all
//! addresses – in a root directory and a network of its own. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user www-data of Debian.
const WEB_USER: u32 = 33;

/// Makes the network and the root directory `$1` what a small node has, and becomes the daemon. `$2` runs in between.
const SCRIPT: &str = r#"
set -e
root=$1
ip link set lo up
ip link add veth0 type veth peer name veth1
ip link set veth0 addrgenmode none; ip link set veth1 addrgenmode none
ip link set veth0 up; ip link set veth1 up
ip addr add 192.0.2.7/24 dev veth0
ip addr add 2001:db8::7/64 dev veth0 nodad
ip addr add fe80::7/64 dev veth0 nodad
eval "$2"
for dir in usr proc dev; do mount --rbind "/$dir" "$root/$dir"; done
exec chroot "$root" /pveproxy start --foreground --node node1
"#;

/// A root directory with the daemon in it.
struct Node {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    /// Commands that change the network before the start.
    network: &'static str,
}

impl Node {
    fn new(settings: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("pveproxy-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let node = Self {
            directory,
            daemon: None,
            network: "",
        };
        for dir in [
            "usr",
            "proc",
            "dev",
            "run/lock",
            "tmp",
            "etc/default",
            "etc/pve/nodes/node1",
            "var/log/pveproxy",
        ] {
            fs::create_dir_all(node.path(dir)).unwrap();
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), node.path(link)).unwrap();
        }
        for file in ["passwd", "group", "nsswitch.conf"] {
            fs::copy(format!("/etc/{file}"), node.path("etc").join(file)).unwrap();
        }
        fs::write(node.path("etc/hosts"), "127.0.0.1 localhost\n192.0.2.7 web.example\n").unwrap();
        fs::copy(env!("CARGO_BIN_EXE_pveproxy"), node.path("pveproxy")).unwrap();
        chown(node.path("var/log/pveproxy"), Some(WEB_USER), Some(WEB_USER)).unwrap();
        node.make_certificate("pve-ssl", "node1");
        node.settings(settings);
        node
    }

    fn path(&self, rel: &str) -> PathBuf {
        self.directory.path().join(rel)
    }

    fn settings(&self, text: &str) {
        fs::write(self.path("etc/default/pveproxy"), text).unwrap();
    }

    fn make_certificate(&self, name: &str, subject: &str) {
        self.make_certificate_for(name, subject, 60, &format!("-addext subjectAltName=DNS:{subject}"));
    }

    /// One that is good for so many days from now on, with more of `openssl req`'s options.
    fn make_certificate_for(&self, name: &str, subject: &str, days: u32, more: &str) {
        let base = self.path("etc/pve/nodes/node1").join(name);
        let base = base.display();
        let options = format!(
            "req -x509 -nodes -newkey rsa:2048 -subj /CN={subject} -days {days} {more} -keyout {base}.key.new -out {base}.pem.new"
        );
        let run = Command::new("openssl")
            .args(options.split_whitespace())
            .output()
            .unwrap();
        assert!(run.status.success(), "{run:?}");
        for ending in ["key", "pem"] {
            let file = PathBuf::from(format!("{base}.{ending}"));
            let new = PathBuf::from(format!("{base}.{ending}.new"));
            chown(&new, Some(WEB_USER), Some(WEB_USER)).unwrap();
            fs::rename(&new, &file).unwrap();
        }
    }

    fn spawn(&mut self) {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--net", "--", "sh", "-c", SCRIPT, "sh"])
            .arg(self.directory.path())
            .arg(self.network)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.daemon = Some(child.unwrap());
        // Before that, commands would run in the network of the test.
        let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let pid = self.pid().to_string();
        self.until("a network of its own", || {
            network(&pid).is_none_or(|own| Some(own) != network("self"))
        });
    }

    /// Starts the daemon and waits until all its workers are there.
    fn start(settings: &str) -> Self {
        let mut node = Self::new(settings);
        node.spawn();
        node.until_started();
        node
    }

    fn until_started(&self) {
        self.until("workers", || {
            self.log().contains(" started\n") && self.code("https://localhost:8006/") != "000"
        });
    }

    fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    fn workers(&self) -> Vec<String> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }

    fn reload(&self) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), Signal::SIGHUP).unwrap();
    }

    /// The exit code of a daemon that ends by itself.
    fn code_at_end(&mut self) -> Option<i32> {
        self.daemon.as_mut().unwrap().wait().unwrap().code()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn access_log(&self) -> String {
        fs::read_to_string(self.path("var/log/pveproxy/access.log")).unwrap_or_default()
    }

    fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}; the log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a program in the node's network.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--target", &self.pid().to_string(), "--", program])
            .args(arguments);
        command.env_remove("https_proxy").stdin(Stdio::null()).output().unwrap()
    }

    fn curl(&self, arguments: &str) -> String {
        let words: Vec<&str> = arguments.split(' ').collect();
        let output = self.run(
            "curl",
            &[&["-sk", "--noproxy", "*", "--max-time", "20"], words.as_slice()].concat(),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The status of a GET; `000` if there is no answer.
    fn code(&self, arguments: &str) -> String {
        self.curl(&format!("-o /dev/null -w %{{http_code}} {arguments}"))
    }

    /// Whether a client with this address is served; one that is not gets no byte, and a line in the log.
    fn serves(&self, client: &str, server: &str) -> bool {
        let before = self.access_log().len();
        let code = self.code(&format!("--interface {client} https://{server}:8006/"));
        let mut line = String::new();
        self.until("a line in the access log", || {
            line = self.access_log().get(before..).unwrap_or_default().to_owned();
            line.ends_with('\n')
        });
        assert!(line.contains(client), "{line}");
        match code.as_str() {
            "200" => assert!(line.ends_with(&format!(
                "\"GET / HTTP/1.1\" 200 {}\n",
                line.rsplit(' ').next().unwrap().trim()
            ))),
            _ => assert!(line.ends_with("\"-\" 403 -\n"), "{code} {line}"),
        }
        code == "200"
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.log());
        }
        if let Some(daemon) = &mut self.daemon {
            // Its workers follow, and the namespaces with the last of them.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
fn without_a_file_everything_is_default() {
    let mut node = Node::new("");
    fs::remove_file(node.path("etc/default/pveproxy")).unwrap();
    node.spawn();
    node.until_started();
    node.until("three workers", || node.workers().len() == 3);
    for server in ["127.0.0.1", "192.0.2.7", "[::1]", "[2001:db8::7]", "[fe80::7%25veth0]"] {
        assert_eq!(node.code(&format!("https://{server}:8006/")), "200", "{server}");
    }
}

#[test]
fn without_ipv6_the_daemon_listens_on_ipv4() {
    let mut node = Node::new("");
    node.network =
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
    node.spawn();
    node.until_started();
    assert_eq!(node.code("https://192.0.2.7:8006/"), "200");
}

#[test]
fn listen_ip_is_the_only_address() {
    let all = ["127.0.0.1", "192.0.2.7", "[::1]", "[2001:db8::7]", "[fe80::7%25veth0]"];
    for (value, expected) in [
        ("192.0.2.7", &["192.0.2.7"][..]),
        ("0.0.0.0", &["127.0.0.1", "192.0.2.7"]),
        ("::", &all),
        ("2001:db8::7", &["[2001:db8::7]"]),
        ("fe80::7%veth0", &["[fe80::7%25veth0]"]),
        ("web.example", &["192.0.2.7"]),
    ] {
        let mut node = Node::new(&format!("LISTEN_IP={value}\n"));
        node.spawn();
        node.until(value, || {
            all.iter()
                .any(|server| node.code(&format!("https://{server}:8006/")) == "200")
        });
        let served: Vec<&str> = all
            .into_iter()
            .filter(|server| node.code(&format!("https://{server}:8006/")) == "200")
            .collect();
        assert_eq!(served, expected, "{value}");
    }
}

#[test]
fn an_address_that_is_not_here_stops_the_start() {
    for value in ["192.0.2.99", "2001:db8::99"] {
        let mut node = Node::new(&format!("LISTEN_IP={value}\n"));
        node.spawn();
        assert_eq!(node.code_at_end(), Some(255));
        let expected = "start failed - unable to create socket - Cannot assign requested address\n";
        assert!(node.log().contains(expected), "{}", node.log());
    }
}

#[test]
fn the_host_lists_follow_their_truth_table() {
    // Clients, by what matches them: only ALLOW_FROM, only DENY_FROM, neither, both.
    let lists = "ALLOW_FROM=127.0.0.1-127.0.0.3,2001:db8::/64\nDENY_FROM=127.0.0.2/31,127.0.0.4,::1\n";
    for (policy, expected) in [
        ("deny", [true, false, false, false]),
        ("allow", [true, false, true, true]),
    ] {
        let mut node = Node::new(&format!("{lists}POLICY={policy}\n"));
        node.spawn();
        node.until("a worker", || {
            node.code("--interface 127.0.0.1 https://127.0.0.1:8006/") == "200"
        });
        for (client, expected) in ["127.0.0.1", "127.0.0.4", "127.0.0.5", "127.0.0.3"]
            .into_iter()
            .zip(expected)
        {
            assert_eq!(node.serves(client, "127.0.0.9"), expected, "{client}, POLICY={policy}");
        }
        assert!(node.serves("2001:db8::7", "[2001:db8::7]"), "POLICY={policy}");
        assert!(!node.serves("::1", "[::1]"), "POLICY={policy}");
    }
}

#[test]
fn vectors_56_to_59_of_the_host_lists() {
    for (settings, client, server, expected) in [
        ("DENY_FROM=127.0.0.0/24", "127.0.0.3", "127.0.0.9", false),
        ("DENY_FROM=127.0.0.0/24", "::1", "[::1]", true),
        (
            "ALLOW_FROM='127.0.0.1-127.0.0.5'\nDENY_FROM=all\nPOLICY=allow",
            "127.0.0.3",
            "127.0.0.9",
            true,
        ),
        (
            "ALLOW_FROM='127.0.0.1-127.0.0.5'\nDENY_FROM=all\nPOLICY=allow",
            "127.0.0.9",
            "127.0.0.8",
            false,
        ),
        (
            "ALLOW_FROM='127.0.0.1-127.0.0.5'\nDENY_FROM=all\nPOLICY=deny",
            "127.0.0.3",
            "127.0.0.9",
            false,
        ),
        ("DENY_FROM=127/8", "127.200.0.1", "127.0.0.1", false),
        ("DENY_FROM='127.0.0.0 + 255'", "127.0.0.255", "127.0.1.1", false),
        ("DENY_FROM='127.0.0.0 + 255'", "127.0.1.0", "127.0.1.1", true),
        ("DENY_FROM=0/0", "192.0.2.7", "192.0.2.7", false),
        ("DENY_FROM=::ffff:127.0.0.3", "127.0.0.3", "127.0.0.9", false),
    ] {
        let mut node = Node::new(settings);
        node.spawn();
        // Who is refused is refused by a worker, too.
        node.until("a worker", || node.log().contains(" started\n"));
        node.until("the socket", || {
            node.run("ss", &["-Hltn", "sport = :8006"]).stdout.len() > 10
        });
        assert_eq!(node.serves(client, server), expected, "{settings} {client}");
    }
}

#[test]
fn a_reload_takes_new_host_lists_and_settings_without_refusing_anybody() {
    let node = Node::start("MAX_WORKERS=1\n");
    assert!(node.serves("127.0.0.5", "127.0.0.1"));
    node.settings("MAX_WORKERS=2\nDENY_FROM=127.0.0.5\nDISABLE_TLS_1_3=1\n");
    let old = node.workers();
    node.reload();
    node.until("the new workers", || {
        let now = node.workers();
        assert_eq!(node.code("https://127.0.0.1:8006/"), "200", "no connection is refused");
        now.len() == 2 && !now.contains(old.first().unwrap())
    });
    assert!(!node.serves("127.0.0.5", "127.0.0.1"));
    assert_eq!(node.code("--tlsv1.3 https://127.0.0.1:8006/"), "000");
    assert_eq!(node.code("--tls-max 1.2 https://127.0.0.1:8006/"), "200");
}

#[test]
fn workers_are_as_many_as_set() {
    for (value, expected) in [("1", 1), ("007", 7), ("127", 127), ("128", 3), ("5x", 3)] {
        let mut node = Node::new(&format!("MAX_WORKERS={value}\n"));
        node.spawn();
        let line = format!("starting {expected} worker(s)\n");
        node.until(value, || node.log().contains(&line) && node.workers().len() == expected);
        let warning = "MAX_WORKERS specified in /etc/default/pveproxy is not an integer between 0 and 128: ";
        assert_eq!(
            node.log().contains(&format!("{warning}{value}\n")),
            expected == 3,
            "{}",
            node.log()
        );
    }
}

#[test]
fn bad_values_stop_the_start_with_their_message() {
    for (settings, expected) in [
        ("POLICY=Deny", "unknown policy 'Deny'"),
        ("COMPRESSION=no", "unknown value 'no' - use 0 or 1"),
        ("HONOR_CIPHER_ORDER=2", "unknown value '2' - use 0 or 1"),
        ("DISABLE_TLS_1_2=true", "unknown value 'true' - use 0 or 1"),
        ("DISABLE_TLS_1_3=-1", "unknown value '-1' - use 0 or 1"),
        ("ALLOW_FROM='10.0.0.1, 10.0.0.2'", "Invalid chars in IP  10.0.0.2"),
        ("DENY_FROM=192.168.0.5/22", "Invalid prefix 192.168.0.5/22"),
        ("PROXY_REAL_IP_ALLOW_FROM=ALL", "Invalid chars in IP ALL"),
    ] {
        let mut node = Node::new(settings);
        node.spawn();
        assert_eq!(node.code_at_end(), Some(255), "{settings}");
        assert!(
            node.log().contains(&format!("start failed - {expected}\n")),
            "{settings}: {}",
            node.log()
        );
    }
}

#[test]
fn a_broken_file_counts_up_to_where_it_breaks() {
    let node = Node::start("MAX_WORKERS=2\nif then\nPOLICY=Deny\n");
    node.until("two workers", || node.workers().len() == 2);
}

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
    node.reload();
    node.until("HTTP/2", || version("--http2") == "2");
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

#[test]
fn tls_settings_reach_the_socket() {
    let key = "TLS_KEY_FILE=/etc/web.key\n";
    let mut node = Node::new(&format!(
        "{key}CIPHERS=AES128-SHA:DHE-RSA-AES256-GCM-SHA384\nDHPARAMS=/etc/dh.pem\n"
    ));
    node.make_certificate("pveproxy-ssl", "own");
    fs::rename(
        node.path("etc/pve/nodes/node1/pveproxy-ssl.key"),
        node.path("etc/web.key"),
    )
    .unwrap();
    let dh = node.path("etc/dh.pem");
    let make = [
        "genpkey",
        "-genparam",
        "-algorithm",
        "DH",
        "-pkeyopt",
        "group:modp_3072",
        "-out",
    ];
    assert!(Command::new("openssl").args(make).arg(&dh).status().unwrap().success());
    fs::set_permissions(&dh, fs::Permissions::from_mode(0o644)).unwrap();
    node.spawn();
    node.until_started();
    let ask = ["s_client", "-tls1_2", "-connect", "127.0.0.1:8006"];
    let text = String::from_utf8_lossy(&node.run("openssl", &ask).stdout).into_owned();
    for part in [
        "Cipher is DHE-RSA-AES256-GCM-SHA384",
        "Server Temp Key: DH, 3072 bits",
        "subject=CN = own",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let warning = "CIPHERS: left out, without forward secrecy or authenticated encryption: AES128-SHA\n";
    assert_eq!(
        node.log().matches(warning).count(),
        1,
        "once, not once for each worker: {}",
        node.log()
    );
    let used = "Using '/etc/pve/local/pveproxy-ssl.pem' as certificate for the web interface.\n";
    assert!(node.log().contains(used), "{}", node.log());
}

#[test]
fn tls_settings_that_leave_nothing_keep_the_daemon_up_until_they_are_repaired() {
    for (settings, expected) in [
        (
            "CIPHERS=AES128-SHA",
            "'AES128-SHA' was not accepted as a valid cipher list - none of its ciphers is supported: AES128-SHA\n",
        ),
        (
            "DHPARAMS=/nowhere",
            "/nowhere: failed to open DH parameter file: No such file or directory\n",
        ),
        (
            "DISABLE_TLS_1_2=1\nDISABLE_TLS_1_3=1",
            "misconfigured TLS settings - cannot disable all supported TLS versions!\n",
        ),
    ] {
        let mut node = Node::new(settings);
        node.spawn();
        node.until(settings, || node.log().contains(expected));
        node.settings("");
        node.reload();
        node.until("an answer", || node.code("https://127.0.0.1:8006/") == "200");
    }
}

#[test]
fn a_reload_with_settings_that_are_wrong_leaves_everything_as_it_was() {
    let node = Node::start("MAX_WORKERS=1\n");
    let workers = node.workers();
    for (settings, expected) in [
        (
            "MAX_WORKERS=1\nMETRICS_LISTEN=0.0.0.0:9998\n",
            "etc/default/pveproxy:2: ",
        ),
        ("POLICY=x\n", "unknown policy 'x'"),
        ("ALLOW_FROM=bogus!\n", "bogus!"),
    ] {
        node.settings(settings);
        node.reload();
        node.until(settings, || {
            let refusals =
                |line: &str| line.contains("unable to reload, going on unchanged - ") && line.contains(expected);
            node.log().lines().any(refusals)
        });
        assert_eq!(node.code("https://127.0.0.1:8006/"), "200");
        assert_eq!(node.workers(), workers);
    }
    node.settings("MAX_WORKERS=2\n");
    node.reload();
    node.until("two workers", || node.workers().len() == 2);
}

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
