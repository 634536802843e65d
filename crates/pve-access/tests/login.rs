//! Logging in, and being who one says one is, on a site of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::Lab;
use pve_access::login::{Login, LoginRequest};
use pve_access::{AccessError, Credentials, password};
use pve_schema::Failure as _;
use pve_schema::ids::{AuthId, UserId};

const USERS: &str = "\
user:alice@pve:1:0::::::
token:alice@pve!ci:0:1::
user:bob@pve:1:0:::::x:
user:gone@pve:1:1::::::
user:off@pve:0:0::::::
user:root@pam:1:0::::::

acl:1:/vms:alice@pve:PVEVMUser:
";

fn lab() -> Lab {
    let lab = Lab::with_users(USERS);
    for user in ["alice@pve", "bob@pve", "gone@pve", "off@pve"] {
        let domains = lab.access().domains().unwrap();
        password::set(&lab.context, &domains, &user.parse().unwrap(), "S3cret!pw").unwrap();
    }
    lab
}

fn request<'a>(username: &'a str, password: &'a str) -> LoginRequest<'a> {
    LoginRequest {
        username,
        password,
        ..LoginRequest::default()
    }
}

fn log_in(lab: &Lab, username: &str, password: &str) -> Result<Login, AccessError> {
    lab.access().login(&request(username, password))
}

fn ticket(login: Login) -> String {
    login.session.unwrap().ticket
}

fn authenticate(lab: &Lab, ticket: &str) -> Result<AuthId, AccessError> {
    lab.access().authenticate(&Credentials::Ticket(ticket.to_owned()))
}

#[test]
fn a_password_becomes_a_ticket_and_the_ticket_a_caller() {
    let lab = lab();
    let login = log_in(&lab, "alice@pve", "S3cret!pw").unwrap();
    assert_eq!(login.user.as_str(), "alice@pve");
    assert!(login.capabilities["vms"].contains("VM.Console"));
    assert_eq!(login.cluster, None);
    let session = login.session.unwrap();
    let who = authenticate(&lab, &session.ticket).unwrap();
    assert_eq!(who.to_string(), "alice@pve");
    lab.access().verify_csrf(&who, Some(&session.csrf_token)).unwrap();
    for bad in [None, Some("66F01234:x"), Some("")] {
        let error = lab.access().verify_csrf(&who, bad).unwrap_err();
        assert_eq!(
            (error.status(), error.to_string().as_str()),
            (401, "Permission denied - invalid csrf token")
        );
    }

    let separate = LoginRequest {
        realm: Some("pve"),
        ..request("alice", "S3cret!pw")
    };
    assert_eq!(lab.access().login(&separate).unwrap().user.as_str(), "alice@pve");
}

#[test]
fn every_failure_looks_the_same() {
    let lab = lab();
    for (user, password) in [
        ("alice@pve", "wrong"),
        ("alice@pve", ""),
        ("nobody@pve", "S3cret!pw"),
        ("gone@pve", "S3cret!pw"),
        ("off@pve", "S3cret!pw"),
        ("alice@nowhere", "S3cret!pw"),
        ("alice", "S3cret!pw"),
        ("a b\nc@pve", "S3cret!pw"),
    ] {
        let error = log_in(&lab, user, password).unwrap_err();
        assert_eq!(
            (error.status(), error.to_string().as_str()),
            (401, "authentication failure"),
            "{user}"
        );
    }
}

