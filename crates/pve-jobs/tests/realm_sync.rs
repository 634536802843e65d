//! Which node synchronises a realm: reference 05 §2.5.

#![allow(clippy::unwrap_used)]

mod common;

use jiff::tz::TimeZone;
use pve_cfs::Cfs;
use pve_jobs::realm_sync::cluster::{self as realm_sync, ClusterState, Others};
use pve_schema::ids::Upid;

/// What is known of the other nodes.
struct Known {
    unfinished: bool,
    online: bool,
}

impl Others for Known {
    fn is_unfinished(&self, _: &Upid) -> bool {
        self.unfinished
    }

    fn is_online(&self, node: &str) -> bool {
        assert_eq!(node, "n2");
        self.online
    }
}

#[test]
fn one_node_takes_the_job() {
    let upid: Upid = "UPID:n2:0000A1B2:0012D687:000004B0:auth-realm-sync::root@pam:"
        .parse()
        .unwrap();
    let (task, taken) = (ClusterState::started("n2", &upid), ClusterState::taken("n2", 1800));
    let failed = ClusterState::failed("n2", 1800, "no");
    let garbled = ClusterState {
        upid: Some("x".to_owned()),
        ..task.clone()
    };
    let schedule = "*:0/10".parse().unwrap();
    // The task started at 1200, so the next run is due at 1800.
    for (state, now, unfinished, online, is_due) in [
        (&ClusterState::default(), 1800, false, false, true),
        (&task, 1799, false, true, false),
        (&task, 1800, false, true, true),
        (&task, 1800, true, true, false),
        (&task, 1800, true, false, true),
        (&taken, 1859, false, true, false),
        (&taken, 1859, false, false, true),
        (&taken, 1860, false, true, true),
        (&failed, 1859, false, true, false),
        (&garbled, 1500, false, true, true),
    ] {
        let others = Known { unfinished, online };
        let due = state.is_due(&schedule, &TimeZone::UTC, now, &others);
        assert_eq!(due, is_due, "{state:?} at {now}");
    }
    assert_eq!((task.last_run(), taken.last_run()), (Some(1200), Some(1800)));
    assert_eq!(ClusterState::default().last_run(), None);
}

#[test]
fn nodes_agree_by_a_file() {
    let (_dir, context) = common::site();
    let cfs = Cfs::new(&context);
    assert_eq!(realm_sync::load(&cfs, "corp").unwrap(), ClusterState::default());
    let state = ClusterState::failed("n2", 1800, "no");
    realm_sync::save(&cfs, "corp", &state).unwrap();
    assert_eq!(realm_sync::load(&cfs, "corp").unwrap(), state);
    let path = "priv/jobs/realm-sync-corp.json";
    cfs.write(path, br#"{"node":"n2","time":"1800"}"#).unwrap();
    assert_eq!(realm_sync::load(&cfs, "corp").unwrap(), ClusterState::taken("n2", 1800));
    cfs.write(path, b"{").unwrap();
    // What nobody understands must not keep the job from running for ever.
    assert_eq!(realm_sync::load(&cfs, "corp").unwrap(), ClusterState::default());
    realm_sync::remove(&cfs, "corp").unwrap();
    assert!(!cfs.exists(path).unwrap());
    assert!(realm_sync::load(&cfs, "../../../x").is_err());
}
