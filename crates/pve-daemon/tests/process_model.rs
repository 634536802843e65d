//! A real daemon, started, reloaded, killed and stopped: `examples/hello.rs`.
//!
//! Needs root, like the daemons themselves.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use pve_testing::wait_for;
use support::{Lab, alive, title};

#[test]
fn a_daemon_starts_serves_and_stops() {
    let lab = Lab::new("MAX_WORKERS=2\n");
    assert_eq!(lab.verb("status"), ("stopped\n".to_owned(), 0));
    let mut daemon = lab.start();
    let master = daemon.id();
    lab.wait_for_workers(master, 2);
    assert_eq!(lab.verb("status"), ("running\n".to_owned(), 0));
    assert_eq!(
        std::fs::read_to_string(lab.path("run/hello/hello.pid")).unwrap(),
        format!("{master}\n")
    );
    assert_eq!(title(master), "hello");
    for worker in lab.workers(master) {
        assert_eq!(title(worker), "hello worker");
    }
    assert!(lab.workers(master).contains(&lab.ask("pid").parse().unwrap()));
    assert_eq!(lab.verb("stop"), (String::new(), 0));
    assert_eq!(daemon.wait(), Some(0));
    assert!(!lab.path("run/hello/hello.pid").exists());
    assert!(!lab.path("run/hello/hello.pid.lock").exists());
    let log = lab.log();
    for line in [
        "starting server",
        "starting 2 worker(s)",
        "received signal TERM",
        "server closing",
        "server stopped",
    ] {
        assert!(log.contains(&format!("]: info {line}\n")), "{line} in {log}");
    }
}

#[test]
fn the_second_start_fails_and_names_the_first() {
    let lab = Lab::new("");
    let daemon = lab.start();
    let (output, code) = lab.verb("start");
    assert_eq!((output.as_str(), code), ("", 255));
    let expected = format!("hello.pid.lock' - daemon already started (pid = {})", daemon.id());
    assert!(lab.log().contains(&expected), "{}", lab.log());
    assert!(alive(daemon.id()));
    assert_eq!(lab.verb("status").0, "running\n");
}

#[test]
fn a_killed_worker_is_replaced_at_once() {
    let lab = Lab::new("MAX_WORKERS=2\n");
    let daemon = lab.start();
    let master = daemon.id();
    lab.wait_for_workers(master, 2);
    let before = lab.workers(master);
    let victim = *before.first().unwrap();
    support::signal(victim, Signal::SIGKILL);
    wait_for("a replacement", || {
        lab.workers(master).len() == 2 && !lab.workers(master).contains(&victim)
    });
    assert_eq!(
        lab.workers(master).intersection(&before).count(),
        1,
        "the other worker stays"
    );
    wait_for("the master's note", || {
        lab.log().contains(&format!("worker {victim} died: signal SIGKILL\n"))
    });
    lab.ask("pid");
}

#[test]
fn workers_die_with_their_master() {
    let lab = Lab::new("MAX_WORKERS=2\n");
    let mut daemon = lab.start();
    let master = daemon.id();
    lab.wait_for_workers(master, 2);
    let workers = lab.workers(master);
    support::signal(master, Signal::SIGKILL);
    daemon.wait();
    wait_for("no workers", || workers.iter().all(|pid| !alive(*pid)));
    assert_eq!(lab.verb("status").0, "stopped\n");
    // Neither lock nor socket is left: the next start finds the field clear.
    let next = lab.start();
    assert_ne!(next.id(), master);
    lab.ask("pid");
}

