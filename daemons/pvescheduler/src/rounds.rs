//! Rounds of the scheduler, one at a time, and saying once what went wrong: an `/etc/pve` that is away for a night must
//! not fill the log.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use pve_cfs::lock::{DEFAULT_TIMEOUT, Mode};
use pve_cfs::{Cfs, CfsError, FileLock};
use pve_daemon::BoxError;
use pve_jobs::jobs_cfg::{FILE, lock_id};
use pve_jobs::{JobsCfg, Round, StateStore, round};
use pve_schema::Context;
use pve_task::TaskList;

use crate::{counters, start};

/// Held during a round: the worker of the image before a reload may not have finished its last one.
const LOCK: &str = "/var/lock/pve-manager/pvescheduler-jobs.lck";

/// The rounds of one worker.
#[derive(Debug)]
pub(crate) struct Rounds {
    context: Context,
    /// No round was run since the scheduler started.
    first: bool,
    /// What was last said about rounds that failed.
    failing: Option<String>,
    /// What was last said about the file.
    warned: Vec<String>,
}

impl Rounds {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            first: true,
            failing: None,
            warned: Vec::new(),
        }
    }

    /// Runs a round, unless one is under way.
    pub(crate) fn run(&mut self) {
        let Some(_lock) = self.take_turn() else { return };
        let start = Instant::now();
        let result = self.round();
        counters::round(start.elapsed(), self.context.now(), result.is_err());
        self.first = false;
        match self.change(result) {
            Some(Ok(text)) => log::info!("{text}"),
            Some(Err(text)) => log::error!("{text}"),
            None => {}
        }
    }

    /// The right to run a round; `None` if somebody else has it.
    fn take_turn(&self) -> Option<Turn> {
        let path: PathBuf = self.context.site.path(LOCK);
        match FileLock::acquire(&path, Mode::Exclusive, Duration::ZERO, &mut |_| {}) {
            Ok(lock) => Some(Turn { _lock: Some(lock) }),
            Err(CfsError::LockTimeout(_)) => None,
            // Better two rounds, of which job states are locked one by one, than none.
            Err(error) => {
                log::warn!("{error}");
                Some(Turn { _lock: None })
            }
        }
    }

    fn round(&mut self) -> Result<(), BoxError> {
        let cfs = Cfs::new(&self.context);
        let states = StateStore::new(&self.context);
        let jobs = cfs.with_lock(&lock_id(), DEFAULT_TIMEOUT, || {
            let jobs = self.read(&cfs)?;
            states.synchronise(&jobs);
            Ok::<_, BoxError>(jobs)
        })?;
        let zone = TimeZone::system();
        let tasks = TaskList::new(&self.context);
        let round = Round {
            node: &self.context.site.node,
            zone: &zone,
            now: self.context.now(),
            first: self.first,
        };
        round::run(
            &jobs,
            &states,
            &round,
            |upid| round::task_end(&tasks, upid),
            |job, section| {
                let started = start::job(&self.context, job, section);
                counters::job(&started);
                started
            },
        );
        Ok(())
    }

    /// Reads the file. What is wrong with it is told when it is new.
    fn read(&mut self, cfs: &Cfs) -> Result<JobsCfg, BoxError> {
        // Where even this is missing there is nothing mounted: no file is not the same as no jobs, whose states would
        // be forgotten.
        let own = format!("nodes/{}", self.context.site.node);
        if !cfs.exists(&own)? {
            return Err(format!("'/etc/pve/{own}' does not exist").into());
        }
        let text = cfs.read_text(FILE)?.unwrap_or_default();
        let jobs = JobsCfg::parse(&text);
        let warnings: Vec<String> = jobs.file.warnings.iter().map(ToString::to_string).collect();
        for warning in warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            log::warn!("{}", warning.trim_end());
        }
        self.warned = warnings;
        Ok(jobs)
    }

    /// What is to be said since the round before: an error that is new, or that there is none any more.
    fn change(&mut self, result: Result<(), BoxError>) -> Option<Result<String, String>> {
        match result.map_err(|error| error.to_string()) {
            Ok(()) => self.failing.take().map(|_| Ok("jobs: works again".to_owned())),
            Err(error) if self.failing.as_ref() == Some(&error) => None,
            Err(error) => {
                let text = format!("jobs: {error}");
                self.failing = Some(error);
                Some(Err(text))
            }
        }
    }
}

/// The right to run a round.
struct Turn {
    _lock: Option<FileLock>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pve_jobs::{JobKind, JobState};
    use pve_schema::clock::ManualClock;

    use super::*;

