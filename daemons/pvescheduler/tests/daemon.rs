//! The daemon in a directory of its own, with jobs that are due and a backup that waits as long as the test wants.
//! Needs root.
//!
//! A reload ends the wait for the next minute, and the new image begins with a round: that is how the tests have rounds
//! when they need them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pve_cfs::Cfs;
use pve_schema::ids::Upid;
use pve_schema::site::Instance;
use pve_schema::{Context, Site};
use pve_task::{TaskList, process, status};
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: i64 = 3600;
const NEVER: &str = "2-30";
const MARKER: &str = "vzdump-zz";

/// A node with a storage for backups and no guests.
struct Lab {
    directory: tempfile::TempDir,
    context: Context,
    daemon: Option<Child>,
    starts: usize,
}

impl Lab {
    fn new(jobs: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("sched").tempdir_in("/tmp").unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("run")).unwrap();
        fs::create_dir_all(root.join("var/lib/pve-manager/jobs")).unwrap();
        let context = Context::new(Site {
            instance: Some(Instance::try_from("sc0".to_owned()).unwrap()),
            ..pve_testing::site(root.canonicalize().unwrap(), "n1")
        });
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        let storage = format!(
            "dir: local\n\tpath {}\n\tcontent backup\n",
            directory.path().join("store").display()
        );
        cfs.write("storage.cfg", storage.as_bytes()).unwrap();
        cfs.write("jobs.cfg", jobs.as_bytes()).unwrap();
        Self {
            directory,
            context,
            daemon: None,
            starts: 0,
        }
    }

    /// What an earlier scheduler knew: that the job of this schedule was made at a time.
    fn remember(&self, name: &str, schedule: &str, time: i64) {
        let state = json!({"state": "created", "time": time, "config": {"enabled": 1, "schedule": schedule}});
        fs::write(self.state_file(name), state.to_string()).unwrap();
    }

    fn state_file(&self, name: &str) -> std::path::PathBuf {
        let path = format!("/var/lib/pve-manager/jobs/{name}.json");
        self.context.site.path(path)
    }

    fn bytes(&self, name: &str) -> String {
        fs::read_to_string(self.state_file(name)).unwrap_or_default()
    }

    fn state(&self, name: &str) -> Value {
        serde_json::from_str(&self.bytes(name)).unwrap_or_default()
    }

    fn start(&mut self) {
        self.starts += 1;
        let log = File::create(self.log_file()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pvescheduler"));
        command.args(["start", "--foreground", "--node", "n1", "--instance", "sc0", "--root"]);
        command
            .arg(&self.context.site.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    fn log_file(&self) -> std::path::PathBuf {
        self.directory.path().join(format!("log{}", self.starts))
    }

    /// The log of the daemon that was started last.
    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.daemon.as_ref().unwrap().id();
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// Ends the daemon and waits for its end.
    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        let mut daemon = self.daemon.take().unwrap();
        let ended = daemon.wait().unwrap();
        assert_eq!(ended.success(), signal == Signal::SIGTERM, "{}", self.log());
    }

    /// Makes the scheduler begin a round, by a start or a reload, and waits for its end.
    fn first_round(&mut self, begin: impl FnOnce(&mut Self)) {
        self.remember(MARKER, NEVER, 0);
        begin(self);
        // A first round puts jobs off that do not repeat what they missed, and this one comes last.
        self.until("the end of a round", |lab| {
            lab.state(MARKER)["updated"].as_i64().map(drop)
        });
    }

    fn reload(&mut self) {
        self.first_round(|lab| lab.signal(Signal::SIGHUP));
    }

    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if let Some(daemon) = &mut self.daemon {
                assert_eq!(daemon.try_wait().unwrap(), None, "{}", self.log());
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Keeps every backup of this node waiting, as another one that runs would.
    fn hold_backups(&self) -> Flock<File> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.context.site.path("/run/vzdump.lock"));
        Flock::lock(file.unwrap(), FlockArg::LockExclusiveNonblock).unwrap()
    }

    /// The task of a job that was started.
    fn task(&mut self, name: &str) -> Upid {
        self.until("the job's start", |lab| {
            let state = lab.state(name);
            (state["state"] == "started").then(|| state["upid"].as_str().unwrap().parse().unwrap())
        })
    }

    /// The logs of all tasks that ever were.
    fn task_logs(&self) -> usize {
        let Ok(folders) = fs::read_dir(self.context.site.path("/var/log/pve/tasks")) else {
            return 0;
        };
        let folders = folders.filter_map(|folder| fs::read_dir(folder.unwrap().path()).ok());
        let names = folders.flatten().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("UPID:")).count()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn job(id: &str, schedule: &str, more: &str) -> String {
    format!("vzdump: {id}\n\tschedule {schedule}\n\tall 1\n\tenabled 1\n\tstorage local\n{more}\n")
}

/// A job that never runs, and that is the last of each round.
fn marker() -> String {
    job("zz", NEVER, "")
}

#[test]
fn a_missed_run_is_repeated_only_where_that_is_wanted() {
    let repeat = "\trepeat-missed 1\n";
    // Once an hour, and not while this test runs.
    let now = pve_testing::context("/", "n1").now();
    let hourly = &format!("*:{:02}", (now / 60 + 20) % 60);
    let jobs = job("late", hourly, "") + &job("again", hourly, repeat) + &job("every", "*:*:0/5", repeat);
    let mut lab = Lab::new(&jobs);
    for (name, schedule) in [("late", hourly.as_str()), ("again", hourly), ("every", "*:*:0/5")] {
        lab.remember(&format!("vzdump-{name}"), schedule, now - HOUR);
    }
    lab.start();
    for name in ["vzdump-again", "vzdump-every"] {
        let upid = lab.until("the run that was missed", |lab| {
            lab.state(name)["upid"].as_str().map(str::to_owned)
        });
        assert!(
            upid.starts_with("UPID:n1:") && upid.ends_with(":vzdump::root@pam:"),
            "{upid}"
        );
    }
    let updated = lab.until("the end of the round", |lab| {
        lab.state("vzdump-late")["updated"].as_i64()
    });
    assert!((now..now + 60).contains(&updated));
    assert_eq!(
        lab.bytes("vzdump-late"),
        format!(
            r#"{{"config":{{"enabled":1,"schedule":"{hourly}"}},"state":"created","time":{},"updated":{updated}}}"#,
            now - HOUR
        )
    );
    lab.end(Signal::SIGTERM);
    assert!(
        lab.log().contains("starting server") && lab.log().contains("server stopped"),
        "{}",
        lab.log()
    );
}

#[test]
fn a_job_outlives_reload_stop_and_death_of_the_scheduler() {
    let mut lab = Lab::new(&(job("long", "*:*:0/5", "\trepeat-missed 1\n") + &marker()));
    lab.remember("vzdump-long", "*:*:0/5", lab.context.now() - HOUR);
    let held = lab.hold_backups();
    lab.first_round(Lab::start);
    let upid = lab.task("vzdump-long");
    let started = format!(r#"{{"config":{{"enabled":1,"schedule":"*:*:0/5"}},"state":"started","upid":"{upid}"}}"#);
    assert_eq!(lab.bytes("vzdump-long"), started);

    // It is due again all the time, and never runs twice at once.
    lab.reload();
    assert_eq!(lab.bytes("vzdump-long"), started);
    lab.end(Signal::SIGTERM);
    assert!(process::is_running(&upid), "stopping the scheduler stops no job");
    lab.first_round(Lab::start);
    lab.end(Signal::SIGKILL);
    assert!(process::is_running(&upid), "nor does its death");
    assert_eq!((lab.bytes("vzdump-long"), lab.task_logs()), (started, 1));

    drop(held);
    lab.until("the end of the task", |_| (!process::is_running(&upid)).then_some(()));
    let end = status::of_log(&TaskList::new(&lab.context).log_path(&upid));
    assert_ne!(end, "unexpected status");
    // From now on the job is not due, so that the next scheduler only takes note of the end.
    let jobs = job("long", NEVER, "\trepeat-missed 1\n") + &marker();
    Cfs::new(&lab.context).write("jobs.cfg", jobs.as_bytes()).unwrap();
    lab.first_round(Lab::start);
    let state = lab.state("vzdump-long");
    assert_eq!((&state["msg"], &state["upid"]), (&json!(end), &json!(upid.to_string())));
    assert_eq!(
        (&state["state"], state.get("time")),
        (&json!("stopped"), None),
        "{state}"
    );
    assert_eq!(lab.task_logs(), 1);
}

#[test]
fn a_job_that_ran_too_long_runs_again_when_it_has_ended() {
    let mut lab = Lab::new(&(job("often", "*:*:0/5", "\trepeat-missed 1\n") + &marker()));
    lab.remember("vzdump-often", "*:*:0/5", lab.context.now() - HOUR);
    let held = lab.hold_backups();
    lab.first_round(Lab::start);
    let first = lab.task("vzdump-often");
    drop(held);
    lab.until("the end of the task", |_| (!process::is_running(&first)).then_some(()));
    // Its next time after the start has to come.
    lab.until("five seconds", |lab| {
        (lab.context.now() >= i64::from(first.starttime) + 5).then_some(())
    });
    lab.reload();
    let second = lab.until("the next run", |lab| {
        let upid: Upid = lab.state("vzdump-often")["upid"].as_str()?.parse().ok()?;
        (upid != first).then_some(upid)
    });
    assert!(second.starttime > first.starttime);
    let log = TaskList::new(&lab.context).log_path(&first);
    assert_ne!(status::of_log(&log), "unexpected status");
}

#[test]
fn one_broken_job_keeps_no_other_from_running() {
    let jobs = "vzdump: broken\n\tschedule 8..5\n\n".to_owned()
        + "realm-sync: sync\n\trealm corp\n\tschedule hourly\n\tscope both\n\tenabled 1\n\n"
        + &job("nowhere", "hourly", "\trepeat-missed 1\n\tnode n2\n")
        + &job("spoilt", "hourly", "\trepeat-missed 1\n")
        + &job("well", "hourly", "\trepeat-missed 1\n")
        + &marker();
    let jobs = jobs.replace(
        "vzdump: well\n\tschedule hourly\n\tall 1\n",
        "vzdump: well\n\tschedule hourly\n\tvmid 999\n",
    );
    let mut lab = Lab::new(&jobs);
    let long_ago = lab.context.now() - 2 * HOUR;
    for name in ["vzdump-nowhere", "vzdump-well", "realm-sync-sync"] {
        lab.remember(name, "hourly", long_ago);
    }
    fs::write(lab.state_file("vzdump-spoilt"), "{\n}").unwrap();
    lab.first_round(Lab::start);
    let upid = lab.task("vzdump-well");
    assert_eq!(upid.id, "999", "a guest that nobody has is attempted here");
    let log = lab.log();
    assert!(log.contains("unable to parse value of 'schedule'"), "{log}");
    assert!(log.contains("invalid json data in '"), "{log}");
    assert_eq!(lab.bytes("vzdump-spoilt"), "{\n}", "a person may want to see it");
    assert_eq!(lab.state("vzdump-nowhere")["state"], "created");
    // Realm jobs have no `repeat-missed`, so the first round put it off.
    assert!(lab.state("realm-sync-sync")["updated"].as_i64() > Some(long_ago));
    assert!(!lab.state_file("vzdump-broken").exists());
}
