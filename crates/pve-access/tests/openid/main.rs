//! OpenID Connect with a provider that tells the truth, and with one that does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test states what must hold")]

#[path = "../common/mod.rs"]
mod common;
mod lies;
mod logged;
mod provider;

use std::collections::BTreeMap;
use std::net::IpAddr;

use common::Lab;
use percent_encoding::percent_decode_str;
use provider::{Provider, SECRET, Signed};
use pve_access::openid::{self, Arrival, Return};
use pve_access::{AccessError, Credentials};
use pve_schema::Failure as _;
use serde_json::{Value, json};

const HERE: &str = "https://192.0.2.1:8006";
const CLIENT: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)));

struct Sso {
    lab: Lab,
    provider: Provider,
}

/// A site whose realm `sso` has these options besides the required ones.
fn sso(options: &[&str]) -> Sso {
    let lab = Lab::with_users("user:root@pam:1:0::::::\nuser:alice@sso:1:0::::::\nuser:off@sso:0:0::::::\n");
    let provider = Provider::start(lab.context.now());
    let sso = Sso { lab, provider };
    sso.realm(options);
    sso
}

impl Sso {
    fn realm(&self, options: &[&str]) {
        let issuer = &self.provider.issuer;
        let mut text = format!("openid: sso\n\tissuer-url {issuer}\n\tclient-id pve\n\tclient-key {SECRET}\n");
        for option in options {
            text.push_str(&format!("\t{option}\n"));
        }
        text.push_str("\nldap: corp\n\tserver1 192.0.2.9\n\tbase_dn dc=x\n\tuser_attr uid\n\n");
        self.lab.cfs.write("domains.cfg", text.as_bytes()).unwrap();
    }

    /// The parameters that a browser is sent off with, and where to.
    fn auth_url(&self) -> (String, BTreeMap<String, String>) {
        let url = openid::auth_url(&self.lab.context, "sso", HERE, CLIENT).unwrap();
        let (place, query) = url.split_once('?').unwrap();
        let decode = |text: &str| {
            percent_decode_str(&text.replace('+', " "))
                .decode_utf8()
                .unwrap()
                .into_owned()
        };
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
        let parameters: BTreeMap<_, _> = pairs.map(|(key, value)| (decode(key), decode(value))).collect();
        self.provider.set(|script| script.nonce = parameters["nonce"].clone());
        (place.to_owned(), parameters)
    }

    fn come_back(&self, state: &str) -> Result<Arrival, AccessError> {
        openid::login(
            &self.lab.context,
            &Return {
                state,
                code: "a code",
                redirect_url: HERE,
                client: CLIENT,
            },
        )
    }

    /// The whole way.
    fn log_in(&self) -> Result<Arrival, AccessError> {
        let (_, parameters) = self.auth_url();
        self.come_back(&parameters["state"])
    }

    /// Demands that the whole way ends in a refusal that tells nothing, and that the log tells the reason.
    fn refused(&self, what: &str, reason: &str) {
        let (_, parameters) = self.auth_url();
        self.refused_with(&parameters["state"], what, reason);
    }

    fn refused_with(&self, state: &str, what: &str, reason: &str) {
        logged::forget();
        let error = self.come_back(state).map(|arrival| arrival.login.user).unwrap_err();
        let told = (error.status(), error.to_string());
        assert_eq!(told, (401, "authentication failure".to_owned()), "{what}");
        let lines = logged::lines();
        let line = format!("openid authentication failure; rhost=192.0.2.7 msg={reason}");
        assert!(
            lines.iter().any(|logged| logged.starts_with(&line)),
            "{what}: {lines:?}"
        );
    }
}