    const JOB: &str = "vzdump: off\n\tschedule daily\n\tall 1\n\tenabled 0\n\n";

    struct Lab {
        _directory: tempfile::TempDir,
        clock: Arc<ManualClock>,
        rounds: Rounds,
    }

    impl Lab {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::at(1000));
            let context = pve_testing::context(directory.path(), "n1");
            Self {
                _directory: directory,
                rounds: Rounds::new(&context.with_clock(clock.clone())),
                clock,
            }
        }

        fn write(&self, jobs: &str) {
            let cfs = Cfs::new(&self.rounds.context);
            cfs.ensure_tree().unwrap();
            cfs.write(FILE, jobs.as_bytes()).unwrap();
        }

        fn state(&self, id: &str) -> Option<JobState> {
            StateStore::new(&self.rounds.context).load(JobKind::Vzdump, id).unwrap()
        }
    }

    #[test]
    fn states_outlive_a_file_system_that_is_away_and_it_is_said_once() {
        let mut lab = Lab::new();
        lab.write(JOB);
        lab.rounds.run();
        let state = lab.state("off").unwrap();
        assert_eq!((state.time, state.updated), (Some(1000), Some(1000)), "the first round");

        let pve = lab.rounds.context.site.etc_pve();
        let away = pve.with_extension("away");
        std::fs::rename(&pve, &away).unwrap();
        lab.clock.set(1060);
        let round = lab.rounds.round();
        let text = "jobs: '/etc/pve/nodes/n1' does not exist".to_owned();
        assert_eq!(lab.rounds.change(round), Some(Err(text)));
        let round = lab.rounds.round();
        assert_eq!(lab.rounds.change(round), None);
        assert_eq!(lab.state("off"), Some(state.clone()));

        std::fs::rename(&away, &pve).unwrap();
        let round = lab.rounds.round();
        assert_eq!(lab.rounds.change(round), Some(Ok("jobs: works again".to_owned())));
        assert_eq!(lab.rounds.change(Ok(())), None);
        lab.rounds.run();
        assert_eq!(lab.state("off"), Some(state), "only the first round counts as a run");
    }

    /// It must not look as if it had been done.
    #[test]
    fn a_realm_that_is_none_is_told_once_as_failed() {
        let mut lab = Lab::new();
        lab.write("realm-sync: corp\n\trealm corp\n\tschedule hourly UTC\n\tscope both\n\tenabled 1\n\n");
        let file = lab
            .rounds
            .context
            .site
            .path("/var/lib/pve-manager/jobs/realm-sync-corp.json");
        let mut round = |now: i64| {
            lab.clock.set(now);
            lab.rounds.run();
            std::fs::read_to_string(&file).unwrap()
        };
        let config = r#""config":{"enabled":1,"schedule":"hourly UTC"}"#;
        assert_eq!(
            round(1000),
            format!(r#"{{{config},"state":"created","time":1000,"updated":1000}}"#)
        );
        let failed = format!(
            r#"{{{config},"msg":"Parameter verification failed. realm: Realm does not exist.","state":"stopped","time":3605}}"#
        );
        assert_eq!(round(3605), failed);
        assert_eq!(round(3665), failed, "it is due again in an hour");
    }

    #[test]
    fn one_round_runs_at_a_time() {
        let mut lab = Lab::new();
        lab.write(JOB);
        let path = lab.rounds.context.site.path(LOCK);
        // Locks of one thread let that thread in again; the worker of the image before is a process of its own.
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let (taken, holds) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let lock = FileLock::exclusive(&path, Duration::from_secs(10)).unwrap();
            taken.send(()).unwrap();
            let _ = ended.recv();
            drop(lock);
        });
        holds.recv().unwrap();
        lab.rounds.run();
        assert_eq!(lab.state("off"), None);
        drop(done);
        other.join().unwrap();
        lab.clock.set(1060);
        lab.rounds.run();
        assert_eq!(
            lab.state("off").unwrap().updated,
            Some(1060),
            "that was the first round"
        );
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said_when_it_is_new() {
        let mut lab = Lab::new();
        let cfs = Cfs::new(&lab.rounds.context);
        lab.write("vzdump: bad\n\tschedule 8..5\n\n");
        lab.rounds.read(&cfs).unwrap();
        let warned = lab.rounds.warned.clone();
        assert!(!warned.is_empty());
        lab.rounds.read(&cfs).unwrap();
        assert_eq!(lab.rounds.warned, warned);
        lab.write(JOB);
        lab.rounds.read(&cfs).unwrap();
        assert!(lab.rounds.warned.is_empty());
    }
}