#[test]
fn nobody_gets_in_without_a_second_factor_that_is_configured() {
    let lab = lab();
    let refused = |user: &str| log_in(&lab, user, "S3cret!pw").unwrap_err();
    // KEYS says so, though tfa.cfg holds nothing.
    assert!(matches!(refused("bob@pve"), AccessError::SecondFactor(_)));
    // A wrong password is told nothing about second factors.
    assert!(matches!(
        log_in(&lab, "bob@pve", "wrong").unwrap_err(),
        AccessError::LoginFailed
    ));

    lab.cfs
        .write("priv/tfa.cfg", br#"{"users":{"alice@pve":{"totp":[{"id":"1"}]}}}"#)
        .unwrap();
    let error = refused("alice@pve");
    assert_eq!(error.status(), 501);
    assert!(error.to_string().contains("second factor"));
    let with_code = LoginRequest {
        otp: Some("123456"),
        ..request("alice@pve", "S3cret!pw")
    };
    assert!(lab.access().login(&with_code).is_err());
    let answer = LoginRequest {
        tfa_challenge: Some("PVE:!tfa!{}:66F01234::x"),
        ..request("alice@pve", "totp:123456")
    };
    assert!(lab.access().login(&answer).is_err());

    lab.cfs.write("priv/tfa.cfg", b"{broken").unwrap();
    assert!(matches!(refused("alice@pve"), AccessError::LoginFailed));
    lab.cfs.remove("priv/tfa.cfg").unwrap();
    assert!(log_in(&lab, "alice@pve", "S3cret!pw").is_ok());
    lab.cfs.write("domains.cfg", b"pve: pve\n\ttfa type=oath\n\n").unwrap();
    assert!(matches!(refused("alice@pve"), AccessError::SecondFactor(_)));
}

#[test]
fn a_ticket_renews_itself_and_roots_ticket_serves_everybody() {
    let lab = lab();
    let alice = ticket(log_in(&lab, "alice@pve", "S3cret!pw").unwrap());
    assert!(log_in(&lab, "alice@pve", &alice).is_ok());
    // Also where a second factor was given when the ticket was issued.
    let root = lab.access().login_ticket(&UserId::root()).unwrap();
    assert_eq!(log_in(&lab, "bob@pve", &root).unwrap().user.as_str(), "bob@pve");
    assert!(log_in(&lab, "bob@pve", &alice).is_err());
}

#[test]
fn tickets_age() {
    let lab = lab();
    let alice = ticket(log_in(&lab, "alice@pve", "S3cret!pw").unwrap());
    lab.pass(7199);
    assert!(authenticate(&lab, &alice).is_ok());
    lab.pass(2);
    let error = authenticate(&lab, &alice).unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (401, "Authentication failed!")
    );
    let none = lab.access().authenticate(&Credentials::None).unwrap_err();
    assert_eq!((none.status(), none.to_string().as_str()), (401, "No ticket"));
    let half = authenticate(&lab, "PVE:!tfa!{}:66F01234::x").unwrap_err();
    assert_eq!(half.to_string(), "No ticket");
}

#[test]
fn a_ticket_outlives_a_rotation_but_not_its_user() {
    let lab = lab();
    let alice = ticket(log_in(&lab, "alice@pve", "S3cret!pw").unwrap());
    let before = lab.read("authkey.pub");
    lab.pass(3600);
    pve_access::ticket::rotate_if_stale(&lab.context).unwrap();
    assert_eq!(lab.read("authkey.pub"), before, "a young key stays");

    // The key is made a day old by its file's time: that is what counts.
    let path = lab.cfs.full_path("authkey.pub").unwrap();
    let day = std::time::Duration::from_secs(86_500);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::now() - day).unwrap();
    pve_access::ticket::rotate_if_stale(&lab.context).unwrap();
    assert_ne!(lab.read("authkey.pub"), before);
    assert_eq!(lab.read("authkey.pub.old"), before);
    assert!(authenticate(&lab, &alice).is_ok(), "signed with the old key, in time");
    let fresh = lab.access().login_ticket(&"alice@pve".parse().unwrap()).unwrap();
    assert!(authenticate(&lab, &fresh).is_ok());

    lab.cfs
        .write("user.cfg", USERS.replace("alice@pve:1", "alice@pve:0").as_bytes())
        .unwrap();
    assert!(authenticate(&lab, &fresh).is_err());
}

