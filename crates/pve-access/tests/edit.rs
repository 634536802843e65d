//! Changes of `user.cfg` under its lock.

#![allow(clippy::unwrap_used)]

mod common;

use common::Lab;
use pve_access::user_config::Group;
use pve_access::{AccessError, edit, users};
use pve_schema::ids::AuthId;

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let lab = Lab::with_users("# by hand\nuser:root@pam:1:0::::::\n");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let context = lab.context.clone();
            scope.spawn(move || {
                for number in 0..10 {
                    edit::edit(&context, "create group failed", |config| {
                        config.groups.insert(format!("g{writer}-{number}"), Group::default());
                        Ok(())
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(lab.access().groups.len(), 40);
    assert!(lab.read("user.cfg").starts_with("# by hand\nuser:root@pam"));
}

#[test]
fn a_change_that_fails_saves_nothing() {
    let lab = Lab::with_users("user:root@pam:1:0::::::\n");
    let error = edit::edit(&lab.context, "update user failed", |config| {
        config.groups.insert("half".to_owned(), Group::default());
        Err::<(), _>(AccessError::plain("no such group 'g'"))
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "update user failed: no such group 'g'");
    assert!(lab.access().groups.is_empty());
}

#[test]
fn a_guests_traces_go_with_it() {
    let lab = Lab::with_users(
        "user:a@pve:1:0::::::\n\npool:p::200:s1,s2:\npool:q::100::\n\n\
         acl:1:/storage/s1:a@pve:PVEAdmin:\nacl:1:/vms/100:a@pve:PVEAdmin:\nacl:1:/vms/1000:a@pve:PVEAdmin:\n",
    );
    let vmid = "100".parse().unwrap();
    edit::add_guest_to_pool(&lab.context, vmid, "gone").unwrap();
    assert_eq!(lab.access().pool_of(100), Some("q"));
    edit::add_guest_to_pool(&lab.context, vmid, "p").unwrap();
    assert_eq!(lab.access().pool_of(100), Some("p"));
    edit::remove_guest_from_pool(&lab.context, vmid).unwrap();
    assert_eq!(lab.access().pool_of(100), None);
    edit::remove_guest_access(&lab.context, vmid).unwrap();
    edit::remove_storage_access(&lab.context, &"s1".parse().unwrap()).unwrap();
    assert_eq!(
        lab.read("user.cfg"),
        "user:a@pve:1:0::::::\nuser:root@pam:1:0::::::\n\npool:p::200:s2:\npool:q::::\n\n\
         acl:1:/vms/1000:a@pve:PVEAdmin:\n"
    );
}

#[test]
fn a_deleted_user_leaves_nothing_behind() {
    let lab = Lab::with_users(
        "user:a@pve:1:0:::::x:\n\ngroup:g:a@pve,root@pam::\n\nacl:1:/:a@pve:PVEAdmin:\nacl:1:/:@g:PVEAuditor:\n",
    );
    let id = "a@pve".parse().unwrap();
    lab.cfs.write("priv/shadow.cfg", b"a:$5$x$y:\nb:z:\n").unwrap();
    lab.cfs
        .write("priv/tfa.cfg", br#"{"users":{"a@pve":{},"b@pve":{}}}"#)
        .unwrap();
    users::delete(&lab.context, &AuthId::root(), &id).unwrap();
    assert_eq!(
        lab.read("user.cfg"),
        "user:root@pam:1:0::::::\n\ngroup:g:root@pam::\n\nacl:1:/:@g:PVEAuditor:\n"
    );
    assert_eq!(lab.read("priv/shadow.cfg"), "b:z:\n");
    assert_eq!(lab.read("priv/tfa.cfg"), r#"{"users":{"b@pve":{}}}"#);
    users::delete(&lab.context, &AuthId::root(), &id).unwrap();
    let other: AuthId = "c@pve".parse().unwrap();
    assert_eq!(
        users::delete(&lab.context, &other, &id).unwrap_err().to_string(),
        "delete user failed: no such user ('a@pve')"
    );
}
