//! What a VM that is destroyed leaves behind in the backup jobs (reference 05 §4.3).

use pve_cfs::{Cfs, LockId};
use pve_qemu::destroy::Scope;
use pve_schema::ids::AuthId;
use pve_task::worker::Inline;
use pve_task::{TaskRequest, run_inline};

use super::Lab;
use crate::nodes::qemu::destroy::Destroy;

const JOBS: &str = "vzdump: only\n\tschedule daily\n\tenabled 1\n\tvmid 100\n\n\
    vzdump: two\n\tschedule daily\n\tenabled 1\n\tvmid 100,101\n\n\
    vzdump: rest\n\tschedule daily\n\tall 1\n\tenabled 1\n\texclude 100\n\n\
    realm-sync: sync\n\trealm corp\n\tschedule daily\n\tscope both\n\tenabled 1\n\n";

impl Lab {
    fn destroy(&self, purge: bool) -> Inline {
        let cfs = Cfs::new(&self.context);
        cfs.write("nodes/pve1/qemu-server/100.conf", b"name: web\n").unwrap();
        cfs.write("jobs.cfg", JOBS.as_bytes()).unwrap();
        let request = TaskRequest {
            worker_type: "qmdestroy".to_owned(),
            id: "100".to_owned(),
            caller: AuthId::root(),
            request_id: String::new(),
        };
        let task = Destroy {
            vmid: 100.try_into().unwrap(),
            scope: Scope {
                purge,
                ..Scope::default()
            },
        };
        run_inline(&self.context, request, task).unwrap()
    }

    fn jobs(&self) -> String {
        Cfs::new(&self.context).read_text("jobs.cfg").unwrap().unwrap()
    }
}

#[test]
fn jobs_forget_a_vm_that_is_purged() {
    let lab = Lab::new();
    let done = lab.destroy(true);
    assert_eq!(done.result, Ok(()), "{}", done.log);
    assert!(
        done.log.contains("purging VM 100 from related configurations..\n"),
        "{}",
        done.log
    );
    assert_eq!(
        lab.jobs(),
        "vzdump: two\n\tschedule daily\n\tenabled 1\n\tvmid 101\n\n\
         vzdump: rest\n\tschedule daily\n\tall 1\n\tenabled 1\n\n\
         realm-sync: sync\n\trealm corp\n\tschedule daily\n\tscope both\n\tenabled 1\n\n"
    );
}

#[test]
fn jobs_keep_a_vm_that_is_only_destroyed() {
    let lab = Lab::new();
    assert_eq!(lab.destroy(false).result, Ok(()));
    assert_eq!(lab.jobs(), JOBS);
    assert!(
        !Cfs::new(&lab.context)
            .exists("nodes/pve1/qemu-server/100.conf")
            .unwrap()
    );
}

/// What cannot be purged is not gone, so that one can try again.
#[test]
fn a_vm_stays_while_jobs_cannot_forget_it() {
    let lab = Lab::new();
    let path = lab
        .context
        .site
        .path("/run/lock/pve-cfs")
        .join(LockId::file("jobs.cfg").to_string());
    // What ought to be the lock's file is a directory.
    std::fs::create_dir_all(&path).unwrap();
    let done = lab.destroy(true);
    let error = done.result.unwrap_err();
    assert!(error.text().contains("jobs_cfg"), "{error}");
    assert!(
        Cfs::new(&lab.context)
            .exists("nodes/pve1/qemu-server/100.conf")
            .unwrap()
    );
    std::fs::remove_dir(path).unwrap();
    assert_eq!(lab.destroy(true).result, Ok(()));
}
