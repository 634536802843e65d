//! Whole backups: real tasks, real QEMU, real archives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use lab::{Daemon, Lab, VMID, vmid};
use libtest_mimic::Arguments;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pve_backup::vzdump::{Answer, extract};
use pve_cfs::Cfs;
use pve_qemu::hold;
use pve_schema::ids::Upid;
use pve_task::{Kinds, VERB, child_main};
use pve_testing::{noise, wait_for};

/// Checks that lines stand in a log in this order, others between them.
fn assert_lines(log: &str, expected: &[&str]) {
    let mut lines = log.lines();
    for line in expected {
        assert!(
            lines.any(|found| found.starts_with(line)),
            "'{line}' is missing in\n{log}"
        );
    }
}

/// A run wrote something of its archive.
fn wait_for_data(lab: &Lab, upid: &Upid) {
    wait_for("the copy runs", || {
        assert!(pve_task::process::is_running(upid), "{}", lab.log(upid));
        lab.log(upid).contains("started backup task")
    });
}

/// Nothing of a backup is left, but for the guest's log.
fn assert_no_trace(lab: &Lab) {
    let left: Vec<String> = lab.files().into_iter().filter(|name| !name.ends_with(".log")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(lab.lock(), None);
    let jobs = pve_qemu::qmp::execute(&lab.context.site, vmid(), "query-jobs", serde_json::Value::Null);
    if let Ok(jobs) = jobs {
        assert_eq!(jobs, serde_json::json!([]));
    }
}

fn a_vm_that_is_off_is_started_only_to_be_read() {
    let lab = Lab::new("v1");
    let _daemon = Daemon::new(&lab);
    let (one, two) = (noise(1, 3 << 20), noise(2, 1 << 20));
    let config = format!(
        "name: web\nscsi10: {}\nscsi2: {}\nscsi3: {},backup=0\nunused0: disks:{VMID}/gone.raw\n[PENDING]\nmemory: 64\n",
        lab.disk(0, &one),
        lab.disk(1, &two),
        lab.disk(2, &noise(3, 4096)),
    );
    lab.configure(VMID, &config);
    let rules = "[OPTIONS]\n\nenable: 1\n";
    Cfs::new(&lab.context)
        .write(&format!("firewall/{VMID}.fw"), rules.as_bytes())
        .unwrap();
    let number = VMID.to_string();
    let (log, status) = lab.back_up(&[
        ("vmid", &number),
        ("notes-template", r"{{guestname}}\n{{cluster}} {{vmid}}"),
    ]);
    assert_eq!(status, "OK", "{log}");
    let [archive] = <[_; 1]>::try_from(lab.archives()).unwrap();
    assert_lines(
        &log,
        &[
            "INFO: starting new backup job: vzdump 105 --notes-template '{{guestname}}\\n{{cluster}} {{vmid}}' --storage st",
            "INFO: Starting Backup of VM 105 (qemu)",
            "INFO: Backup started at 20",
            "INFO: status = stopped",
            "INFO: backup mode: stop",
            "INFO: ionice priority: 7",
            "INFO: VM Name: web",
            "INFO: include disk 'scsi10' 'disks:105/vm-105-disk-0.raw' 3M",
            "INFO: include disk 'scsi2' 'disks:105/vm-105-disk-1.raw' 1M",
            "INFO: exclude disk 'scsi3' 'disks:105/vm-105-disk-2.raw' (backup=no)",
            "INFO: skip unused drive 'disks:105/gone.raw' (not included into backup)",
            "INFO: pending configuration changes found (not included into backup)",
            &format!("INFO: creating vzdump archive '{}'", archive.display()),
            "INFO: starting kvm to execute backup task",
            "INFO: started backup task '",
            "INFO: 100% (4.0 MiB of 4.0 MiB) in ",
            "INFO: transferred 4.00 MiB in ",
            "INFO: stopping kvm after backup task",
            "INFO: archive file size: 4MB",
            "INFO: adding notes to backup",
            "INFO: Finished Backup of VM 105 (00:0",
            "INFO: Backup finished at 20",
            "INFO: Backup job finished successfully",
            "TASK OK",
        ],
    );
    for absent in ["resuming VM", "fs-freeze", "prune older", "restarting"] {
        assert!(!log.contains(absent), "{log}");
    }
    assert!(lab.process().is_none());
    assert_eq!(lab.lock(), None);
    assert!(lab.content(&archive, "drive-scsi10") == one && lab.content(&archive, "drive-scsi2") == two);

    let name = archive.file_name().unwrap().to_str().unwrap().to_owned();
    let guest_log = name.replace(".vma", ".log");
    assert_eq!(lab.files(), [guest_log.clone(), name.clone(), format!("{name}.notes")]);
    let notes = fs::read_to_string(lab.dump().join(format!("{name}.notes"))).unwrap();
    assert_eq!(notes, "web\nstandalone node 105");
    let guest_log = fs::read_to_string(lab.dump().join(guest_log)).unwrap();
    assert!(guest_log.contains(" INFO: status = stopped\n"), "{guest_log}");
    assert!(
        !guest_log.contains("Backup started at") && !guest_log.contains("starting new"),
        "{guest_log}"
    );

    let config = extract::of_archive(&archive).unwrap();
    for line in [
        "#qmdump#map:scsi10:drive-scsi10:disks:raw:\n#qmdump#map:scsi2:drive-scsi2:disks:raw:\n",
        "memory: 32\n",
        "name: web\n",
        "scsi3: ",
    ] {
        assert!(config.contains(line), "{config}");
    }
    for line in ["lock:", "unused", "PENDING", "map:scsi3"] {
        assert!(!config.contains(line), "{config}");
    }
}

fn a_running_vm_is_backed_up_in_every_mode() {
    let lab = Lab::new("v2");
    let _daemon = Daemon::new(&lab);
    let content = lab.running(2);
    let number = VMID.to_string();
    for (mode, expected, same_process) in [
        (
            "snapshot",
            &[
                "INFO: status = running",
                "INFO: VM Name: web",
                "INFO: backup mode: snapshot",
                "INFO: bandwidth limit: 100000 KiB/s",
                "INFO: creating vzdump archive",
                "INFO: started backup task",
                "INFO: resuming VM again",
                "INFO: archive file size",
                "INFO: Finished",
            ][..],
            true,
        ),
        (
            "suspend",
            &[
                "INFO: backup mode: suspend",
                "INFO: VM Name: web",
                "INFO: suspending guest",
                "INFO: creating vzdump archive",
                "INFO: started backup task",
                "INFO: resuming VM again after ",
                "INFO: archive file size",
                "INFO: resume vm",
                "INFO: guest is online again after ",
                "INFO: Finished",
            ],
            true,
        ),
        (
            "stop",
            &[
                "INFO: backup mode: stop",
                "INFO: VM Name: web",
                "INFO: stopping virtual guest",
                "INFO: creating vzdump archive",
                "INFO: starting kvm to execute backup task",
                "INFO: started backup task",
                "INFO: resuming VM again after ",
                "INFO: restarting vm",
                "INFO: guest is online again after ",
                "INFO: Finished",
            ],
            false,
        ),
    ] {
        let before = lab.process().unwrap();
        // A limit beyond all times is as good as another.
        let stopwait = ("stopwait", "9223372036854775807");
        let (log, status) = lab.back_up(&[("vmid", &number), ("mode", mode), ("bwlimit", "100000"), stopwait]);
        assert_eq!(status, "OK", "{log}");
        assert_lines(&log, expected);
        assert!(!log.contains("fs-freeze"), "{log}");
        assert_eq!(lab.process() == Some(before), same_process, "{mode}");
        assert_eq!((lab.status().as_str(), lab.lock()), ("running", None), "{mode}");
    }
    for archive in lab.archives() {
        assert!(lab.content(&archive, "drive-virtio0") == content);
    }
    assert_eq!(lab.archives().len(), 3);
}

/// A script that writes down when it is called, with which arguments and variables.
fn hook_script(lab: &Lab) -> String {
    let script = lab.directory.path().join("hook");
    let record = lab.directory.path().join("record");
    let text = format!(
        "#!/bin/sh\nexport -p | sed 's/^export //' | grep -v '^\\(PWD\\|OLDPWD\\|_\\)=' > {0}.env\n\
         {{ echo \"- $*\"; cat {0}.env; }} >> {0}\necho \"hook says $1\"\n[ \"$1\" != \"$(cat {0}.fail 2>/dev/null)\" ]\n",
        record.display()
    );
    // A shell without PATH has a default of its own for finding these programs.
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script.display().to_string()
}

fn hook_phases(lab: &Lab) -> Vec<String> {
    let record = fs::read_to_string(lab.directory.path().join("record")).unwrap();
    let phases = record.lines().filter_map(|line| line.strip_prefix("- "));
    phases.map(str::to_owned).collect()
}

fn the_hook_script_sees_every_phase_in_a_clean_environment() {
    let lab = Lab::new("v3");
    let _daemon = Daemon::new(&lab);
    lab.running(1);
    let script = hook_script(&lab);
    let number = VMID.to_string();
    let (log, status) = lab.back_up(&[("vmid", &number), ("script", &script)]);
    assert_eq!(status, "OK", "{log}");
    assert_eq!(
        hook_phases(&lab),
        [
            "job-init",
            "job-start",
            "backup-start snapshot 105",
            "pre-stop snapshot 105",
            "pre-restart snapshot 105",
            "post-restart snapshot 105",
            "backup-end snapshot 105",
            "log-end snapshot 105",
            "job-end",
        ]
    );
    assert!(log.contains("INFO: hook says pre-stop\n"), "{log}");
    let record = fs::read_to_string(lab.directory.path().join("record")).unwrap();
    let [archive] = <[_; 1]>::try_from(lab.archives()).unwrap();
    let part = |phase: &str| {
        let from = record.find(&format!("- {phase}")).unwrap();
        let rest = &record[from + 2..];
        rest[..rest.find("\n- ").unwrap_or(rest.len())].to_owned()
    };
    assert_eq!(part("job-init").trim(), "job-init\nSTOREID='st'");
    let dump = lab.dump().display().to_string();
    assert_eq!(
        part("job-start").trim(),
        format!("job-start\nDUMPDIR='{dump}'\nSTOREID='st'")
    );
    let target = archive.display().to_string();
    assert_eq!(
        part("backup-end").trim(),
        format!(
            "backup-end snapshot 105\nDUMPDIR='{dump}'\nHOSTNAME='web'\nLOGFILE='{}'\nSTOREID='st'\nTARGET='{target}'\n\
             VMTYPE='qemu'",
            target.replace(".vma", ".log")
        )
    );

    // A guest whose script fails is a guest that failed; the job goes on to its end.
    fs::remove_file(lab.directory.path().join("record")).unwrap();
    fs::write(lab.directory.path().join("record.fail"), "backup-end").unwrap();
    let (log, status) = lab.back_up(&[("vmid", &number), ("script", &script), ("mode", "stop")]);
    assert_eq!(status, "job errors", "{log}");
    assert_eq!(
        hook_phases(&lab),
        [
            "job-init",
            "job-start",
            "backup-start stop 105",
            "pre-stop stop 105",
            "backup-end stop 105",
            "pre-restart stop 105",
            "post-restart stop 105",
            "backup-abort stop 105",
            "log-end stop 105",
            "job-end",
        ]
    );
    assert_eq!(lab.status(), "running");
    // One that fails before the job begins stops the job.
    fs::write(lab.directory.path().join("record.fail"), "job-init").unwrap();
    let (_, status) = lab.back_up(&[("vmid", &number), ("script", &script)]);
    assert!(status.contains("hook") && status.contains("exit code 1"), "{status}");
    let (_, status) = lab.back_up(&[("vmid", &number), ("script", "/nope")]);
    assert_eq!(status, "Error: The hook script '/nope' does not exist.");
}

fn retention_protection_and_limits_hold() {
    let lab = Lab::new("v4");
    lab.configure(VMID, "name: none\n");
    let number = VMID.to_string();
    let keep = ("prune-backups", "keep-last=1");
    let (log, status) = lab.back_up(&[("vmid", &number), ("protected", "1"), keep]);
    assert_eq!(status, "OK", "{log}");
    assert_lines(
        &log,
        &[
            "INFO: backup contains no disks",
            "INFO: starting diskless backup",
            "INFO: archive file size: 13KB",
            "INFO: marking backup as protected",
            "INFO: prune older backups with retention: keep-last=1",
            "INFO: pruned 0 backup(s)",
        ],
    );
    assert!(!log.contains("starting kvm") && !log.contains("policy"), "{log}");
    for (at, removed) in [(1, 0), (2, 1), (3, 1)] {
        let before = lab.archives();
        let (log, status) = lab.back_up(&[("vmid", &number), keep]);
        assert_eq!(status, "OK", "{at}: {log}");
        if removed == 1 {
            let gone = before.last().unwrap().file_name().unwrap().to_str().unwrap();
            let line = format!("INFO: removing backup 'st:backup/{gone}'");
            assert_lines(
                &log,
                &[&line, "INFO: pruned 1 backup(s) not covered by keep-retention policy"],
            );
        }
        // The protected one and the newest.
        assert_eq!(lab.archives().len(), 2, "{at}");
    }
    let (log, status) = lab.back_up(&[("vmid", &number), keep, ("remove", "0")]);
    assert_eq!(status, "job errors", "{log}");
    let limit = "There is a max backup limit of 1 enforced by the target storage or the vzdump parameters. Either \
        increase the limit or delete old backups.";
    assert!(
        log.contains(&format!("ERROR: Backup of VM 105 failed - {limit}")),
        "{log}"
    );
}

fn locks_of_others_are_respected() {
    let lab = Lab::new("v5");
    let number = VMID.to_string();
    lab.configure(VMID, "lock: migrate\n");
    let (log, status) = lab.back_up(&[("vmid", &number)]);
    assert_eq!(status, "job errors", "{log}");
    assert_lines(
        &log,
        &[
            "ERROR: Backup of VM 105 failed - VM is locked (migrate)",
            "INFO: Failed at 20",
            "INFO: Backup job finished with errors",
            "TASK ERROR: job errors",
        ],
    );
    assert_eq!(lab.lock().as_deref(), Some("migrate"));

    lab.configure(VMID, "");
    let path = lab.context.site.path("/run/vzdump.lock");
    let held = Flock::lock(fs::File::create(&path).unwrap(), FlockArg::LockExclusive).unwrap();
    let (_, status) = lab.back_up(&[("vmid", &number), ("lockwait", "0")]);
    assert_eq!(status, "can't acquire lock '/var/run/vzdump.lock' (wait = 0)");
    // A limit beyond all times is as good as another.
    let lockwait = ("lockwait", "9223372036854775807");
    let upid = lab.begin(&[
        ("vmid", &number),
        ("storage", "st"),
        lockwait,
        ("bwlimit", "9223372036854775807"),
    ]);
    wait_for("it waits", || {
        lab.log(&upid).contains("INFO: trying to get global lock - waiting...")
    });
    drop(held);
    let (log, status) = lab.wait(&upid);
    assert_eq!(status, "OK", "{log}");
    assert_lines(&log, &["INFO: got global lock", "INFO: Finished"]);
    assert!(!lab.context.site.path("/run/vzdump.pid").exists());
}

fn a_guest_that_fails_does_not_keep_the_others_from_their_backups() {
    let lab = Lab::new("v6");
    lab.configure(VMID, "");
    let (log, status) = lab.back_up(&[("vmid", "105,777")]);
    assert_eq!(status, "job errors");
    assert_lines(
        &log,
        &[
            "INFO: Finished Backup of VM 105",
            "ERROR: Backup of VM 777 failed - unable to find VM '777'",
            "INFO: Failed at ",
            "INFO: Backup job finished with errors",
        ],
    );
    assert_eq!(lab.archives().len(), 1);
    // Nothing to do here, or nowhere to do it.
    assert_eq!(
        lab.request(&[("vmid", "105"), ("node", "n2")]).unwrap(),
        Answer::Nothing
    );
    assert_eq!(lab.request(&[("stop", "1")]).unwrap(), Answer::Nothing);
    let (_, status) = lab.wait(&lab.begin(&[("vmid", "105"), ("storage", "disks")]));
    assert_eq!(
        status,
        "could not get storage information for 'disks': can't use storage 'disks' for backups - wrong content type"
    );
    let (_, status) = lab.wait(&lab.begin(&[("vmid", "105"), ("dumpdir", "/nope")]));
    assert_eq!(status, "dumpdir '/nope' does not exist");
}

fn an_interrupted_backup_leaves_no_trace() {
    let lab = Lab::new("v7");
    let _daemon = Daemon::new(&lab);
    lab.running(8);
    let before = lab.process();
    for (mode, compress) in [("snapshot", "zstd"), ("suspend", "0")] {
        let upid = lab.begin(&[
            ("vmid", "105,106"),
            ("storage", "st"),
            ("bwlimit", "512"),
            ("mode", mode),
            ("compress", compress),
        ]);
        wait_for_data(&lab, &upid);
        assert_eq!(lab.lock().as_deref(), Some("backup"));
        pve_task::process::stop(&upid);
        let (log, status) = lab.wait(&upid);
        assert_eq!(status, "interrupted by signal", "{log}");
        assert_lines(
            &log,
            &[
                "INFO: aborting backup job",
                "ERROR: Backup of VM 105 failed - interrupted by signal",
                "ERROR: Backup job failed - interrupted by signal",
                "TASK ERROR: interrupted by signal",
            ],
        );
        // The next guest is not attempted.
        assert!(!log.contains("106 failed"), "{log}");
        assert_no_trace(&lab);
        assert_eq!((lab.process(), lab.status().as_str()), (before, "running"));
    }
    // Another caller may do the same.
    let upid = lab.begin(&[("vmid", "105"), ("storage", "st"), ("bwlimit", "512")]);
    wait_for_data(&lab, &upid);
    assert_eq!(lab.request(&[("stop", "1")]).unwrap(), Answer::Nothing);
    assert_eq!(lab.wait(&upid).1, "interrupted by signal");
    assert_no_trace(&lab);
}

/// `kill -9` of the task, as a user whose machine ran out of memory knows it.
fn kill_hard(lab: &Lab, upid: &Upid) {
    kill(Pid::from_raw(i32::try_from(upid.pid).unwrap()), Signal::SIGKILL).unwrap();
    wait_for("the task has gone", || !pve_task::process::is_running(upid));
    wait_for("what it left is settled", || hold::held(&lab.context.site).is_empty());
    let socket = lab.context.site.path("/run/qemu-server/105.vzdump-nbd.sock");
    assert!(!socket.exists());
}

fn a_killed_backup_leaves_a_guest_that_runs_on() {
    let lab = Lab::new("v8");
    let _daemon = Daemon::new(&lab);
    lab.running(8);
    let slow = [("vmid", "105"), ("storage", "st"), ("bwlimit", "512")];
    for mode in ["snapshot", "suspend", "stop"] {
        let mut params = slow.to_vec();
        params.push(("mode", mode));
        let upid = lab.begin(&params);
        wait_for_data(&lab, &upid);
        kill_hard(&lab, &upid);
        assert_no_trace(&lab);
        assert_eq!(lab.status(), "running", "{mode}");
    }
    // Killed while the guest stands still, or is off.
    for (mode, line) in [("suspend", "suspending guest"), ("stop", "stopping virtual guest")] {
        let upid = lab.begin(&[("vmid", "105"), ("storage", "st"), ("bwlimit", "512"), ("mode", mode)]);
        wait_for("the guest is halted", || {
            assert!(pve_task::process::is_running(&upid), "{}", lab.log(&upid));
            lab.log(&upid).contains(line)
        });
        kill(Pid::from_raw(i32::try_from(upid.pid).unwrap()), Signal::SIGKILL).unwrap();
        wait_for("the guest runs again", || {
            hold::held(&lab.context.site).is_empty()
                && lab.process().is_some()
                && hold::status(&lab.context.site, vmid()).is_ok_and(|status| status == "running")
        });
        assert_no_trace(&lab);
    }
    // The next backup is as good as ever.
    let (log, status) = lab.back_up(&[("vmid", "105")]);
    assert_eq!(status, "OK", "{log}");
}

fn a_killed_backup_of_a_vm_that_was_off_leaves_it_off() {
    let lab = Lab::new("v9");
    let daemon = Daemon::new(&lab);
    lab.configure(VMID, &format!("scsi0: {}\n", lab.disk(0, &noise(4, 8 << 20))));
    let slow = [("vmid", "105"), ("storage", "st"), ("bwlimit", "512")];
    let upid = lab.begin(&slow);
    wait_for_data(&lab, &upid);
    assert_eq!(lab.status(), "prelaunch");
    kill_hard(&lab, &upid);
    assert!(lab.process().is_none());
    assert_no_trace(&lab);

    // Without the event daemon the next backup settles it.
    drop(daemon);
    let upid = lab.begin(&slow);
    wait_for_data(&lab, &upid);
    kill(Pid::from_raw(i32::try_from(upid.pid).unwrap()), Signal::SIGKILL).unwrap();
    wait_for("the task has gone", || !pve_task::process::is_running(&upid));
    assert_eq!(lab.lock().as_deref(), Some("backup"));
    let (log, status) = lab.back_up(&[("vmid", "105")]);
    assert!(status.starts_with("WARNINGS: ") || status == "OK", "{status}\n{log}");
    assert_lines(
        &log,
        &[
            "INFO: removed left over backup lock from '105'!",
            "INFO: Finished Backup",
        ],
    );
    assert!(lab.process().is_none());
    assert_eq!((lab.lock(), lab.archives().len()), (None, 1));
    assert!(
        lab.files()
            .iter()
            .all(|name| !name.ends_with(".dat") && !name.ends_with(".tmp"))
    );
}

fn a_full_target_fails_the_backup_and_not_the_guest() {
    let mut lab = Lab::new("va");
    lab.shrink_target("2m");
    let _daemon = Daemon::new(&lab);
    lab.running(8);
    for compress in ["0", "zstd"] {
        let (log, status) = lab.back_up(&[("vmid", "105"), ("compress", compress)]);
        assert_eq!(status, "job errors", "{log}");
        assert!(log.contains("ERROR: Backup of VM 105 failed - "), "{log}");
        if compress == "zstd" {
            assert!(log.contains("zstd --threads=1 failed - wrong exit status "), "{log}");
        } else {
            assert!(log.contains("No space left on device"), "{log}");
        }
        assert_no_trace(&lab);
        assert_eq!(lab.status(), "running");
    }
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(VERB) {
        let mut kinds = Kinds::new();
        pve_backup::register_tasks(&mut kinds);
        pve_qemu::tasks::register_tasks(&mut kinds);
        return child_main(&kinds);
    }
    let mut arguments = Arguments::from_args();
    // At most two emulated guests at once.
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(2).min(2));
    let trials = pve_testing::trials![
        a_vm_that_is_off_is_started_only_to_be_read,
        a_running_vm_is_backed_up_in_every_mode,
        the_hook_script_sees_every_phase_in_a_clean_environment,
        retention_protection_and_limits_hold,
        locks_of_others_are_respected,
        a_guest_that_fails_does_not_keep_the_others_from_their_backups,
        an_interrupted_backup_leaves_no_trace,
        a_killed_backup_leaves_a_guest_that_runs_on,
        a_killed_backup_of_a_vm_that_was_off_leaves_it_off,
        a_full_target_fails_the_backup_and_not_the_guest,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
