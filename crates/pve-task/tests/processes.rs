//! Tasks as real processes: this binary is daemon, task and test in one, so it has a `main` of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::Arguments;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::ids::{AuthId, Upid};
use pve_task::{
    Kinds, Launcher, StartError, Task, TaskError, TaskList, TaskRequest, VERB, Worker, child_main, process, run_inline,
    status,
};
use pve_testing::{PATIENCE, wait_for};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Speak {
    lines: Vec<String>,
    warnings: Vec<String>,
    fail: Option<String>,
}

impl Task for Speak {
    const KIND: &'static str = "speak";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        for line in &self.lines {
            worker.log(line);
        }
        for warning in &self.warnings {
            worker.warn(warning);
        }
        eprint!("half a line");
        self.fail.map_or(Ok(()), |text| Err(TaskError::new(text)))
    }
}

#[derive(Serialize, Deserialize)]
struct Panics;

impl Task for Panics {
    const KIND: &'static str = "panics";

    fn run(self, _worker: &mut Worker) -> Result<(), TaskError> {
        panic!("a mistake")
    }
}

/// Waits for a file, and tells of what happens to it.
#[derive(Serialize, Deserialize)]
struct WaitFor {
    file: PathBuf,
    stubborn: bool,
}

impl Task for WaitFor {
    const KIND: &'static str = "wait";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        worker.log("waiting");
        while !self.file.exists() {
            if self.stubborn {
                std::thread::sleep(Duration::from_millis(10));
            } else if let Err(stop) = worker.sleep(Duration::from_millis(10)) {
                worker.log("cleaning up");
                return Err(stop);
            }
        }
        Ok(())
    }
}

/// Starts a program that outlives nothing, and waits for it.
#[derive(Serialize, Deserialize)]
struct RunSleep;

impl Task for RunSleep {
    const KIND: &'static str = "sleep";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let mut child = Command::new("sleep").arg("1000").spawn()?;
        worker.log(format!("child {}", child.id()));
        let status = child.wait()?;
        Err(TaskError::new(format!("sleep ended: {status}")))
    }
}

fn kinds() -> Kinds {
    let mut kinds = Kinds::new();
    kinds
        .register::<Speak>()
        .register::<Panics>()
        .register::<WaitFor>()
        .register::<RunSleep>();
    kinds
}

fn context(root: &Path) -> Context {
    pve_testing::context(root, "pve1")
}

fn request(id: &str) -> TaskRequest {
    TaskRequest {
        worker_type: "qmstart".to_owned(),
        id: id.to_owned(),
        caller: AuthId::root(),
        request_id: "r1".to_owned(),
    }
}

fn log_of(list: &TaskList, upid: &Upid) -> String {
    fs::read_to_string(list.log_path(upid)).unwrap_or_default()
}

