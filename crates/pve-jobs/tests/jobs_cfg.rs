//! `jobs.cfg`, and the rules for changing jobs: reference 05 §2.1, §4.1, §4.3, vectors F9, F11, S7, S8.

#![allow(clippy::unwrap_used)]

mod common;

use pve_cfs::Cfs;
use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_jobs::JobsError;
use pve_jobs::jobs_cfg::{format, lock_id, vzdump_params};
use pve_jobs::vzdump_job::{check_selection, required_schedule, schedule, settle_selection};
use pve_jobs::{JobKind, JobsCfg};
use pve_schema::section_config::Section;
use pve_schema::{Failure, Param};

const EXAMPLE: &str = "vzdump: backup-7f3a91c2-0b1d
\tcomment nightly%3A all
\tschedule mon..fri 21:00
\tall 1
\tcompress zstd
\tenabled 1
\texclude 105,106
\texclude-path /var/cache
\texclude-path *.bak
\tfleecing enabled=0
\tmode snapshot
\tnotes-template {{guestname}}
\tprune-backups keep-daily=7,keep-weekly=4
\tstorage nas

realm-sync: sync-corp
\trealm corp
\tschedule 0/30
\tscope both
\tenable-new 1
\tenabled 1
\tremove-vanished acl;entry

";

#[test]
fn the_example_is_read_and_written_as_it_was() {
    let jobs = JobsCfg::parse(EXAMPLE);
    assert!(jobs.file.warnings.is_empty(), "{:?}", jobs.file.warnings);
    assert_eq!(jobs.file.write(format()).unwrap(), EXAMPLE);
    let backup = jobs.get(JobKind::Vzdump, "backup-7f3a91c2-0b1d").unwrap();
    assert_eq!(backup.text("comment"), Some("nightly: all"));
    assert_eq!(backup.list("exclude-path"), ["/var/cache", "*.bak"]);
    assert!(jobs.get(JobKind::RealmSync, "backup-7f3a91c2-0b1d").is_none());
    let ids: Vec<String> = jobs.jobs().into_iter().map(|job| job.id).collect();
    assert_eq!(ids, ["backup-7f3a91c2-0b1d", "sync-corp"]);
}

#[test]
fn what_cannot_be_used_is_left_out_with_a_warning() {
    let jobs = JobsCfg::parse(
        "vzdump: none\n\tall 1\n\nodd: x\n\tschedule *\n\n\
         vzdump: ok\n\tschedule daily\n\tmode fast\n\tall\n\tall 0\n\tscope both\n\n\
         vzdump: bad\n\tschedule 8..5\n\n",
    );
    let ids: Vec<&str> = jobs.file.sections().map(|section| section.id.as_str()).collect();
    assert_eq!(ids, ["ok"]);
    let ok = jobs.get(JobKind::Vzdump, "ok").unwrap();
    assert_eq!(
        (ok.text("mode"), ok.text("all"), ok.text("enabled")),
        (None, Some("1"), Some("1"))
    );
    let warnings: Vec<String> = jobs.file.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 7, "{warnings:#?}");
    assert!(
        warnings.iter().any(|warning| warning.trim_end().ends_with(
            "unable to parse value of 'schedule': invalid format - invalid calendar event '8..5' - \
             unable to parse calendar event at '8..5' - unexpected text"
        )),
        "{warnings:#?}"
    );
}

/// F9.
#[test]
fn comments_are_escaped() {
    let mut jobs = JobsCfg::parse("vzdump: a\n\tschedule daily\n\tall 1\n\n");
    jobs.file.get_mut("a").unwrap().set("comment", "nightly: 50% über");
    let text = jobs.file.write(format()).unwrap();
    assert!(text.contains("\tcomment nightly%3A 50%25 %C3%BCber\n"), "{text}");
}

#[test]
fn a_job_calls_with_the_options_of_a_backup() {
    let jobs = JobsCfg::parse(EXAMPLE);
    let params = vzdump_params(jobs.get(JobKind::Vzdump, "backup-7f3a91c2-0b1d").unwrap());
    for gone in ["schedule", "enabled", "comment", "repeat-missed"] {
        assert!(!params.has(gone), "{gone}");
    }
    assert_eq!(params.text("job-id"), Some("backup-7f3a91c2-0b1d"));
    assert_eq!(
        (params.text("quiet"), params.text("mode")),
        (Some("1"), Some("snapshot"))
    );
    assert!(matches!(params.get("exclude-path"), Some(Param::List(items)) if items.len() == 2));
}