#[test]
fn a_browser_is_sent_off_and_comes_back_as_a_user() {
    let sso = sso(&[]);
    let (place, sent) = sso.auth_url();
    assert_eq!(place, format!("{}/auth", sso.provider.issuer));
    let of = |key: &str| sent[key].as_str();
    assert_eq!(
        (of("response_type"), of("client_id"), of("redirect_uri")),
        ("code", "pve", HERE)
    );
    assert_eq!((of("scope"), of("display")), ("openid email profile", "page"));
    assert_eq!(of("code_challenge_method"), "S256");
    assert!(!sent.contains_key("prompt") && !sent.contains_key("acr_values"));
    let state: Value = serde_json::from_str(of("state")).unwrap();
    assert_eq!(state["realm"], "sso");
    assert_eq!(state.as_object().unwrap().len(), 2);

    let arrival = sso.come_back(of("state")).unwrap();
    assert_eq!((arrival.login.user.as_str(), arrival.changes.len()), ("alice@sso", 0));
    let session = arrival.login.session.unwrap();
    let who = sso
        .lab
        .access()
        .authenticate(&Credentials::Ticket(session.ticket))
        .unwrap();
    assert_eq!(who.to_string(), "alice@sso");
    sso.lab.access().verify_csrf(&who, Some(&session.csrf_token)).unwrap();

    // The code was exchanged with the secret that belongs to the challenge, under the client's name.
    let [asked] = &sso.provider.asked("/token")[..] else {
        panic!("one exchange")
    };
    let verifier = asked.split("code_verifier=").nth(1).unwrap().split('&').next().unwrap();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(verifier.as_bytes());
    use base64::Engine as _;
    assert_eq!(
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest),
        of("code_challenge")
    );
    assert!(
        asked.contains("code=a+code") && asked.to_lowercase().contains("authorization: basic "),
        "{asked}"
    );
    assert!(sso.come_back(of("state")).is_err(), "a state is good once");
}

#[test]
fn the_realm_says_what_is_asked_for() {
    let sso = sso(&["scopes openid groups,email", "prompt consent", "acr-values gold,silver"]);
    let (_, sent) = sso.auth_url();
    assert_eq!(sent["scope"], "openid groups email");
    assert_eq!(
        (sent["prompt"].as_str(), sent["acr_values"].as_str()),
        ("consent", "gold silver")
    );
}

#[test]
fn tokens_signed_with_rsa_or_a_curve_are_good() {
    let sso = sso(&[]);
    for signed in [Signed::Rsa, Signed::Ec, Signed::Secret] {
        sso.provider.set(|script| script.signed = signed);
        assert_eq!(sso.log_in().unwrap().login.user.as_str(), "alice@sso", "{signed:?}");
    }
}

#[test]
fn audiences_that_the_realm_trusts_may_be_named_too() {
    let sso = sso(&["audiences other,third"]);
    for (audience, is_good) in [
        (json!(["pve", "other"]), true),
        (json!(["third", "pve"]), true),
        (json!(["pve", "fourth"]), false),
        (json!("other"), false),
    ] {
        sso.provider.set(|script| script.claims = json!({ "aud": audience }));
        assert_eq!(sso.log_in().is_ok(), is_good, "{audience}");
    }
}

#[test]
fn a_claim_names_the_user() {
    let sso = sso(&[]);
    sso.provider.set(|script| {
        script.claims = json!({ "sub": "4711", "preferred_username": "alice", "email": "alice@id.example", "no": 7 });
        script.userinfo = json!({ "sub": "4711", "nick": "alice", "email": "from@userinfo" });
    });
    let users = "user:4711@sso:1:0::::::\nuser:7@sso:1:0::::::\nuser:alice@id.example@sso:1:0::::::\n";
    sso.lab
        .cfs
        .write("user.cfg", format!("{}{users}", sso.lab.read("user.cfg")).as_bytes())
        .unwrap();
    for (claim, user) in [
        ("sub", "4711@sso"),
        ("subject", "4711@sso"),
        ("username", "alice@sso"),
        ("preferred_username", "alice@sso"),
        // The ID token's word counts.
        ("email", "alice@id.example@sso"),
        ("nick", "alice@sso"),
        ("no", "7@sso"),
    ] {
        sso.realm(&[&format!("username-claim {claim}")]);
        assert_eq!(sso.log_in().unwrap().login.user.as_str(), user, "{claim}");
    }
    sso.realm(&["username-claim upn"]);
    sso.refused(
        "a claim that is not there",
        "missing configured claim 'upn' in returned info object",
    );
    sso.realm(&["username-claim nick", "query-userinfo 0"]);
    let before = sso.provider.asked("/me").len();
    sso.refused(
        "what is not asked for is not known",
        "missing configured claim 'nick' in returned info object",
    );
    assert_eq!(sso.provider.asked("/me").len(), before);
}

