//! The console's websocket opens only for the ticket that was given out for it (reference 06b, vector 22).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use pve_access::AccessControl;
use pve_access::ticket::keys::generate_auth_key;
use pve_cfs::Cfs;
use pve_contract::{Verb, find};
use pve_rest::{ApiResult, Call, Endpoint, Registry};
use pve_schema::ids::AuthId;
use pve_schema::{Context, Param, Params};
use serde_json::json;

fn call(context: &Context, path: &str, params: &[(&str, &str)]) -> ApiResult {
    let method = find(path, Verb::Get).unwrap();
    let checked: Params = params
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Param::Text((*value).to_owned())))
        .collect();
    let call = Call {
        context: context.clone(),
        method,
        params: checked,
        caller: Some("joe@pve".parse().unwrap()),
        client: pve_rest::call::Client::default(),
        request_id: "r1".into(),
    };
    let mut registry = Registry::new();
    pve_web_api::register(&mut registry);
    let handler = registry.get(method.id).expect("a handler is bound");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(handler(call))
}

fn site(root: &std::path::Path) -> Context {
    let context = pve_testing::context(root, "n1");
    Cfs::new(&context).ensure_tree().unwrap();
    context
}

#[test]
fn only_the_right_ticket_opens_the_right_port() {
    let directory = tempfile::tempdir().unwrap();
    let context = site(directory.path());
    let cfs = Cfs::new(&context);
    cfs.write("user.cfg", b"user:joe@pve:1:0::::::\n").unwrap();
    cfs.write("nodes/n1/qemu-server/105.conf", b"").unwrap();
    generate_auth_key(&context).unwrap();
    let joe: AuthId = "joe@pve".parse().unwrap();
    let ticket = AccessControl::load(&context)
        .unwrap()
        .vnc_ticket(&joe, "/vms/105", Some(5901))
        .unwrap();
    let open = |vmid: &str, port: &str, ticket: &str| {
        let params = [("node", "n1"), ("vmid", vmid), ("port", port), ("vncticket", ticket)];
        call(&context, "/nodes/{node}/qemu/{vmid}/vncwebsocket", &params)
    };
    for ticket in [ticket.clone(), format!("pass!ABC:{ticket}")] {
        let reply = open("105", "5901", &ticket).unwrap();
        assert_eq!(
            (reply.data, reply.websocket),
            (json!({"port": "5901"}), Some(Endpoint::Port(5901)))
        );
    }
    for (vmid, port, ticket) in [
        ("105", "5902", ticket.as_str()),
        ("106", "5901", &ticket),
        ("105", "5901", "PVEVNC:x"),
    ] {
        assert_eq!(open(vmid, port, ticket).unwrap_err().status, 401, "{vmid} {port}");
    }
    cfs.remove("nodes/n1/qemu-server/105.conf").unwrap();
    let gone = open("105", "5901", &ticket).unwrap_err();
    assert!(gone.message.contains("does not exist"), "{}", gone.message);
}

#[test]
fn the_version_names_the_console_if_it_is_set() {
    let directory = tempfile::tempdir().unwrap();
    let context = site(directory.path());
    let version = call(&context, "/version", &[]).unwrap().data;
    assert_eq!((&version["release"], version.get("console")), (&json!("9.2"), None));
    Cfs::new(&context)
        .write("datacenter.cfg", b"console: html5\nkeyboard: de\n")
        .unwrap();
    let version = call(&context, "/version", &[]).unwrap().data;
    assert_eq!((&version["console"], version.get("keyboard")), (&json!("html5"), None));
}
