//! The order of the steps, which clients see: on a real site with real tickets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test states what must hold")]
use std::sync::Arc;

use pve_access::{AccessControl, Credentials};
use pve_cfs::Cfs;
use pve_contract::{Verb, id};
use pve_rest::call::Client;
use pve_rest::{ApiError, ForwardTo, Outcome, Pipeline, Registry, Reply, RequestHead, Role};
use pve_schema::Context;
use pve_schema::clock::ManualClock;
use pve_schema::ids::UserId;
use serde_json::{Map, Value, json};

const USERS: &str = "user:root@pam:1:0::::::
user:alice@pve:1:0::::::
user:off@pve:0:0::::::
acl:1:/vms/100:alice@pve:PVEVMUser:
acl:1:/storage/up:alice@pve:PVEDatastoreAdmin:
";

struct Suite {
    context: Context,
    _root: tempfile::TempDir,
}

impl Suite {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let site = pve_testing::site(root.path(), "n1");
        let context = Context::new(site);
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("user.cfg", USERS.as_bytes()).unwrap();
        cfs.write("pve-www.key", b"a secret").unwrap();
        pve_access::ticket::keys::generate_auth_key(&context).unwrap();
        Self { context, _root: root }
    }

    fn pipeline(&self, role: Role) -> Pipeline {
        let mut registry = Registry::new();
        registry.bind(id::GET_VERSION, |call| {
            Box::pin(async move { Ok(Reply::from(json!({"caller": call.auth_id().to_string()}))) })
        });
        registry.bind(id::GET_NODES_NODE_QEMU_VMID_CONFIG, |call| {
            Box::pin(async move { Ok(Reply::from(json!(call.params.required("vmid")))) })
        });
        registry.bind(id::PUT_ACCESS_PASSWORD, |_| Box::pin(async { Ok(Reply::null()) }));
        registry.bind(id::GET_ACCESS_TICKET, |_| Box::pin(async { Ok(Reply::null()) }));
        Pipeline {
            context: self.context.clone(),
            registry,
            role,
        }
    }

    fn head(&self, user: Option<&str>, verb: Verb, path: &str) -> RequestHead {
        let credentials = user.map_or(Credentials::None, |user| {
            let user: UserId = user.parse().unwrap();
            let access = AccessControl::load(&self.context).unwrap();
            Credentials::Ticket(access.login_ticket(&user).unwrap())
        });
        let csrf = user.map(|user| {
            let access = AccessControl::load(&self.context).unwrap();
            access.csrf_token(&user.parse().unwrap()).unwrap()
        });
        RequestHead {
            verb,
            path: path.to_owned(),
            credentials,
            csrf,
            client: Client::default(),
            proxied: false,
            request_id: "test".into(),
        }
    }

    async fn call(&self, role: Role, user: Option<&str>, verb: Verb, path: &str, params: Value) -> Outcome {
        let pipeline = self.pipeline(role);
        match pipeline.authenticate(self.head(user, verb, path)).await {
            Err(error) => Outcome::Error(error),
            Ok(admitted) => pipeline.dispatch(&admitted, object(params)).await,
        }
    }

    async fn refused(&self, role: Role, user: Option<&str>, verb: Verb, path: &str, params: Value) -> ApiError {
        match self.call(role, user, verb, path, params).await {
            Outcome::Error(error) => error,
            other => panic!("{path}: {other:?}"),
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[tokio::test]
async fn strangers_get_no_further_than_the_ways_to_log_in() {
    let suite = Suite::new();
    let error = suite.refused(Role::Web, None, Verb::Get, "/version", json!({})).await;
    assert_eq!((error.status, error.reason()), (401, "No ticket"));
    let error = suite
        .refused(Role::Web, Some("off@pve"), Verb::Get, "/version", json!({}))
        .await;
    assert_eq!((error.status, error.reason()), (401, "Authentication failed!"));
    let answer = suite
        .call(Role::Root, None, Verb::Get, "/access/ticket", json!({}))
        .await;
    assert!(matches!(answer, Outcome::Reply(_)), "{answer:?}");
    // The white list is of exact paths.
    let error = suite
        .refused(Role::Root, None, Verb::Get, "/access/ticket/", json!({}))
        .await;
    assert_eq!(error.status, 401);
}

#[tokio::test]
async fn refusals_come_in_the_order_of_the_steps() {
    let suite = Suite::new();
    let alice = Some("alice@pve");
    let config = "/nodes/n1/qemu/abc/config";

    let error = suite.refused(Role::Root, alice, Verb::Get, "/nope", json!({})).await;
    assert_eq!(
        (error.status, error.message.as_str()),
        (501, "Method 'GET /nope' not implemented")
    );
    // Garbage in a parameter of a forbidden call is still a forbidden call.
    let error = suite
        .refused(Role::Root, alice, Verb::Get, config, json!({"x": 1}))
        .await;
    assert_eq!(
        (error.status, error.reason()),
        (403, "Permission check failed (/vms/abc, VM.Audit)")
    );
    // An unknown node comes before a wrong parameter.
    let other = "/nodes/elsewhere/qemu/100/config";
    let error = suite
        .refused(Role::Root, alice, Verb::Get, other, json!({"x": 1}))
        .await;
    assert_eq!((error.status, error.reason()), (500, "proxy not allowed"));
    let own = "/nodes/n1/qemu/100/config";
    let error = suite.refused(Role::Root, alice, Verb::Get, own, json!({"x": 1})).await;
    assert_eq!((error.status, error.errors.len()), (400, 1));
    // What the contract knows and nobody has built yet says so after the permission check.
    let error = suite
        .refused(Role::Root, Some("root@pam"), Verb::Get, "/cluster/ha/rules", json!({}))
        .await;
    assert_eq!(
        (error.status, error.reason()),
        (501, "Method 'GET /cluster/ha/rules' is not built yet")
    );
}

#[tokio::test]
async fn each_side_runs_what_it_may() {
    let suite = Suite::new();
    let alice = Some("alice@pve");
    let web = |path: &'static str| suite.call(Role::Web, alice, Verb::Get, path, json!({}));

    match web("/version").await {
        Outcome::Reply(reply) => assert_eq!(reply.data["caller"], "alice@pve"),
        other => panic!("{other:?}"),
    }
    // Not protected, but the web side has no handler for it.
    let forwarded = web("/cluster/nextid").await;
    assert!(
        matches!(forwarded, Outcome::Forward(ForwardTo::Daemon)),
        "{forwarded:?}"
    );
    let forwarded = web("/nodes/other/qemu/100/config").await;
    let Outcome::Forward(ForwardTo::Node(node)) = forwarded else {
        panic!("{forwarded:?}")
    };
    assert_eq!(node.as_str(), "other");
    let own = web("/nodes/localhost/qemu/100/config").await;
    assert!(matches!(own, Outcome::Reply(_)), "{own:?}");

    let pipeline = suite.pipeline(Role::Web);
    let mut head = suite.head(alice, Verb::Get, "/nodes/other/qemu/100/config");
    head.proxied = true;
    let admitted = pipeline.authenticate(head).await.unwrap();
    match pipeline.dispatch(&admitted, Map::new()).await {
        Outcome::Error(error) => assert_eq!(error.reason(), "proxy loop detected"),
        other => panic!("{other:?}"),
    }
    let mut upload = admitted;
    (upload.head.proxied, upload.upload) = (false, true);
    match pipeline.dispatch(&upload, Map::new()).await {
        Outcome::Error(error) => assert_eq!(error.reason(), "unable to proxy file uploads"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn changes_by_ticket_need_the_csrf_token_on_the_web_side_only() {
    let suite = Suite::new();
    for (role, verb, expected) in [
        (Role::Web, Verb::Put, Some(401)),
        (Role::Web, Verb::Get, None),
        (Role::Root, Verb::Put, None),
    ] {
        let mut head = suite.head(Some("alice@pve"), verb, "/access/password");
        head.csrf = None;
        let refused = suite.pipeline(role).authenticate(head).await.err();
        assert_eq!(
            refused.as_ref().map(|error| error.status),
            expected,
            "{role:?} {verb}: {refused:?}"
        );
    }
    let mut head = suite.head(Some("alice@pve"), Verb::Put, "/access/password");
    head.csrf = suite.head(Some("root@pam"), Verb::Put, "/").csrf;
    let error = suite.pipeline(Role::Web).authenticate(head).await.unwrap_err();
    assert_eq!(error.reason(), "Permission denied - invalid csrf token");
}

#[tokio::test]
async fn uploads_are_permitted_before_their_body_is_read() {
    let suite = Suite::new();
    let upload = |storage: &str| format!("/nodes/n1/storage/{storage}/upload");
    let pipeline = suite.pipeline(Role::Web);
    let mut head = suite.head(Some("alice@pve"), Verb::Post, &upload("up"));
    head.csrf = None;
    assert!(pipeline.authenticate(head).await.unwrap().upload);
    let head = suite.head(Some("alice@pve"), Verb::Post, &upload("other"));
    let error = pipeline.authenticate(head).await.unwrap_err();
    assert_eq!(
        (error.status, error.reason()),
        (
            403,
            "Permission check failed (/storage/other, Datastore.AllocateTemplate)"
        )
    );
}

#[tokio::test]
async fn a_token_does_not_replace_a_person() {
    let suite = Suite::new();
    let pipeline = suite.pipeline(Role::Root);
    let mut head = suite.head(None, Verb::Post, "/access/ticket");
    head.credentials = Credentials::Token("alice@pve!t1=secret".to_owned());
    let admitted = pipeline.authenticate(head).await.unwrap();
    let Outcome::Error(error) = pipeline.dispatch(&admitted, Map::new()).await else {
        panic!("let in")
    };
    assert_eq!(
        error.message,
        "Permission check failed (URI '/access/ticket' not available with API token, need proper ticket.\n)\n"
    );
}

/// The signature's check is remembered, files are kept in memory: neither may make an old truth last a moment longer.
#[tokio::test]
async fn a_request_sees_what_the_one_before_could_not() {
    let suite = Suite::new();
    let cfs = Cfs::new(&suite.context);
    let head = suite.head(Some("alice@pve"), Verb::Get, "/nodes/n1/qemu/100/config");
    let status = async |context: &Context| {
        let pipeline = Pipeline {
            context: context.clone(),
            ..suite.pipeline(Role::Root)
        };
        match pipeline.authenticate(head.clone()).await {
            Err(error) => error.status,
            Ok(admitted) => match pipeline.dispatch(&admitted, Map::new()).await {
                Outcome::Reply(_) => 200,
                Outcome::Error(error) => error.status,
                Outcome::Forward(to) => panic!("{to:?}"),
            },
        }
    };
    let now = &suite.context;
    let users = |from: &str, to: &str| cfs.write("user.cfg", USERS.replace(from, to).as_bytes()).unwrap();
    // Several times each, quickly, and with files of the same size.
    for _ in 0..5 {
        assert_eq!([status(now).await, status(now).await], [200, 200]);
        users("alice@pve:1:0", "alice@pve:0:0");
        assert_eq!(status(now).await, 401, "the user was disabled");
        users("alice@pve:1:0", "alice@pve:1:1");
        assert_eq!(status(now).await, 401, "the user has expired");
        users("/vms/100", "/vms/101");
        assert_eq!(status(now).await, 403, "the right was taken away");
        users("", "");
    }
    let at = |seconds: i64| now.with_clock(Arc::new(ManualClock::at(now.now() + seconds)));
    assert_eq!(status(&at(7200 - 60)).await, 200);
    assert_eq!(status(&at(7200)).await, 401, "the ticket is two hours old");
    assert_eq!(status(now).await, 200);
    for key in ["priv/authkey.key", "authkey.pub"] {
        assert!(cfs.remove(key).unwrap());
    }
    assert_eq!(status(now).await, 401, "there is no key");
    pve_access::ticket::keys::generate_auth_key(now).unwrap();
    assert_eq!(status(now).await, 401, "the key is another one");
}