/// F11, and the texts of §4.1.
#[test]
fn start_times_become_schedules() {
    let of = |starttime, dow| schedule(None, Some(starttime), dow).unwrap().unwrap();
    assert_eq!(of("02:30", Some("mon,tue,wed,thu,fri,sat,sun")), "02:30");
    assert_eq!(of("02:30", Some("sat,sun")), "sat,sun 02:30");
    assert_eq!(of("02:30", Some("sat;sun")), "sat,sun 02:30");
    assert_eq!(of("02:30", None), "02:30");
    assert_eq!(schedule(Some("daily"), None, None).unwrap().as_deref(), Some("daily"));
    assert_eq!(schedule(None, None, None).unwrap(), None);

    let error = schedule(Some("daily"), Some("02:30"), None).unwrap_err();
    let text = |error: &dyn Failure, name: &str| error.param_errors().unwrap()[name].clone();
    assert_eq!(error.status(), 400);
    assert_eq!(
        text(&error, "starttime"),
        "'starttime' and 'schedule' cannot both be set"
    );
    let error = required_schedule(None, None, None).unwrap_err();
    assert_eq!(text(&error, "schedule"), "neither 'starttime' nor 'schedule' were set");
}

fn section(options: &[(&str, &str)]) -> Section {
    let mut section = Section::new("vzdump", "a");
    for (key, value) in options {
        section.set(*key, *value);
    }
    section
}

#[test]
fn what_was_sent_last_selects_the_guests() {
    for (options, sent, left) in [
        (&[("vmid", "100"), ("all", "1")][..], "vmid", "vmid"),
        (&[("vmid", "100"), ("pool", "p"), ("all", "1")], "all", "all"),
        (&[("vmid", "100"), ("pool", "p")], "pool", "pool"),
        (&[("exclude", "101")], "exclude", "all exclude"),
        (&[("exclude", "101"), ("pool", "p")], "exclude", "pool"),
    ] {
        let mut section = section(options);
        settle_selection(&mut section, |key| key == sent).unwrap();
        let keys: Vec<&str> = section.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.join(" "), left, "{options:?} {sent}");
    }
    let missing = settle_selection(&mut section(&[]), |_| false).unwrap_err();
    assert_eq!(missing.param_errors().unwrap()["vmid"], "property is missing");
}

/// S7, S8.
#[test]
fn guests_are_selected_in_one_way() {
    for key in ["all", "exclude", "pool"] {
        let error = check_selection(&section(&[("vmid", "100"), (key, "1")])).unwrap_err();
        assert_eq!(
            error.param_errors().unwrap()[key],
            "option conflicts with option 'vmid'"
        );
    }
    for fine in [
        &[("all", "1"), ("exclude", "101")][..],
        &[("pool", "p")],
        &[("stop", "1")],
        &[("vmid", "1")],
    ] {
        assert_eq!(check_selection(&section(fine)), Ok(()));
    }
}

/// Reference 05 §4.3.
#[test]
fn a_guest_that_is_gone_leaves_its_jobs() {
    let job = |id: &str, options: &str| format!("vzdump: {id}\n\tschedule daily\n{options}\n\n");
    let text = [
        job("only", "\tvmid 100"),
        job("one", "\tvmid 100, 101"),
        job("excluded", "\tall 1\n\texclude 100"),
        job("others", "\tvmid 1000,1001"),
    ]
    .concat();
    let mut jobs = JobsCfg::parse(&text);
    assert!(jobs.remove_guest("100".parse().unwrap()));
    assert!(jobs.file.get("only").is_none());
    let value = |id: &str, key: &str| jobs.file.get(id).unwrap().text(key).map(str::to_owned);
    assert_eq!(value("one", "vmid").as_deref(), Some("101"));
    assert_eq!(
        (value("excluded", "all").as_deref(), value("excluded", "exclude")),
        (Some("1"), None)
    );
    assert_eq!(value("others", "vmid").as_deref(), Some("1000,1001"));
    assert!(!jobs.remove_guest("100".parse().unwrap()));
}

#[test]
fn the_file_is_changed_under_its_lock() {
    let (_dir, context) = common::site();
    let cfs = Cfs::new(&context);
    assert_eq!(JobsCfg::read(&cfs).unwrap().jobs(), []);
    assert_eq!(lock_id().to_string(), "file-jobs_cfg");
    let change = || -> Result<(), JobsError> {
        let mut jobs = JobsCfg::read(&cfs)?;
        let mut job = section(&[("schedule", "daily"), ("all", "1")]);
        job.set("enabled", false);
        jobs.file.insert(job);
        jobs.write(&cfs)
    };
    cfs.with_lock(&lock_id(), DEFAULT_TIMEOUT, change).unwrap();
    let text = cfs.read_text("jobs.cfg").unwrap().unwrap();
    assert_eq!(text, "vzdump: a\n\tschedule daily\n\tall 1\n\tenabled 0\n\n");
    assert!(!JobsCfg::read(&cfs).unwrap().jobs()[0].enabled);
}
