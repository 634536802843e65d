//! The task's side: what happens between the re-exec and the last line of the log.

use std::any::Any;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use pve_daemon::process::{reserve_title, set_title};
use pve_schema::ids::Upid;
use pve_schema::{Context, errno_text};
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::counters;
use crate::order::{FAILURE, MAX_ORDER, Order, RELEASE, VERSION};
use crate::process::start_time;
use crate::{Kinds, TaskError, TaskList, TaskRequest, Worker};

/// What tells a task to stop.
const STOPS: [i32; 3] = [SIGTERM, SIGINT, SIGQUIT];
/// How long an interrupted task has to clean up by itself. Less than the 5 s after which it would be killed.
const CLEAN_UP: Duration = Duration::from_secs(3);
/// Exit code of a task that failed.
pub(crate) const FAILED: u8 = 255;

/// Runs the task that the parent orders on standard input. To be called from `main` on [`crate::VERB`], with the logger
/// set up and before any thread is started.
pub fn child_main(kinds: &Kinds) -> ExitCode {
    reserve_title();
    match set_up() {
        Ok(started) => started.run(kinds),
        Err(text) => {
            // The parent may be gone; then nobody wants to know.
            let mut stdout = io::stdout().lock();
            let _ = writeln!(stdout, "{FAILURE}{}", text.replace('\n', " "));
            let _ = stdout.flush();
            ExitCode::from(FAILED)
        }
    }
}

/// A task whose UPID has been reported.
struct Started {
    order: Order,
    context: Context,
    upid: Upid,
    log: Arc<File>,
}

fn set_up() -> Result<Started, String> {
    // A daemon's signal mask would make the task deaf; it survives the exec.
    SigSet::empty().thread_set_mask().map_err(|error| error.to_string())?;
    // Fails only for a process that leads a group already, and then a stop reaches it all the same.
    let _ = setsid();
    let order = read_order()?;
    let context = Context::new(order.site.clone());
    pve_daemon::counters::join(&context.site, counters::HOST, &counters::ALL);
    let request = TaskRequest {
        worker_type: order.worker_type.clone(),
        id: order.id.clone(),
        caller: order.caller.clone(),
        request_id: order.request_id.clone(),
    };
    let pid = std::process::id();
    let pstart = start_time(pid).ok_or("unable to read own start time")?;
    let upid = request.upid(&context, pid, pstart).map_err(|error| error.to_string())?;
    let log = TaskList::new(&context)
        .create_log(&upid)
        .map_err(|error| format!("unable to create output file - {}", errno_text(&error)))?;
    Ok(Started {
        order,
        context,
        upid,
        log: Arc::new(log),
    })
}

fn read_order() -> Result<Order, String> {
    let mut line = String::new();
    let mut stdin = io::stdin().lock();
    (&mut stdin)
        .take(MAX_ORDER)
        .read_line(&mut line)
        .map_err(|error| format!("unable to read the order - {}", errno_text(&error)))?;
    let order: Order = serde_json::from_str(&line).map_err(|error| format!("unable to read the order: {error}"))?;
    if order.version != VERSION {
        return Err(format!("order of version {} - expected {VERSION}", order.version));
    }
    Ok(order)
}

impl Started {
    fn run(self, kinds: &Kinds) -> ExitCode {
        let interrupted = Arc::new(AtomicBool::new(false));
        let end = Arc::new(End::new(Arc::clone(&self.log)));
        set_title(&format!("task {}", self.upid));
        let result = self.become_a_task(&interrupted, &end);
        let mut worker = Worker::new(
            self.context,
            self.upid,
            self.order.caller,
            self.order.request_id,
            Arc::clone(&interrupted),
        );
        let result = result.and_then(|()| {
            let work = || kinds.run(&self.order.kind, self.order.payload, &mut worker);
            catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_error(panic.as_ref())))
        });
        let result = match result {
            // What a stopped task fails with is a consequence of the stop.
            Err(_) if interrupted.load(Ordering::SeqCst) => Err(worker.interruption()),
            other => other,
        };
        end.write(&result, worker.warnings())
    }

    /// Reports the UPID, waits for the release, and puts the log in place of the pipes.
    fn become_a_task(&self, interrupted: &Arc<AtomicBool>, end: &Arc<End>) -> Result<(), TaskError> {
        {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{}", self.upid)?;
            stdout.flush()?;
        }
        let mut release = String::new();
        let answer = io::stdin()
            .lock()
            .take(RELEASE.len() as u64 + 1)
            .read_line(&mut release);
        dup2_stdin(File::open("/dev/null")?)?;
        dup2_stdout(&*self.log)?;
        dup2_stderr(&*self.log)?;
        // The log is there from here on, so what goes wrong stands in it.
        answer?;
        if release.trim_end() != RELEASE {
            return Err(TaskError::new("parent setup error"));
        }
        heed_signals(interrupted, end)
    }
}

/// Takes the signals: they tell the work to stop, and a thread ends the process if that does not.
///
/// The flag is set by the handler itself. A command of the task that got the signal, too, may be gone before any thread
/// has run, and what the work fails with then must be known for a consequence.
fn heed_signals(interrupted: &Arc<AtomicBool>, end: &Arc<End>) -> Result<(), TaskError> {
    for signal in STOPS {
        signal_hook::flag::register(signal, Arc::clone(interrupted))?;
    }
    let mut signals = Signals::new(STOPS)?;
    let end = Arc::clone(end);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            std::thread::sleep(CLEAN_UP);
            end.write(&Err(TaskError::interrupted()), 0);
            std::process::exit(i32::from(FAILED));
        }
    })?;
    Ok(())
}

/// The last line of the log, which is written once.
struct End {
    log: Arc<File>,
    written: Mutex<bool>,
}

impl End {
    fn new(log: Arc<File>) -> Self {
        Self {
            log,
            written: Mutex::new(false),
        }
    }

    /// Writes the last line, unless it is there already; how the process is to exit.
    fn write(&self, result: &Result<(), TaskError>, warnings: u64) -> ExitCode {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = io::stdout().flush();
        let (line, code) = match result {
            Ok(()) if warnings > 0 => (format!("TASK WARNINGS: {warnings}"), ExitCode::SUCCESS),
            Ok(()) => ("TASK OK".to_owned(), ExitCode::SUCCESS),
            Err(error) => (format!("TASK ERROR: {}", error.line()), ExitCode::from(FAILED)),
        };
        if *written {
            return code;
        }
        *written = true;
        if let Err(error) = result {
            log::error!("{}", error.line());
        }
        let start = if self.ends_with_newline() { "" } else { "\n" };
        if let Err(error) = (&*self.log).write_all(format!("{start}{line}\n").as_bytes()) {
            log::error!("unable to write the end of a task's log - {}", errno_text(&error));
        }
        code
    }

    /// Whether the log ends at a line's end, so that the last line begins one.
    fn ends_with_newline(&self) -> bool {
        let size = self.log.metadata().map_or(0, |meta| meta.len());
        let mut last = [b'\n'];
        match size.checked_sub(1) {
            Some(at) => self.log.read_exact_at(&mut last, at).is_err() || last == [b'\n'],
            None => true,
        }
    }
}

fn panic_error(panic: &(dyn Any + Send)) -> TaskError {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    TaskError::new(format!("internal error: {}", text.unwrap_or_default()))
}
