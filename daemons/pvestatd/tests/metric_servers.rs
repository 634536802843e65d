//! The daemon beside metric servers of which most do not work: those that do are told all the same, nothing is said
//! twice, and the daemon ends at once. Needs root, for a resolver of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket};
use nix::unistd::Pid;
use pve_cfs::Cfs;
use pve_daemon::counters::{self, Value};
use pve_schema::{Context, Site};

/// Three cycles and what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(90);
struct Lab {
    directory: tempfile::TempDir,
    context: Context,
    daemon: Child,
    _resolver: UdpSocket,
}

impl Lab {
    fn start(servers: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("statd").tempdir_in("/tmp").unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("run")).unwrap();
        let context = Context::new(Site {
            ..pve_testing::site(root.canonicalize().unwrap(), "n1")
        });
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("status.cfg", servers.as_bytes()).unwrap();
        // Where the resolver asks, and nobody answers; others may run this test at the same time.
        let resolver = (1..=254).find_map(|last| UdpSocket::bind((Ipv4Addr::new(127, 77, 3, last), 53)).ok());
        let resolver = resolver.expect("a free address of the loopback network, and the right to use its port 53");
        let address = resolver.local_addr().unwrap().ip();
        let resolv = directory.path().join("resolv.conf");
        // Of its own accord it gives up after ten seconds, at the second cycle.
        let settings = format!("nameserver {address}\noptions timeout:30 attempts:5\n");
        fs::write(&resolv, settings).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let daemon = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"",
            ])
            .arg(&resolv)
            .arg(env!("CARGO_BIN_EXE_pvestatd"))
            .args(["start", "--foreground", "--node", "n1", "--root"])
            .arg(&context.site.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            directory,
            context,
            daemon,
            _resolver: resolver,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert_eq!(self.daemon.try_wait().unwrap(), None, "{}", self.log());
            assert!(Instant::now() < deadline, "waited in vain for {what}: {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What was counted for a server.
    fn counted(&self, server: &str, result: &str) -> u64 {
        let labels = format!("name=\"{server}\",result=\"{result}\"");
        let reading = counters::read(&self.context.site, "/run/pvestatd.pid").unwrap();
        let found = reading
            .series
            .iter()
            .find(|series| series.name == "pve_statd_metric_server_snapshots" && series.labels == labels);
        match found.map(|series| &series.value) {
            Some(Value::Counter(count)) => *count,
            None => 0,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A server that says the same to everybody, or with an empty answer hangs up.
fn web_server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1 << 16]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

/// The next datagrams up to one with a line that begins like this; that line.
fn line_of(socket: &UdpSocket, start: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut datagram = [0; 1 << 16];
    while Instant::now() < deadline {
        let Ok(size) = socket.recv(&mut datagram) else { continue };
        let text = String::from_utf8(datagram[..size].to_vec()).unwrap();
        if let Some(line) = text.lines().find(|line| line.starts_with(start)) {
            return line.to_owned();
        }
    }
    panic!("no line with {start}");
}

#[test]
fn servers_that_do_not_work_delay_nothing_else() {
    let good = [
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    ];
    for socket in &good {
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    }
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    // A port that is taken, and where nobody listens yet.
    let late = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(late.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let closed = getsockname::<SockaddrIn>(late.as_raw_fd()).unwrap();
    let left_alone = TcpListener::bind("127.0.0.1:0").unwrap();
    left_alone.set_nonblocking(true).unwrap();
    let broken = web_server("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let refusing = web_server("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let resetting = web_server("");
    let first = format!("graphite: a-good\n\tserver 127.0.0.1\n\tport {}\n\n", port(&good[0]));
    let others = format!(
        "graphite: b-closed\n\tserver 127.0.0.1\n\tport {}\n\tproto tcp\n\n\
         influxdb: c-silent\n\tserver 127.0.0.1\n\tport {silent_port}\n\tinfluxdbproto http\n\ttimeout 5\n\n\
         influxdb: d-broken\n\tserver 127.0.0.1\n\tport {broken}\n\tinfluxdbproto http\n\n\
         influxdb: e-refusing\n\tserver 127.0.0.1\n\tport {refusing}\n\tinfluxdbproto http\n\n\
         opentelemetry: f-resetting\n\tserver 127.0.0.1\n\tport {resetting}\n\totel-protocol http\n\n\
         graphite: g-nameless\n\tserver nobody-answers.example\n\tport 2003\n\ttimeout 60\n\n\
         graphite: h-disabled\n\tdisable\n\tserver 127.0.0.1\n\tport {}\n\tproto tcp\n\n\
         influxdb: z-good\n\tserver 127.0.0.1\n\tport {}\n\n",
        closed.port(),
        left_alone.local_addr().unwrap().port(),
        port(&good[1]),
    );
    let mut lab = Lab::start(&format!("{first}{others}"));

    // The first cycle: all are tried.
    line_of(&good[0], "proxmox.nodes.n1.uptime ");
    line_of(&good[1], "system,object=nodes,host=n1 ");
    let refused = format!(
        "connection for plugin 'b-closed' failed: couldn't create carbon socket [127.0.0.1]:{} - Connection refused",
        closed.port()
    );
    lab.until("the closed port is noticed", |lab| {
        lab.log().contains(&refused).then_some(())
    });
    listen(&late, Backlog::new(8).unwrap()).unwrap();
    let listener = TcpListener::from(late);
    let (sender, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut text = String::new();
            stream.unwrap().read_to_string(&mut text).unwrap();
            let _ = sender.send(text);
        }
    });

    // The second: one works again, others still do not.
    let line = line_of(&good[0], "proxmox.nodes.n1.uptime ");
    let seen: i64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
    let delay = lab.context.now() - seen;
    // The name that nobody answers for and the silent server take longer than this by themselves.
    assert!((0..20).contains(&delay), "{delay} s late");
    lab.until("the second round of failures", |lab| {
        (lab.counted("d-broken", "failed") >= 2 && lab.counted("e-refusing", "failed") >= 2).then_some(())
    });
    lab.until("a server works again", |lab| {
        lab.log().contains("metric server 'b-closed' works again").then_some(())
    });
    let text = told.recv_timeout(PATIENCE).unwrap();
    assert!(text.starts_with("proxmox.nodes.n1."), "{text}");
    let log = lab.log();
    let once = |text: &str| assert_eq!(log.matches(text).count(), 1, "{text} in {log}");
    once(&refused);
    once("metrics send error 'd-broken': 500 Internal Server Error");
    once("metrics send error 'e-refusing': 401 Unauthorized");
    once("metrics send error 'f-resetting': 500 ");
    assert!(!log.contains("'g-nameless'"), "the resolver hangs: {log}");
    assert!(!log.contains("good") && !log.contains("disabled"), "{log}");
    assert!(left_alone.accept().is_err(), "a server that is disabled is left alone");
    assert!(lab.counted("b-closed", "sent") >= 1 && lab.counted("b-closed", "dropped") >= 1);
    lab.until("two cycles are told", |lab| {
        (lab.counted("a-good", "sent") >= 4).then_some(())
    });
    assert_eq!(lab.counted("a-good", "failed"), 0);

    // The third: without the first server, and with another address for one.
    Cfs::new(&lab.context).write("status.cfg", others.as_bytes()).unwrap();
    line_of(&good[1], "system,object=nodes,host=n1 ");
    lab.until("the counters of a server that is gone go, too", |lab| {
        (lab.counted("a-good", "sent") == 0).then_some(())
    });
    while good[0].recv(&mut [0; 1 << 16]).is_ok() {}
    line_of(&good[1], "system,object=nodes,host=n1 ");
    assert!(good[0].recv(&mut [0; 1 << 16]).is_err(), "it is told no more");

    // Nobody waits for those who still wait.
    let start = Instant::now();
    kill(Pid::from_raw(i32::try_from(lab.daemon.id()).unwrap()), Signal::SIGTERM).unwrap();
    while lab.daemon.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", lab.log());
        thread::sleep(Duration::from_millis(20));
    }
}
