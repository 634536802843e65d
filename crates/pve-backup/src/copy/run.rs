//! The course of a copy.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pve_qemu::config::DriveKey;
use pve_qemu::qmp::QmpError;
use pve_schema::ids::VmId;
use pve_schema::{Site, errno_text};

use super::error::CopyError;
use super::jobs::{Job, Monitor, job_name, source_node};
use super::progress::{Progress, totals};
use super::queue::Queue;
use super::{Disk, Limits, Source, Summary, Watch, uuid_text};
use crate::nbd::{Export, Server};
use crate::vma::{Header, VmaError, Writer};

/// How long a signal, a progress line or a complete disk may go without notice.
const TICK: Duration = Duration::from_millis(200);
/// How often QEMU is asked about its jobs while they copy.
const ASK: Duration = Duration::from_secs(1);
/// The same when all data have come.
const ASK_AT_END: Duration = Duration::from_millis(20);
/// How long QEMU's monitor may go without an answer: others use it, too, and some commands take their time.
const PATIENCE: Duration = Duration::from_secs(600);

/// Copies a VM that has disks.
pub(super) fn run<W: Write + Send>(
    site: &Site,
    source: &Source,
    limits: &Limits,
    mut header: Header,
    output: W,
    watch: &mut dyn Watch,
) -> Result<Summary, CopyError> {
    let monitor = Monitor::new(site, source.vmid);
    let attached = prepare(&monitor, source, &mut header);
    let copied = attached.and_then(|()| serve(site, monitor, source, limits, header, output, watch));
    if copied.is_err()
        && let Err(error) = monitor.release()
    {
        // Before the server is there, nothing else removes what was prepared.
        log::warn!("{error}");
    }
    copied
}

/// Removes what a killed run left, opens the images that QEMU does not have, and tells the header about all devices.
fn prepare(monitor: &Monitor<'_>, source: &Source, header: &mut Header) -> Result<(), CopyError> {
    monitor.release()?;
    for disk in &source.disks {
        if let Some(volume) = &disk.volume {
            monitor.attach(disk.key, volume)?;
        }
    }
    let nodes: Vec<String> = source.disks.iter().map(node_of).collect();
    for (disk, size) in source.disks.iter().zip(monitor.sizes(&nodes)?) {
        header.add_device(&disk.device, size)?;
    }
    Ok(())
}

fn node_of(disk: &Disk) -> String {
    source_node(disk.key, disk.volume.as_ref())
}

/// The socket that QEMU connects to.
pub(crate) fn socket_path(site: &Site, vmid: VmId) -> PathBuf {
    pve_qemu::runtime::directory(site).join(format!("{vmid}.vzdump-nbd.sock"))
}

/// Copies with a server and a writer around it, which live longer than the jobs.
fn serve<W: Write + Send>(
    site: &Site,
    monitor: Monitor<'_>,
    source: &Source,
    limits: &Limits,
    header: Header,
    output: W,
    watch: &mut dyn Watch,
) -> Result<Summary, CopyError> {
    let socket = socket_path(site, source.vmid);
    let uuid = uuid_text(&header.uuid);
    let devices = header.devices().iter();
    let exports: Vec<Export> = devices
        .map(|device| Export {
            name: device.name.clone(),
            size: device.size,
        })
        .collect();
    let total = exports.iter().map(|export| export.size).sum();
    let queue = Arc::new(Queue::new(header.devices()));
    let writer = Writer::new(output, header)?;
    let target = Arc::clone(&queue);
    let mut server = Server::start(&socket, exports, target).map_err(|error| CopyError::Socket {
        path: socket.display().to_string(),
        reason: errno_text(&error),
    })?;
    let mut run = Run {
        monitor,
        disks: in_copy_order(&source.disks),
        queue: &queue,
        progress: Progress::new(total),
        begin: Instant::now(),
        watch,
    };
    std::thread::scope(|scope| {
        // Whatever happens here, the writer's thread must end, or the scope would wait for it for ever.
        let closing = Closing(&queue);
        let drained = Arc::clone(&queue);
        let writing = scope.spawn(move || drained.drain(writer));
        let copied = run.copy(&socket, limits, &uuid);
        let released = run.leave(copied.is_err());
        server.stop();
        drop(closing);
        let written = writing.join().unwrap_or_default();
        // What the writer says is the reason for what the jobs say.
        if let Some(failure) = queue.take_failure() {
            return Err(failure);
        }
        copied.and(released)?;
        run.finish(written)
    })
}

/// Closes the queue at the end of its scope.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The images that nobody keeps at the instant come first: they are to be of the same time as the disks.
fn in_copy_order(disks: &[Disk]) -> Vec<(usize, &Disk)> {
    let mut disks: Vec<(usize, &Disk)> = disks.iter().enumerate().collect();
    disks.sort_by_key(|(_, disk)| disk.volume.is_none());
    disks
}

/// A copy under way.
struct Run<'a> {
    monitor: Monitor<'a>,
    /// The disks in the order in which they are copied, with their places in the archive.
    disks: Vec<(usize, &'a Disk)>,
    queue: &'a Queue,
    progress: Progress,
    begin: Instant,
    watch: &'a mut dyn Watch,
}

