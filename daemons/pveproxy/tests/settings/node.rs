//! The daemon as it is installed, in a root directory and a network of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
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
pub(crate) struct Node {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) daemon: Option<Child>,
    /// Commands that change the network before the start.
    pub(crate) network: &'static str,
}

impl Node {
    pub(crate) fn new(settings: &str) -> Self {
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

    pub(crate) fn path(&self, rel: &str) -> PathBuf {
        self.directory.path().join(rel)
    }

    pub(crate) fn settings(&self, text: &str) {
        fs::write(self.path("etc/default/pveproxy"), text).unwrap();
    }

    pub(crate) fn make_certificate(&self, name: &str, subject: &str) {
        self.make_certificate_for(name, subject, 60, &format!("-addext subjectAltName=DNS:{subject}"));
    }

    /// One that is good for so many days from now on, with more of `openssl req`'s options.
    pub(crate) fn make_certificate_for(&self, name: &str, subject: &str, days: u32, more: &str) {
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

    pub(crate) fn spawn(&mut self) {
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
    pub(crate) fn start(settings: &str) -> Self {
        let mut node = Self::new(settings);
        node.spawn();
        node.until_started();
        node
    }

    pub(crate) fn until_started(&self) {
        self.until("workers", || {
            self.log().contains(" started\n") && self.code("https://localhost:8006/") != "000"
        });
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    pub(crate) fn workers(&self) -> Vec<String> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn reload(&self) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), Signal::SIGHUP).unwrap();
    }

    /// The exit code of a daemon that ends by itself.
    pub(crate) fn code_at_end(&mut self) -> Option<i32> {
        self.daemon.as_mut().unwrap().wait().unwrap().code()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn access_log(&self) -> String {
        fs::read_to_string(self.path("var/log/pveproxy/access.log")).unwrap_or_default()
    }

    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
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
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--target", &self.pid().to_string(), "--", program])
            .args(arguments);
        command.env_remove("https_proxy").stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn curl(&self, arguments: &str) -> String {
        let words: Vec<&str> = arguments.split(' ').collect();
        let output = self.run(
            "curl",
            &[&["-sk", "--noproxy", "*", "--max-time", "20"], words.as_slice()].concat(),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The status of a GET; `000` if there is no answer.
    pub(crate) fn code(&self, arguments: &str) -> String {
        self.curl(&format!("-o /dev/null -w %{{http_code}} {arguments}"))
    }

    /// Whether a client with this address is served; one that is not gets no byte, and a line in the log.
    pub(crate) fn serves(&self, client: &str, server: &str) -> bool {
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
