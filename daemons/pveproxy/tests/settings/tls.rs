//! Settings of TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::node::Node;

#[test]
fn tls_settings_reach_the_socket() {
    let key = "TLS_KEY_FILE=/etc/web.key\n";
    let mut node = Node::new(&format!(
        "{key}CIPHERS=AES128-SHA:DHE-RSA-AES256-GCM-SHA384\nDHPARAMS=/etc/dh.pem\n"
    ));
    node.make_certificate("pveproxy-ssl", "own");
    fs::rename(
        node.path("etc/pve/nodes/node1/pveproxy-ssl.key"),
        node.path("etc/web.key"),
    )
    .unwrap();
    let dh = node.path("etc/dh.pem");
    let make = [
        "genpkey",
        "-genparam",
        "-algorithm",
        "DH",
        "-pkeyopt",
        "group:modp_3072",
        "-out",
    ];
    assert!(Command::new("openssl").args(make).arg(&dh).status().unwrap().success());
    fs::set_permissions(&dh, fs::Permissions::from_mode(0o644)).unwrap();
    node.spawn();
    node.until_started();
    let ask = ["s_client", "-tls1_2", "-connect", "127.0.0.1:8006"];
    let text = String::from_utf8_lossy(&node.run("openssl", &ask).stdout).into_owned();
    for part in [
        "Cipher is DHE-RSA-AES256-GCM-SHA384",
        "Server Temp Key: DH, 3072 bits",
        "subject=CN = own",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let warning = "CIPHERS: left out, without forward secrecy or authenticated encryption: AES128-SHA\n";
    assert_eq!(
        node.log().matches(warning).count(),
        1,
        "once, not once for each worker: {}",
        node.log()
    );
    let used = "Using '/etc/pve/local/pveproxy-ssl.pem' as certificate for the web interface.\n";
    assert!(node.log().contains(used), "{}", node.log());
}

#[test]
fn tls_settings_that_leave_nothing_keep_the_daemon_up_until_they_are_repaired() {
    for (settings, expected) in [
        (
            "CIPHERS=AES128-SHA",
            "'AES128-SHA' was not accepted as a valid cipher list - none of its ciphers is supported: AES128-SHA\n",
        ),
        (
            "DHPARAMS=/nowhere",
            "/nowhere: failed to open DH parameter file: No such file or directory\n",
        ),
        (
            "DISABLE_TLS_1_2=1\nDISABLE_TLS_1_3=1",
            "misconfigured TLS settings - cannot disable all supported TLS versions!\n",
        ),
    ] {
        let mut node = Node::new(settings);
        node.spawn();
        node.until(settings, || node.log().contains(expected));
        node.settings("");
        node.reload();
        node.until("an answer", || node.code("https://127.0.0.1:8006/") == "200");
    }
}
