//! Uploads: spooled, passed on, cleaned up (reference 01 §3.11).

use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Registry, Role};
use serde_json::json;

use crate::support::{Lab, Running, TOKEN};

const TARGET: &str = "/api2/json/nodes/node1/storage/local/upload";
const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=XX\r\n";

/// What the storage code will do, cut down to taking the file over.
async fn take(call: Call) -> ApiResult {
    let spooled = call.context.site.path(call.params.required("tmpfilename"));
    let bytes = std::fs::read(&spooled).map_err(|error| ApiError::plain(error.to_string()))?;
    if call.params.text("content") != Some("iso") {
        return Err(ApiError::parameter("content", "not here"));
    }
    let whole = call.context.site.path("/taken");
    std::fs::rename(&spooled, whole).map_err(|error| ApiError::plain(error.to_string()))?;
    Ok(json!({
        "size": bytes.len(),
        "sum": bytes.iter().map(|b| u64::from(*b)).sum::<u64>(),
        "filename": call.params.text("filename"),
        "checksum": call.params.text("checksum"),
    })
    .into())
}

/// Measures the file without reading it into memory.
async fn measure(call: Call) -> ApiResult {
    let spooled = call.context.site.path(call.params.required("tmpfilename"));
    let size = std::fs::metadata(&spooled).map(|meta| meta.len());
    Ok(json!(size.map_err(|error| ApiError::plain(error.to_string()))?).into())
}

fn pair(lab: &Lab, measuring: bool) -> (Running, Running) {
    let mut root = Registry::new();
    if measuring {
        root.bind(id::POST_NODES_NODE_STORAGE_STORAGE_UPLOAD, |call| {
            Box::pin(measure(call))
        });
    } else {
        root.bind(id::POST_NODES_NODE_STORAGE_STORAGE_UPLOAD, |call| Box::pin(take(call)));
    }
    let daemon = lab.serve(Role::Root, root, |_| {});
    let port = daemon.address.port();
    let proxy = lab.serve(Role::Web, Registry::new(), |config| config.daemon_port = port);
    (daemon, proxy)
}