#[test]
fn users_are_made_where_the_realm_says_so() {
    let sso = sso(&["autocreate 1"]);
    sso.provider.set(|script| {
        script.claims = json!({ "sub": "new", "given_name": "Nel: ä", "family_name": "", "email": "no:mail" });
        script.userinfo = json!({ "sub": "new" });
    });
    let arrival = sso.log_in().unwrap();
    assert_eq!(arrival.changes, ["created user"]);
    assert!(
        sso.lab
            .read("user.cfg")
            .contains("\nuser:new@sso:1:0:Nel%3A %C3%A4:::::\n"),
        "{}",
        sso.lab.read("user.cfg")
    );
    assert_eq!(sso.log_in().unwrap().changes, [""; 0], "once");
    sso.provider.set(|script| {
        script.claims = json!({ "sub": "two", "given_name": "T", "family_name": "Wo", "email": "two@id.example" });
        script.userinfo = json!({ "sub": "two" });
    });
    sso.log_in().unwrap();
    assert!(
        sso.lab
            .read("user.cfg")
            .contains("\nuser:two@sso:1:0:T:Wo:two@id.example:::\n")
    );
    // One that is there stays as it is, and out if it is disabled.
    sso.provider.set(|script| {
        script.claims = json!({ "sub": "off", "given_name": "O" });
        script.userinfo = json!({ "sub": "off" });
    });
    sso.refused("a user who is disabled", "user 'off@sso' is disabled");
    assert!(sso.lab.read("user.cfg").contains("user:off@sso:0:0:"));
}

#[test]
fn groups_follow_the_claim() {
    let sso = sso(&["groups-claim groups"]);
    let users = "group:devs-sso:::\ngroup:old:alice@sso::\ngroup:ops:::\n";
    sso.lab
        .cfs
        .write("user.cfg", format!("{}{users}", sso.lab.read("user.cfg")).as_bytes())
        .unwrap();
    let groups = || {
        let access = sso.lab.access();
        let user = "alice@sso".parse().unwrap();
        access.groups_of(&user).collect::<Vec<_>>().join(",")
    };
    let claim = |value: Value| sso.provider.set(|script| script.claims = json!({ "groups": value }));
    claim(json!(["devs", "ops", "not valid", "", 7, "new"]));
    assert_eq!(sso.log_in().unwrap().changes, ["joined devs-sso"]);
    assert_eq!(groups(), "devs-sso,old");
    for nothing in [json!("devs"), Value::Null, json!({ "a": 1 })] {
        claim(nothing);
        assert_eq!(sso.log_in().unwrap().changes, [""; 0]);
    }
    sso.realm(&["groups-claim groups", "groups-autocreate 1"]);
    claim(json!(["new"]));
    assert_eq!(sso.log_in().unwrap().changes, ["joined new-sso"]);
    assert_eq!(groups(), "devs-sso,new-sso,old");
    sso.realm(&["groups-claim groups", "groups-overwrite 1"]);
    assert_eq!(sso.log_in().unwrap().changes, ["left devs-sso", "left old"]);
    claim(json!([]));
    sso.log_in().unwrap();
    assert_eq!(groups(), "");
}