/// Starts a task, waits for its end in the cluster log, and returns the log, its status and what the cluster log says.
fn run_to_end<T: Task>(task: &T) -> (String, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let upid = Launcher::start(&context, request("101"), task).unwrap();
    let list = TaskList::new(&context);
    let cluster_log = Cfs::new(&context).cluster_log();
    let end = format!("end task {upid} ");
    let ended = || {
        let entries = cluster_log.dump(None, 50).unwrap();
        entries
            .into_iter()
            .find(|e| e.msg.starts_with(&end))
            .map(|e| format!("{} {}", e.pri, &e.msg[end.len()..]))
    };
    wait_for("the end of a task", || ended().is_some());
    let path = list.log_path(&upid);
    let meta = fs::metadata(&path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    if nix::unistd::geteuid().is_root() {
        assert_eq!((meta.uid(), meta.gid()), (33, 0));
    }
    assert!(
        cluster_log
            .dump(None, 50)
            .unwrap()
            .iter()
            .any(|e| e.msg == format!("starting task {upid}"))
    );
    let entry = list.update(None).unwrap().into_iter().find(|e| e.upid == upid).unwrap();
    assert!(entry.saved && entry.endtime.is_some());
    (log_of(&list, &upid), status::of_log(&path), ended().unwrap())
}

fn a_task_runs_in_a_process_and_is_listed() {
    let (log, status, end) = run_to_end(&Speak {
        lines: vec!["one".to_owned(), "two".to_owned()],
        warnings: vec![],
        fail: None,
    });
    assert_eq!(log, "one\ntwo\nhalf a line\nTASK OK\n");
    assert_eq!((status.as_str(), end.as_str()), ("OK", "6 OK"));
}

fn warnings_are_counted() {
    let (log, status, end) = run_to_end(&Speak {
        lines: vec![],
        warnings: vec!["careful".to_owned(), "again\n".to_owned()],
        fail: None,
    });
    assert_eq!(log, "WARN: careful\nWARN: again\nhalf a line\nTASK WARNINGS: 2\n");
    assert_eq!((status.as_str(), end.as_str()), ("WARNINGS: 2", "6 WARNINGS: 2"));
}

fn an_error_is_the_last_line() {
    let (log, status, end) = run_to_end(&Speak {
        lines: vec![],
        warnings: vec!["careful".to_owned()],
        fail: Some("it broke\nbadly\n".to_owned()),
    });
    assert!(log.ends_with("TASK ERROR: it broke badly\n"), "{log}");
    assert_eq!((status.as_str(), end.as_str()), ("it broke badly", "3 it broke badly"));
}

fn a_panic_is_an_error() {
    let (log, status, _) = run_to_end(&Panics);
    assert!(log.ends_with("TASK ERROR: internal error: a mistake\n"), "{log}");
    assert_eq!(status, "internal error: a mistake");
}

fn an_unknown_kind_is_an_error() {
    #[derive(Serialize, Deserialize)]
    struct Unknown;
    impl Task for Unknown {
        const KIND: &'static str = "unknown";
        fn run(self, _worker: &mut Worker) -> Result<(), TaskError> {
            Ok(())
        }
    }
    assert_eq!(run_to_end(&Unknown).1, "unknown kind of task 'unknown'");
}

/// A task that waits in a fresh site.
struct Waiting {
    _dir: tempfile::TempDir,
    context: Context,
    list: TaskList,
    upid: Upid,
    file: PathBuf,
}

fn waiting(stubborn: bool) -> Waiting {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let file = dir.path().join("go");
    let task = WaitFor {
        file: file.clone(),
        stubborn,
    };
    let upid = Launcher::start(&context, request(""), &task).unwrap();
    let list = TaskList::new(&context);
    wait_for("the task's first words", || log_of(&list, &upid) == "waiting\n");
    Waiting {
        _dir: dir,
        context,
        list,
        upid,
        file,
    }
}

fn a_running_task_is_in_the_list_and_told_to_others() {
    let task = waiting(false);
    assert!(process::is_running(&task.upid));
    let entry = &task.list.update(None).unwrap()[0];
    assert_eq!((&entry.upid, entry.endtime), (&task.upid, None));
    let told = task.list.published().unwrap();
    assert_eq!((told[0].pid, told[0].status.as_deref()), (Some(task.upid.pid), None));
    let active = fs::read_to_string(task.context.site.path("/var/log/pve/tasks/active")).unwrap();
    assert_eq!(active, format!("{} 0\n", task.upid));
    fs::write(&task.file, "").unwrap();
    wait_for("the end of the task", || {
        task.list.published().unwrap()[0].status.as_deref() == Some("OK")
    });
    let index = fs::read_to_string(task.context.site.path("/var/log/pve/tasks/index")).unwrap();
    assert!(
        index.starts_with(&task.upid.to_string()) && index.ends_with(" OK\n"),
        "{index}"
    );
}

fn a_task_leads_a_session_of_its_own() {
    let task = waiting(false);
    let stat = fs::read_to_string(format!("/proc/{}/stat", task.upid.pid)).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let pid = task.upid.pid.to_string();
    assert_eq!(
        (fields[2], fields[3]),
        (pid.as_str(), pid.as_str()),
        "group and session"
    );
    let target = |fd: u32| fs::read_link(format!("/proc/{}/fd/{fd}", task.upid.pid)).unwrap();
    assert_eq!(target(0), Path::new("/dev/null"));
    assert_eq!(target(1), task.list.log_path(&task.upid));
    assert_eq!(target(2), target(1));
    let arguments = fs::read(format!("/proc/{}/cmdline", task.upid.pid)).unwrap();
    let arguments = String::from_utf8_lossy(&arguments);
    assert!(arguments.starts_with("task UPID:pve1:"), "{arguments}");
    assert!(!arguments.contains("go"), "the order is not in the arguments");
    process::stop(&task.upid);
}

fn a_stopped_task_may_clean_up() {
    let task = waiting(false);
    process::stop(&task.upid);
    assert!(!process::is_running(&task.upid));
    assert_eq!(
        log_of(&task.list, &task.upid),
        "waiting\ncleaning up\nTASK ERROR: received interrupt\n"
    );
    process::stop(&task.upid);
}

fn a_task_that_does_not_heed_a_stop_is_ended() {
    let task = waiting(true);
    process::stop(&task.upid);
    assert_eq!(
        status::of_log(&task.list.log_path(&task.upid)),
        "received interrupt",
        "no kill was needed: that leaves no status"
    );
}

fn a_killed_task_has_no_status() {
    let task = waiting(true);
    kill(Pid::from_raw(task.upid.pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let log = Cfs::new(&task.context).cluster_log();
    let end = format!("end task {} interrupted (9)", task.upid);
    wait_for("the end in the cluster log", || {
        log.dump(None, 50).unwrap().iter().any(|e| e.msg == end && e.pri == 3)
    });
    assert_eq!(
        task.list.update(None).unwrap()[0].status.as_deref(),
        Some("unexpected status")
    );
}

fn a_stop_reaches_the_tasks_commands() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let upid = Launcher::start(&context, request("1"), &RunSleep).unwrap();
    let list = TaskList::new(&context);
    let child = || {
        log_of(&list, &upid)
            .strip_prefix("child ")
            .map(|pid| pid.trim().to_owned())
    };
    wait_for("the command", || child().is_some_and(|pid| !pid.is_empty()));
    let child = child().unwrap();
    process::stop(&upid);
    wait_for("the command's end", || !Path::new(&format!("/proc/{child}")).exists());
    assert_eq!(status::of_log(&list.log_path(&upid)), "received interrupt");
}

/// The daemon of [`a_task_survives_the_daemons_death`]: starts a task, tells its UPID, and waits to be killed.
fn daemon(root: &Path) -> ExitCode {
    let task = WaitFor {
        file: root.join("go"),
        stubborn: false,
    };
    let upid = Launcher::start(&context(root), request("7"), &task).unwrap();
    println!("{upid}");
    std::thread::sleep(PATIENCE);
    ExitCode::FAILURE
}

fn a_task_survives_the_daemons_death() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .arg("daemon")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let upid: Upid = line.trim().parse().unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(process::is_running(&upid));
    fs::write(dir.path().join("go"), "").unwrap();
    let list = TaskList::new(&context(dir.path()));
    wait_for("the task's end", || !process::is_running(&upid));
    // Nobody waited for it; the next update of the list finds out.
    let entry = &list.update(None).unwrap()[0];
    assert_eq!((entry.saved, entry.status.as_deref()), (true, Some("OK")));
}

fn a_task_that_cannot_make_its_log_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("var/log/pve")).unwrap();
    fs::write(dir.path().join("var/log/pve/tasks"), "in the way").unwrap();
    let error = Launcher::start(&context(dir.path()), request("1"), &Panics).unwrap_err();
    assert!(matches!(error, StartError::Failed(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with("starting worker failed: unable to create output file - "),
        "{text}"
    );
}

fn what_makes_no_upid_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let error = Launcher::start(&context(dir.path()), request("a b"), &Panics).unwrap_err();
    assert!(error.to_string().starts_with("unable to parse worker upid 'UPID:pve1:"));
    assert!(!dir.path().join("var").exists());
}