fn field(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(name: &str, content: &str) -> String {
    format!(
        "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a b.iso\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n{content}\r\n--XX--\r\n"
    )
}

fn spooled(lab: &Lab) -> usize {
    std::fs::read_dir(lab.path("var/tmp")).unwrap().count()
}

#[tokio::test]
async fn an_upload_reaches_its_handler_as_a_spooled_file() {
    let lab = Lab::new();
    let (_daemon, proxy) = pair(&lab, false);
    let headers = format!("{TOKEN}{MULTIPART}");
    let checksum = field("checksum-algorithm", "md5") + &field("checksum", "abc");
    let body = field("content", " iso ") + &checksum + &file("filename", "one\r\ntwo");
    let answer = proxy.send("POST", TARGET, &headers, &body).await;
    assert_eq!(answer.line, "HTTP/1.1 200 OK", "{}", answer.text());
    let expected = json!({"size": 8, "sum": 322 + 23 + 346, "filename": "a b.iso", "checksum": "abc"});
    assert_eq!(answer.json()["data"], expected);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(std::fs::read(lab.path("taken")).unwrap(), b"one\r\ntwo");
    assert_eq!(spooled(&lab), 0);
}

#[tokio::test]
async fn a_session_uploads_without_a_csrf_token_but_not_without_the_right() {
    let lab = Lab::new();
    let (_daemon, proxy) = pair(&lab, false);
    let body = field("content", "iso") + &file("filename", "x");
    let (root, _) = lab.session("root@pam");
    let answer = proxy.send("POST", TARGET, &format!("{root}{MULTIPART}"), &body).await;
    assert_eq!(answer.line, "HTTP/1.1 200 OK");
    let (joe, _) = lab.session("joe@pve");
    let answer = proxy.send("POST", TARGET, &format!("{joe}{MULTIPART}"), &body).await;
    assert_eq!(
        answer.line,
        "HTTP/1.1 403 Permission check failed (/storage/local, Datastore.AllocateTemplate)"
    );
    assert_eq!(answer.text(), "");
}

#[tokio::test]
async fn uploads_against_the_rules_are_refused_and_leave_nothing() {
    let lab = Lab::new();
    let (_daemon, proxy) = pair(&lab, false);
    let headers = format!("{TOKEN}{MULTIPART}");
    let good = field("content", "iso") + &file("filename", "x");
    for (target, headers, body, line) in [
        (
            TARGET.to_owned(),
            &headers,
            file("file", "x"),
            "500 wrong field name 'file' for file upload, expected 'filename'",
        ),
        (
            TARGET.to_owned(),
            &headers,
            field("nosuch", "1") + &file("filename", "x"),
            "400 unexpected field 'nosuch' in upload",
        ),
        (
            TARGET.to_owned(),
            &headers,
            good.replace("--XX--", "--X"),
            "500 upload failed",
        ),
        (
            format!("{TARGET}?tmpfilename=/etc/shadow"),
            &headers,
            good.clone(),
            "400 parameter 'tmpfilename' is not allowed in an upload",
        ),
        (
            TARGET.to_owned(),
            &TOKEN.to_owned(),
            "content=iso".to_owned(),
            "501 upload 'Content-Type '' not implemented",
        ),
        (
            TARGET.to_owned(),
            &headers,
            field("content", "vztmpl") + &file("filename", "x"),
            "400 Parameter verification failed.",
        ),
        (
            TARGET.replace("json", "extjs"),
            &headers,
            field("content", "vztmpl") + &file("filename", "x"),
            "200 OK",
        ),
    ] {
        let answer = proxy.send("POST", &target, headers, &body).await;
        assert_eq!(answer.line, format!("HTTP/1.1 {line}"), "{}", answer.text());
        assert_eq!(answer.header("Pveapistatus"), None);
        assert_eq!(spooled(&lab), 0, "{line}");
    }
    let answer = proxy.ask(&format!("POST {TARGET} HTTP/1.1\r\n{headers}\r\n")).await;
    assert_eq!(answer.line, "HTTP/1.1 411 Length Required");
}

/// No part of a body takes more memory than its limit, and a body that has none of a file's parts leaves none.
#[tokio::test]
async fn oversized_parts_are_refused_early() {
    let lab = Lab::new();
    let (_daemon, proxy) = pair(&lab, false);
    let headers = format!("{TOKEN}{MULTIPART}");
    let long = "x".repeat(70_000);
    let line = "Content-Disposition: form-data; name";
    for (headers, body, expected) in [
        (headers.clone(), field("content", &long), "501 for data too large"),
        (
            headers.clone(),
            field("content", &long[..40_000]) + &field("checksum", &long[..40_000]),
            "501 for data too large",
        ),
        (
            headers.clone(),
            format!("--XX\r\n{line}=\"{long}\"\r\n\r\n"),
            "500 upload failed",
        ),
        (headers.clone(), format!("--XX\r\nX: {long}"), "500 upload failed"),
        (headers.clone(), format!("--XX{long}"), "500 upload failed"),
        (
            headers.clone(),
            format!("--XX{}", " ".repeat(70_000)),
            "500 upload failed",
        ),
        (headers.clone(), long.repeat(100), "500 upload failed"),
        (
            headers.clone(),
            field("content", "iso").repeat(20_000),
            "500 upload failed",
        ),
        (
            headers.replace("=XX", &format!("={}", &long[..201])),
            String::new(),
            &format!(
                "501 upload 'Content-Type 'multipart/form-data; boundary={}' not implemented",
                &long[..201]
            ),
        ),
    ] {
        let answer = proxy.send("POST", TARGET, &headers, &body).await;
        assert_eq!(answer.line, format!("HTTP/1.1 {expected}"), "{body:.80}");
        assert_eq!(spooled(&lab), 0);
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let lab = Lab::new();
    let (_daemon, proxy) = pair(&lab, false);
    let mut client = proxy.connect().await;
    let head = format!("POST {TARGET} HTTP/1.1\r\n{TOKEN}{MULTIPART}Content-Length: 10000\r\n\r\n");
    client
        .send((head + &file("filename", "x").replace("--XX--", "more")).as_bytes())
        .await;
    wait_until(|| spooled(&lab) == 1).await;
    drop(client);
    wait_until(|| spooled(&lab) == 0).await;
}

async fn wait_until(holds: impl Fn() -> bool) {
    crate::support::soon(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Largest resident size of this process so far, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// 256 MiB as a routine; `PVE_UPLOAD_TEST_MIB` for more.
#[tokio::test]
async fn an_upload_of_any_size_takes_constant_memory() {
    let mib: usize = std::env::var("PVE_UPLOAD_TEST_MIB").map_or(256, |text| text.parse().unwrap());
    let lab = Lab::new();
    let (_daemon, proxy) = pair(&lab, true);
    let head = field("content", "iso")
        + "--XX\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"big.iso\"\r\n\r\n";
    let tail = "\r\n--XX--\r\n";
    let length = head.len() + (mib << 20) + tail.len();
    let mut client = proxy.connect().await;
    let request = format!("POST {TARGET} HTTP/1.1\r\n{TOKEN}{MULTIPART}Content-Length: {length}\r\n\r\n{head}");
    client.send(request.as_bytes()).await;
    let chunk: Vec<u8> = (0..1 << 20)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let before = peak_memory();
    for _ in 0..mib {
        client.send(&chunk).await;
    }
    client.send(tail.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.line.as_str(), answer.json()),
        ("HTTP/1.1 200 OK", json!({"data": mib << 20}))
    );
    let grown = peak_memory() - before;
    assert!(grown < 48 * 1024, "{grown} KiB more than before");
}