impl Run<'_> {
    /// Starts the jobs and waits until they have copied everything.
    fn copy(&mut self, socket: &std::path::Path, limits: &Limits, uuid: &str) -> Result<(), CopyError> {
        let targets: Vec<(DriveKey, &str)> = self.disks.iter().map(|(_, disk)| (disk.key, &*disk.device)).collect();
        self.monitor.connect(socket, &targets)?;
        if self.watch.is_interrupted() {
            return Err(CopyError::Interrupted);
        }
        self.watch.freeze();
        self.watch.log("starting backup via QMP command");
        let jobs: Vec<(DriveKey, String)> = self.disks.iter().map(|(_, disk)| (disk.key, node_of(disk))).collect();
        self.queue.arm();
        self.begin = Instant::now();
        let started = self.monitor.start(&jobs, limits);
        self.watch.thaw();
        started?;
        self.watch.started(uuid);
        self.follow()
    }

    /// Looks after the jobs until all have concluded.
    fn follow(&mut self) -> Result<(), CopyError> {
        let mut current = 0;
        let mut answered = Instant::now();
        let mut asked = Instant::now();
        loop {
            let is_complete = self.disks.iter().all(|(index, _)| self.queue.has_all(*index));
            self.queue.wait(if is_complete { ASK_AT_END } else { TICK });
            self.check()?;
            let mut next = current;
            while self
                .disks
                .get(next)
                .is_some_and(|(index, _)| self.queue.has_all(*index))
            {
                next += 1;
            }
            if asked.elapsed() >= if is_complete { ASK_AT_END } else { ASK } {
                asked = Instant::now();
                match self.monitor.jobs() {
                    Ok(jobs) => {
                        answered = asked;
                        if self.judge(&jobs)? {
                            return Ok(());
                        }
                        next = next.max(self.first_busy(&jobs));
                        self.keep_going(&jobs, current);
                    }
                    Err(error @ QmpError::NotRunning(_)) => return Err(error.into()),
                    Err(error) if answered.elapsed() >= PATIENCE => return Err(error.into()),
                    Err(error) => log::debug!("no word about the backup jobs: {error}"),
                }
            }
            // A disk that came in full while it was paused has to be resumed all the same: its job waits at its end.
            while current < next {
                current += 1;
                self.resume(current);
            }
            if let Some(line) = self.progress.line(self.queue.counts(), self.begin.elapsed()) {
                self.watch.progress(&line);
            }
        }
    }

    /// Whether to go on.
    fn check(&self) -> Result<(), CopyError> {
        if let Some(failure) = self.queue.take_failure() {
            return Err(failure);
        }
        if self.watch.is_interrupted() {
            return Err(CopyError::Interrupted);
        }
        Ok(())
    }

    /// Whether all jobs have concluded well.
    fn judge(&self, jobs: &[Job]) -> Result<bool, CopyError> {
        let mut failed = None;
        let mut concluded = 0;
        for (_, disk) in &self.disks {
            let name = job_name(disk.key);
            let job = jobs.iter().find(|job| job.name == name);
            let job = job.ok_or_else(|| CopyError::JobGone(disk.device.clone()))?;
            concluded += usize::from(job.is_concluded);
            // One that fails takes the others with it: they say that they were cancelled, which is not the reason.
            let is_reason = |reason: &str| failed.is_none() || reason != "Operation canceled";
            if let Some(reason) = job.error.clone().filter(|reason| is_reason(reason)) {
                failed = Some(CopyError::Job {
                    device: disk.device.clone(),
                    reason,
                });
            }
        }
        failed.map_or(Ok(concluded == self.disks.len()), Err)
    }

    /// The first disk, in copy order, whose job has something to copy still.
    fn first_busy(&self, jobs: &[Job]) -> usize {
        let is_through = |disk: &Disk| jobs.iter().any(|job| job.name == job_name(disk.key) && job.is_through);
        let mut disks = self.disks.iter();
        disks
            .position(|(_, disk)| !is_through(disk))
            .unwrap_or(self.disks.len())
    }

    fn resume(&self, place: usize) {
        if let Some((_, disk)) = self.disks.get(place) {
            self.monitor.resume(disk.key);
        }
    }

    /// Resumes those disks again whose turn it is or was, should they have missed that.
    fn keep_going(&self, jobs: &[Job], current: usize) {
        let is_paused = |disk: &Disk| jobs.iter().any(|job| job.is_paused && job.name == job_name(disk.key));
        for (place, (_, disk)) in self.disks.iter().enumerate() {
            if place <= current && is_paused(disk) {
                self.resume(place);
            }
        }
    }

    /// Leaves the VM without jobs and nodes; the server must be there until that is done.
    fn leave(&mut self, has_failed: bool) -> Result<(), CopyError> {
        if has_failed {
            self.queue.discard();
            self.watch.log("aborting backup job");
        }
        self.monitor.release()
    }

    /// Completes the archive.
    fn finish<W: Write>(&mut self, written: Option<Writer<W>>) -> Result<Summary, CopyError> {
        let writer = written.ok_or_else(|| VmaError::Write("writer has gone".to_owned()))?;
        let (_, _, archive_bytes) = writer.finish_counted()?;
        let (counts, duration) = (self.queue.counts(), self.begin.elapsed());
        let line = self.progress.last(counts, duration);
        self.watch.progress(&line);
        for line in totals(counts, duration) {
            self.watch.log(&line);
        }
        Ok(Summary {
            bytes: counts.bytes,
            zero_bytes: counts.zero,
            archive_bytes,
            duration,
        })
    }
}