fn tasks_run_inline_in_tests() {
    let dir = tempfile::tempdir().unwrap();
    let task = WaitFor {
        file: dir.path().to_owned(),
        stubborn: false,
    };
    let done = run_inline(&context(dir.path()), request("1"), task).unwrap();
    assert_eq!(
        (done.result, done.log.as_str(), done.warnings),
        (Ok(()), "waiting\n", 0)
    );
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(verb) if verb == VERB => return child_main(&kinds()),
        Some(verb) if verb == "daemon" => return daemon(Path::new(&arguments.next().unwrap_or_default())),
        _ => {}
    }
    libtest_mimic::run(
        &Arguments::from_args(),
        pve_testing::trials![
            a_task_runs_in_a_process_and_is_listed,
            warnings_are_counted,
            an_error_is_the_last_line,
            a_panic_is_an_error,
            an_unknown_kind_is_an_error,
            a_running_task_is_in_the_list_and_told_to_others,
            a_task_leads_a_session_of_its_own,
            a_stopped_task_may_clean_up,
            a_task_that_does_not_heed_a_stop_is_ended,
            a_killed_task_has_no_status,
            a_stop_reaches_the_tasks_commands,
            a_task_survives_the_daemons_death,
            a_task_that_cannot_make_its_log_does_not_start,
            what_makes_no_upid_does_not_start,
            tasks_run_inline_in_tests,
        ],
    )
    .exit_code()
}