#[test]
fn what_is_wrong_with_a_realm_is_told() {
    let sso = sso(&[]);
    let told = |realm: &str| {
        openid::auth_url(&sso.lab.context, realm, HERE, CLIENT)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(told("none"), "authentication domain 'none' does not exist");
    assert_eq!(told("corp"), "wrong realm type (ldap != openid)");
    assert_eq!(told("pam"), "wrong realm type (pam != openid)");
    let error = openid::auth_url(&sso.lab.context, "sso", "not a url", CLIENT).unwrap_err();
    assert!(error.to_string().starts_with("'redirect-url' is no URL"), "{error}");
    sso.provider.set(|script| {
        script.metadata = |mut metadata| {
            metadata["issuer"] = json!("https://elsewhere.example");
            metadata
        };
    });
    assert!(
        told("sso").contains("unexpected issuer URI `https://elsewhere.example`"),
        "{}",
        told("sso")
    );
    sso.provider.set(|script| script.metadata = |_| json!("nothing"));
    assert!(
        told("sso").starts_with("openid discovery failed: Failed to parse"),
        "{}",
        told("sso")
    );
    // None of it is for strangers.
    logged::forget();
    let error = openid::auth_url(&sso.lab.context, "sso", HERE, CLIENT).unwrap_err();
    assert_eq!(error.for_strangers().to_string(), "openid discovery failed");
    let line = "unable to begin an openid log-in - openid discovery failed: Failed to parse";
    assert!(
        logged::lines().iter().any(|logged| logged.starts_with(line)),
        "{:?}",
        logged::lines()
    );
    // Nothing was begun.
    sso.provider.set(|script| script.metadata = |metadata| metadata);
    let path = sso
        .lab
        .context
        .site
        .path("/var/lib/pve-manager/proxmox-openid-auth-state-sso");
    assert!(!path.exists());
}

#[test]
fn a_hundred_that_never_come_back_keep_others_out_for_ten_minutes() {
    let sso = sso(&[]);
    let (_, first) = sso.auth_url();
    for _ in 1..100 {
        let begun = openid::state::Begun {
            csrf_token: uuid::Uuid::new_v4().to_string(),
            nonce: String::new(),
            pkce_verifier: String::new(),
            ctime: sso.lab.context.now(),
            network: None,
        };
        openid::state::add(&sso.lab.context, "sso", begun).unwrap();
    }
    let before = sso.provider.asked("/jwks").len();
    let error = openid::auth_url(&sso.lab.context, "sso", HERE, CLIENT).unwrap_err();
    assert_eq!(error.to_string(), "too many pending openid auth request for realm sso");
    assert_eq!(sso.provider.asked("/jwks").len(), before, "the provider is left alone");
    sso.come_back(&first["state"]).unwrap();
    sso.auth_url();
    sso.lab.pass(600);
    sso.provider.set(|script| script.now += 600);
    sso.log_in().unwrap();
}

#[test]
fn a_provider_is_asked_by_the_proxy_of_the_datacenter() {
    let sso = sso(&[]);
    let proxy = Provider::start(0);
    proxy.set(|script| script.metadata = |_| json!("the proxy was asked"));
    sso.lab
        .cfs
        .write("datacenter.cfg", format!("http_proxy: {}\n", proxy.issuer).as_bytes())
        .unwrap();
    openid::auth_url(&sso.lab.context, "sso", HERE, CLIENT).unwrap_err();
    let asked = proxy.script.lock().unwrap().asked.clone();
    assert!(
        asked[0].0.starts_with(&sso.provider.issuer) || asked[0].1.starts_with("CONNECT "),
        "{asked:?}"
    );
    assert!(sso.provider.asked("/jwks").is_empty());
}

/// The provider takes the secret in the body alone, if it says so.
#[test]
fn the_secret_goes_where_the_provider_takes_it() {
    let sso = sso(&[]);
    sso.provider.set(|script| {
        script.metadata = |mut metadata| {
            metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
            metadata
        };
    });
    sso.log_in().unwrap();
    let asked = &sso.provider.asked("/token")[0];
    assert!(
        asked.contains("client_secret=client+secret") && !asked.to_lowercase().contains("authorization:"),
        "{asked}"
    );
}