#[test]
fn a_token_header_names_the_token() {
    let lab = lab();
    lab.cfs.write("priv/token.cfg", b"alice@pve!ci 1234-5678\n").unwrap();
    let authenticate = |value: &str| lab.access().authenticate(&Credentials::Token(value.to_owned()));
    assert_eq!(
        authenticate("alice@pve!ci=1234-5678").unwrap().to_string(),
        "alice@pve!ci"
    );
    let error = authenticate("alice@pve!ci=1234").unwrap_err();
    assert_eq!(error.to_string(), "Authentication failed!");
    assert!(matches!(error, AccessError::Unauthenticated { reason } if reason == "invalid token value!"));
}

#[test]
fn console_tickets_are_bound_to_caller_path_and_port() {
    let lab = lab();
    let alice: AuthId = "alice@pve".parse().unwrap();
    let ticket = lab.access().vnc_ticket(&alice, "/vms/100", Some(5901)).unwrap();
    let verify = |ticket: &str, path: &str, port| lab.access().verify_vnc_ticket(ticket, &alice, path, port);
    assert!(verify(&ticket, "/vms/100/", Some(5901)).is_ok());
    assert!(verify(&format!("p:ssw:rd:{ticket}"), "/vms/100", Some(5901)).is_ok());
    assert!(verify(&ticket, "/vms/101", Some(5901)).is_err());
    assert!(verify(&ticket, "/vms/100", None).is_err());
    assert_eq!(
        verify("x", "/vms/100", None).unwrap_err().to_string(),
        "permission denied - invalid PVEVNC ticket"
    );
    let check = |privileges: &str| {
        lab.access()
            .check_vnc_login("alice@pve", &ticket, "/vms/100", privileges, Some(5901), None)
    };
    assert!(check("VM.Console").is_ok());
    assert!(matches!(check("VM.Console,VM.Allocate"), Err(AccessError::LoginFailed)));

    let portless = lab.access().vnc_ticket(&alice, "/vms/100", None).unwrap();
    let rights = |password: &str, privileges| {
        lab.access().login(&LoginRequest {
            verify: Some(("/vms/100", privileges)),
            ..request("alice@pve", password)
        })
    };
    let login = rights(&portless, "VM.Console").unwrap();
    assert!(login.session.is_none(), "a question about rights yields no ticket");
    assert!(rights("S3cret!pw", "VM.Console").is_ok());
    assert!(rights("S3cret!pw", "VM.Allocate").is_err());
    let root = lab.access().login_ticket(&UserId::root()).unwrap();
    assert!(
        rights(&root, "VM.Console").is_err(),
        "only a ticket of exactly this user"
    );

    lab.pass(41);
    assert!(verify(&ticket, "/vms/100", Some(5901)).is_err());

    let socket = "/run/qemu-server/100.mtunnel";
    let tunnel = lab.access().tunnel_ticket(&alice, socket).unwrap();
    assert!(lab.access().verify_tunnel_ticket(&tunnel, &alice, socket).is_ok());
    assert!(
        lab.access()
            .verify_tunnel_ticket(&tunnel, &AuthId::root(), socket)
            .is_err()
    );
}

#[test]
fn realms_without_case_find_the_one_spelling() {
    let lab = lab();
    lab.cfs
        .write("domains.cfg", b"pve: pve\n\tcase-sensitive 0\n\n")
        .unwrap();
    assert_eq!(
        log_in(&lab, "ALICE@pve", "S3cret!pw").unwrap().user.as_str(),
        "alice@pve"
    );
    lab.cfs
        .write("user.cfg", format!("user:Alice@pve:1:0::::::\n{USERS}").as_bytes())
        .unwrap();
    let error = log_in(&lab, "alice@pve", "S3cret!pw").unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (
            500,
            "ambiguous case insensitive match of username 'alice@pve', cannot safely grant access!"
        )
    );
}

#[test]
fn a_labs_system_users_keep_their_passwords() {
    let lab = lab();
    let domains = lab.access().domains().unwrap();
    let error = password::set(&lab.context, &domains, &UserId::root(), "S3cret!pw").unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
}
