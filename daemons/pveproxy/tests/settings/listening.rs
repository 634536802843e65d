//! Where the daemon listens, and to whom.

use std::fs;

use crate::node::Node;

#[test]
fn without_a_file_everything_is_default() {
    let mut node = Node::new("");
    fs::remove_file(node.path("etc/default/pveproxy")).unwrap();
    node.spawn();
    node.until_started();
    node.until("three workers", || node.workers().len() == 3);
    for server in ["127.0.0.1", "192.0.2.7", "[::1]", "[2001:db8::7]", "[fe80::7%25veth0]"] {
        assert_eq!(node.code(&format!("https://{server}:8006/")), "200", "{server}");
    }
}

#[test]
fn without_ipv6_the_daemon_listens_on_ipv4() {
    let mut node = Node::new("");
    node.network =
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
    node.spawn();
    node.until_started();
    assert_eq!(node.code("https://192.0.2.7:8006/"), "200");
}

#[test]
fn listen_ip_is_the_only_address() {
    let all = ["127.0.0.1", "192.0.2.7", "[::1]", "[2001:db8::7]", "[fe80::7%25veth0]"];
    for (value, expected) in [
        ("192.0.2.7", &["192.0.2.7"][..]),
        ("0.0.0.0", &["127.0.0.1", "192.0.2.7"]),
        ("::", &all),
        ("2001:db8::7", &["[2001:db8::7]"]),
        ("fe80::7%veth0", &["[fe80::7%25veth0]"]),
        ("web.example", &["192.0.2.7"]),
    ] {
        let mut node = Node::new(&format!("LISTEN_IP={value}\n"));
        node.spawn();
        node.until(value, || {
            all.iter()
                .any(|server| node.code(&format!("https://{server}:8006/")) == "200")
        });
        let served: Vec<&str> = all
            .into_iter()
            .filter(|server| node.code(&format!("https://{server}:8006/")) == "200")
            .collect();
        assert_eq!(served, expected, "{value}");
    }
}

#[test]
fn an_address_that_is_not_here_stops_the_start() {
    for value in ["192.0.2.99", "2001:db8::99"] {
        let mut node = Node::new(&format!("LISTEN_IP={value}\n"));
        node.spawn();
        assert_eq!(node.code_at_end(), Some(255));
        let expected = "start failed - unable to create socket - Cannot assign requested address\n";
        assert!(node.log().contains(expected), "{}", node.log());
    }
}

#[test]
fn the_host_lists_follow_their_truth_table() {
    // Clients, by what matches them: only ALLOW_FROM, only DENY_FROM, neither, both.
    let lists = "ALLOW_FROM=127.0.0.1-127.0.0.3,2001:db8::/64\nDENY_FROM=127.0.0.2/31,127.0.0.4,::1\n";
    for (policy, expected) in [
        ("deny", [true, false, false, false]),
        ("allow", [true, false, true, true]),
    ] {
        let mut node = Node::new(&format!("{lists}POLICY={policy}\n"));
        node.spawn();
        node.until("a worker", || {
            node.code("--interface 127.0.0.1 https://127.0.0.1:8006/") == "200"
        });
        for (client, expected) in ["127.0.0.1", "127.0.0.4", "127.0.0.5", "127.0.0.3"]
            .into_iter()
            .zip(expected)
        {
            assert_eq!(node.serves(client, "127.0.0.9"), expected, "{client}, POLICY={policy}");
        }
        assert!(node.serves("2001:db8::7", "[2001:db8::7]"), "POLICY={policy}");
        assert!(!node.serves("::1", "[::1]"), "POLICY={policy}");
    }
}

#[test]
fn vectors_56_to_59_of_the_host_lists() {
    for (settings, client, server, expected) in [
        ("DENY_FROM=127.0.0.0/24", "127.0.0.3", "127.0.0.9", false),
        ("DENY_FROM=127.0.0.0/24", "::1", "[::1]", true),
        (
            "ALLOW_FROM='127.0.0.1-127.0.0.5'\nDENY_FROM=all\nPOLICY=allow",
            "127.0.0.3",
            "127.0.0.9",
            true,
        ),
        (
            "ALLOW_FROM='127.0.0.1-127.0.0.5'\nDENY_FROM=all\nPOLICY=allow",
            "127.0.0.9",
            "127.0.0.8",
            false,
        ),
        (
            "ALLOW_FROM='127.0.0.1-127.0.0.5'\nDENY_FROM=all\nPOLICY=deny",
            "127.0.0.3",
            "127.0.0.9",
            false,
        ),
        ("DENY_FROM=127/8", "127.200.0.1", "127.0.0.1", false),
        ("DENY_FROM='127.0.0.0 + 255'", "127.0.0.255", "127.0.1.1", false),
        ("DENY_FROM='127.0.0.0 + 255'", "127.0.1.0", "127.0.1.1", true),
        ("DENY_FROM=0/0", "192.0.2.7", "192.0.2.7", false),
        ("DENY_FROM=::ffff:127.0.0.3", "127.0.0.3", "127.0.0.9", false),
    ] {
        let mut node = Node::new(settings);
        node.spawn();
        // Who is refused is refused by a worker, too.
        node.until("a worker", || node.log().contains(" started\n"));
        node.until("the socket", || {
            node.run("ss", &["-Hltn", "sport = :8006"]).stdout.len() > 10
        });
        assert_eq!(node.serves(client, server), expected, "{settings} {client}");
    }
}
