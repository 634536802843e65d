//! The socket at which the web side asks what it may not read.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use pve_access::token::SecretCheck as _;
use pve_access::token::door::{Door, SOCKET};
use pve_http::door;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;

use crate::support::{Lab, soon};

const RIGHT: &str = "6f9c0d53-0000-4000-8000-000000000001";

/// A lab whose door everybody can reach.
fn opened() -> (Lab, door::Door) {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("run")).unwrap();
    std::fs::set_permissions(lab.path("."), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = UnixListener::bind(lab.path(&SOCKET[1..])).unwrap();
    std::fs::set_permissions(lab.path(&SOCKET[1..]), PermissionsExt::from_mode(0o666)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let door = door::open(socket, lab.context.clone()).unwrap();
    (lab, door)
}

async fn ask(lab: &Lab, secret: &'static str) -> Result<bool, String> {
    let door = Door::new(&lab.context.site);
    let ask = move || door.is_secret(&"root@pam!ci".parse().unwrap(), secret);
    let answer = soon(spawn_blocking(ask)).await.unwrap();
    answer.map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_right_secret_is_told_from_a_wrong_one_at_once() {
    let (lab, door) = opened();
    assert_eq!(ask(&lab, RIGHT).await, Ok(true));
    assert_eq!(ask(&lab, "6f9c0d53").await, Ok(false));
    assert_eq!(ask(&lab, "a\nverify-token root@pam!ci x").await, Ok(false));

    lab.put("etc/pve/priv/token.cfg", "root@pam!ci another\n");
    assert_eq!(ask(&lab, RIGHT).await, Ok(false), "changed a moment ago");

    drop(door);
    let socket = lab.path(&SOCKET[1..]);
    std::fs::remove_file(&socket).unwrap();
    let error = ask(&lab, RIGHT).await.unwrap_err();
    let expected = format!(
        "unable to ask pvedaemon at '{}' - No such file or directory",
        socket.display()
    );
    assert_eq!(error, expected);
}

#[tokio::test]
async fn strangers_learn_nothing() {
    let (lab, _door) = opened();
    let reply = |uid| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--http0.9", "--unix-socket"]);
        curl.arg(lab.path(&SOCKET[1..])).arg("http://door/").uid(uid).gid(uid);
        spawn_blocking(move || String::from_utf8(curl.output().unwrap().stdout).unwrap())
    };
    assert_eq!(soon(reply(65534)).await.unwrap(), "");
    assert_eq!(soon(reply(0)).await.unwrap(), "error no question that is known here\n");
}

#[tokio::test]
async fn who_says_nothing_or_too_much_keeps_nobody_else_waiting() {
    let (lab, _door) = opened();
    let socket = lab.path(&SOCKET[1..]);
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(UnixStream::connect(&socket).await.unwrap());
    }
    let mut endless = UnixStream::connect(&socket).await.unwrap();
    // It is cut off while it still talks.
    let _ = endless.write_all(&[b'x'; 8192]).await;
    assert_eq!(ask(&lab, RIGHT).await, Ok(true));
    let mut answer = String::new();
    let _ = soon(endless.read_to_string(&mut answer)).await;
    assert_eq!(answer, "");
}