#[test]
fn a_reload_keeps_pid_and_socket_and_refuses_no_connection() {
    let lab = Arc::new(Lab::new("MAX_WORKERS=2\n"));
    let daemon = lab.start();
    let master = daemon.id();
    lab.wait_for_workers(master, 2);
    let stop = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU32::new(0));
    let client = {
        let (lab, stop, answers) = (Arc::clone(&lab), Arc::clone(&stop), Arc::clone(&answers));
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                lab.ask("pid").parse::<u32>().unwrap();
                answers.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    for workers in [3, 1, 2] {
        let before = lab.workers(master);
        let answered = answers.load(Ordering::SeqCst);
        lab.settings(&format!("MAX_WORKERS={workers}\n"));
        assert_eq!(lab.verb("restart").1, 0);
        wait_for("the new workers alone", || {
            let now = lab.workers(master);
            now.len() == workers && now.is_disjoint(&before)
        });
        wait_for("the client goes on", || {
            assert!(!client.is_finished(), "every connection is answered");
            answers.load(Ordering::SeqCst) > answered
        });
    }
    stop.store(true, Ordering::SeqCst);
    client.join().expect("every connection was answered");
    assert!(alive(master));
    assert_eq!(title(master), "hello");
    assert_eq!(lab.verb("status").0, "running\n");
    assert!(lab.log().contains("]: info restarting server\n"));
}

#[test]
fn a_held_connection_survives_reloads() {
    let lab = Lab::new("MAX_WORKERS=1\n");
    let daemon = lab.start();
    let master = daemon.id();
    let (mut stream, holder) = lab.hold();
    for _ in 0..2 {
        let before = lab.workers(master);
        assert_eq!(lab.verb("restart").1, 0);
        wait_for("a new worker", || {
            lab.workers(master).iter().any(|pid| !before.contains(pid))
        });
    }
    wait_for("the old worker drains", || title(holder) == "hello worker (shutdown)");
    assert_ne!(
        lab.ask("pid").parse::<u32>().unwrap(),
        holder,
        "it takes no new connections"
    );
    stream.write_all(b"still there\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream.try_clone().unwrap())
        .read_line(&mut answer)
        .unwrap();
    assert_eq!(answer, "still there\n");
    drop(stream);
    wait_for("the old worker ends", || !alive(holder));
    wait_for("one worker", || lab.workers(master).len() == 1);
}

#[test]
fn a_stop_waits_ten_seconds_for_a_held_connection_and_then_kills() {
    let lab = Lab::new("MAX_WORKERS=1\n");
    let mut daemon = lab.start();
    let (_stream, holder) = lab.hold();
    let asked = std::time::Instant::now();
    support::signal(daemon.id(), Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0));
    assert!(asked.elapsed() >= Duration::from_secs(9), "the worker had its time");
    assert!(!alive(holder));
    let log = lab.log();
    assert!(
        log.contains("]: err error stopping workers (will kill them now) - timeout\n"),
        "{log}"
    );
    assert!(log.contains(&format!("]: err kill worker {holder}\n")), "{log}");
}

#[test]
fn a_web_side_daemon_is_the_web_user_and_nothing_else() {
    let lab = Lab::for_web_user("MAX_WORKERS=1\n");
    let daemon = lab.start();
    let ids = lab.ask("ids");
    assert_eq!(ids, "Uid: 33 33 33 33 Gid: 33 33 33 33 Groups: 33");
    let master = daemon.id();
    let status = std::fs::read_to_string(format!("/proc/{master}/status")).unwrap();
    assert!(status.contains("Uid:\t33\t33\t33\t33\n"), "{status}");
    let before = lab.workers(master);
    assert_eq!(lab.verb("restart").1, 0);
    wait_for("a new worker", || {
        lab.workers(master).len() == 1 && lab.workers(master).is_disjoint(&before)
    });
    assert_eq!(lab.ask("ids"), ids);
}

#[test]
fn a_daemon_whose_executable_is_out_of_reach_reloads_with_the_running_one() {
    let lab = Lab::for_web_user("MAX_WORKERS=1\n");
    let daemon = lab.start();
    let master = daemon.id();
    let before = lab.workers(master);
    std::fs::remove_file(lab.path("hello")).unwrap();
    support::signal(master, Signal::SIGHUP);
    wait_for("a new worker", || {
        lab.workers(master).len() == 1 && lab.workers(master).is_disjoint(&before)
    });
    assert!(lab.log().contains("going on with the running version"), "{}", lab.log());
    lab.ask("pid");
}

