//! Workers, reloads and settings that are wrong.

use crate::node::Node;

#[test]
fn a_reload_takes_new_host_lists_and_settings_without_refusing_anybody() {
    let node = Node::start("MAX_WORKERS=1\n");
    assert!(node.serves("127.0.0.5", "127.0.0.1"));
    node.settings("MAX_WORKERS=2\nDENY_FROM=127.0.0.5\nDISABLE_TLS_1_3=1\n");
    let old = node.workers();
    node.reload();
    node.until("the new workers", || {
        let now = node.workers();
        assert_eq!(node.code("https://127.0.0.1:8006/"), "200", "no connection is refused");
        now.len() == 2 && !now.contains(old.first().unwrap())
    });
    assert!(!node.serves("127.0.0.5", "127.0.0.1"));
    assert_eq!(node.code("--tlsv1.3 https://127.0.0.1:8006/"), "000");
    assert_eq!(node.code("--tls-max 1.2 https://127.0.0.1:8006/"), "200");
}

#[test]
fn workers_are_as_many_as_set() {
    for (value, expected) in [("1", 1), ("007", 7), ("127", 127), ("128", 3), ("5x", 3)] {
        let mut node = Node::new(&format!("MAX_WORKERS={value}\n"));
        node.spawn();
        let line = format!("starting {expected} worker(s)\n");
        node.until(value, || node.log().contains(&line) && node.workers().len() == expected);
        let warning = "MAX_WORKERS specified in /etc/default/pveproxy is not an integer between 0 and 128: ";
        assert_eq!(
            node.log().contains(&format!("{warning}{value}\n")),
            expected == 3,
            "{}",
            node.log()
        );
    }
}

#[test]
fn bad_values_stop_the_start_with_their_message() {
    for (settings, expected) in [
        ("POLICY=Deny", "unknown policy 'Deny'"),
        ("COMPRESSION=no", "unknown value 'no' - use 0 or 1"),
        ("HONOR_CIPHER_ORDER=2", "unknown value '2' - use 0 or 1"),
        ("DISABLE_TLS_1_2=true", "unknown value 'true' - use 0 or 1"),
        ("DISABLE_TLS_1_3=-1", "unknown value '-1' - use 0 or 1"),
        ("ALLOW_FROM='10.0.0.1, 10.0.0.2'", "Invalid chars in IP  10.0.0.2"),
        ("DENY_FROM=192.168.0.5/22", "Invalid prefix 192.168.0.5/22"),
        ("PROXY_REAL_IP_ALLOW_FROM=ALL", "Invalid chars in IP ALL"),
    ] {
        let mut node = Node::new(settings);
        node.spawn();
        assert_eq!(node.code_at_end(), Some(255), "{settings}");
        assert!(
            node.log().contains(&format!("start failed - {expected}\n")),
            "{settings}: {}",
            node.log()
        );
    }
}

#[test]
fn a_broken_file_counts_up_to_where_it_breaks() {
    let node = Node::start("MAX_WORKERS=2\nif then\nPOLICY=Deny\n");
    node.until("two workers", || node.workers().len() == 2);
}

#[test]
fn a_reload_with_settings_that_are_wrong_leaves_everything_as_it_was() {
    let node = Node::start("MAX_WORKERS=1\n");
    let workers = node.workers();
    for (settings, expected) in [
        (
            "MAX_WORKERS=1\nMETRICS_LISTEN=0.0.0.0:9998\n",
            "etc/default/pveproxy:2: ",
        ),
        ("POLICY=x\n", "unknown policy 'x'"),
        ("ALLOW_FROM=bogus!\n", "bogus!"),
    ] {
        node.settings(settings);
        node.reload();
        node.until(settings, || {
            let refusals =
                |line: &str| line.contains("unable to reload, going on unchanged - ") && line.contains(expected);
            node.log().lines().any(refusals)
        });
        assert_eq!(node.code("https://127.0.0.1:8006/"), "200");
        assert_eq!(node.workers(), workers);
    }
    node.settings("MAX_WORKERS=2\n");
    node.reload();
    node.until("two workers", || node.workers().len() == 2);
}