#[test]
fn a_worker_that_fails_is_tried_again_and_the_master_stays() {
    let lab = Lab::new("MAX_WORKERS=1\n");
    std::fs::write(lab.path("fail"), "").unwrap();
    let daemon = lab.spawn();
    wait_for("the failure", || lab.log().contains("]: err told to fail\n"));
    std::fs::remove_file(lab.path("fail")).unwrap();
    wait_for("a worker that serves", || lab.try_ask("pid").is_some());
    assert!(alive(daemon.id()));
}

#[test]
fn workers_that_crash_at_once_do_not_become_a_fork_bomb() {
    let lab = Lab::new("MAX_WORKERS=1\n");
    std::fs::write(lab.path("crash"), "").unwrap();
    let began = std::time::Instant::now();
    let daemon = lab.spawn();
    wait_for("three deaths", || lab.log().matches("died: exit code 3").count() >= 3);
    assert!(began.elapsed() >= Duration::from_millis(900), "there was a pause");
    std::fs::remove_file(lab.path("crash")).unwrap();
    wait_for("a worker that serves", || lab.try_ask("pid").is_some());
    assert!(alive(daemon.id()));
}

#[test]
fn a_bad_setting_stops_the_start_with_its_message() {
    let lab = Lab::new("POLICY=Deny\n");
    let mut daemon = lab.spawn();
    assert_eq!(daemon.wait(), Some(255));
    assert!(
        lab.log().contains("]: err start failed - unknown policy 'Deny'\n"),
        "{}",
        lab.log()
    );
    assert!(!lab.path("run/hello/hello.pid").exists());
}

#[test]
fn systemd_is_told_how_the_daemon_is() {
    let lab = Lab::new("MAX_WORKERS=2\n");
    let socket = std::os::unix::net::UnixDatagram::bind(lab.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // What it does; how many workers there are is said in between, whenever that changes.
    let told = || {
        loop {
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]);
            let first = text.lines().next().unwrap_or_default();
            if !first.starts_with("STATUS=") {
                return first.to_owned();
            }
        }
    };
    let mut daemon = lab.start();
    assert_eq!(told(), "READY=1");
    assert_eq!(lab.verb("restart").1, 0);
    assert_eq!(told(), "RELOADING=1");
    assert_eq!(told(), "READY=1");
    support::signal(daemon.id(), Signal::SIGTERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn nothing_is_inherited_that_should_not_be() {
    let lab = Lab::new("MAX_WORKERS=2\n");
    let daemon = lab.start();
    let master = daemon.id();
    lab.wait_for_workers(master, 2);
    for worker in lab.workers(master) {
        let links: BTreeSet<String> = std::fs::read_dir(format!("/proc/{worker}/fd"))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .map(|link| link.to_string_lossy().into_owned())
            .collect();
        assert!(
            !links
                .iter()
                .any(|link| link.contains("signalfd") || link.ends_with(".lock")),
            "{links:?}"
        );
    }
}

#[test]
fn an_address_that_is_not_there_is_named() {
    let lab = Lab::new("");
    lab.address("192.0.2.1");
    let mut daemon = lab.spawn();
    assert_eq!(daemon.wait(), Some(255));
    let expected = "start failed - unable to create socket - Cannot assign requested address\n";
    assert!(lab.log().contains(expected), "{}", lab.log());
}

#[test]
fn a_start_waits_for_the_address_of_the_last_one_and_says_so() {
    let lab = Lab::new("");
    let owner = lab.take_port();
    let _daemon = lab.spawn();
    wait_for("the note", || lab.log().contains("waiting for port"));
    drop(owner);
    wait_for("the first answer", || lab.try_ask("pid").is_some());
}

#[test]
fn an_address_that_stays_in_use_fails_the_start() {
    let lab = Lab::new("");
    let _owner = lab.take_port();
    assert_eq!(lab.spawn().wait(), Some(255));
    let expected = "start failed - unable to create socket - Address already in use\n";
    assert!(lab.log().contains(expected), "{}", lab.log());
}
