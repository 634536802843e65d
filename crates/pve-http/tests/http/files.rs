//! Static files: which are served, what is said of them, and that nothing else is.

use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use flate2::read::{GzDecoder, ZlibDecoder};
use pve_http::Files;
use pve_rest::{Registry, Role};

use crate::support::{Answer, Lab, Running};

/// A site on which an interface is installed, served.
fn serve(lab: &Lab) -> Running {
    let files = Arc::new(Files::scan(&lab.context.site));
    lab.serve(Role::Web, Registry::new(), |config| config.files = Some(files))
}

fn put(lab: &Lab, rel: &str, content: impl AsRef<[u8]>) {
    let path = lab.path("usr/share").join(rel);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn refused(answer: &Answer) -> (&str, &str) {
    (answer.line.strip_prefix("HTTP/1.1 ").unwrap(), answer.text())
}

/// Reference 01 §3.5.
#[tokio::test]
async fn each_alias_leads_to_its_directory_and_those_below() {
    let lab = Lab::new();
    let pages = [
        ("/pve2/ext6/ext-all.js", "javascript/extjs/ext-all.js"),
        ("/pve2/ext6/theme/a/b.css", "javascript/extjs/theme/a/b.css"),
        ("/pve-docs/api-viewer/extjs/ext-all.js", "javascript/extjs/ext-all.js"),
        ("/pve2/css/ext6-pve.css", "pve-manager/css/ext6-pve.css"),
        ("/pve2/images/logo-128.png", "pve-manager/images/logo-128.png"),
        ("/pve2/js/pvemanagerlib.js", "pve-manager/js/pvemanagerlib.js"),
        (
            "/pve2/fa/css/font-awesome.css",
            "fonts-font-awesome/css/font-awesome.css",
        ),
        ("/pve2/fa/fonts/fa.woff2", "fonts-font-awesome/fonts/fa.woff2"),
        (
            "/pve2/font-logos/css/font-logos.css",
            "fonts-font-logos/css/font-logos.css",
        ),
        ("/pve2/locale/pve-lang-de.js", "pve-i18n/pve-lang-de.js"),
        (
            "/pwt/css/ext6-pmx.css",
            "javascript/proxmox-widget-toolkit/css/ext6-pmx.css",
        ),
        (
            "/pwt/images/logo.png",
            "javascript/proxmox-widget-toolkit/images/logo.png",
        ),
        (
            "/pwt/themes/theme.css",
            "javascript/proxmox-widget-toolkit/themes/theme.css",
        ),
        ("/novnc/app.js", "novnc-pve/app.js"),
        ("/xtermjs/main.js", "pve-xtermjs/main.js"),
        ("/pve-docs/index.html", "pve-docs/index.html"),
        ("/pve-docs/api-viewer/apidoc.js", "pve-docs/api-viewer/apidoc.js"),
        ("/yew-mobile/x.wasm", "pve-yew-mobile-gui/x.wasm"),
        ("/yew-mobile/i18n/de.mo", "pve-yew-mobile-i18n/de.mo"),
        (
            "/bootstrap5/css/bootstrap.min.css",
            "bootstrap-html/css/bootstrap.min.css",
        ),
        ("/favicon.ico", "pve-manager/images/favicon.ico"),
        ("/proxmoxlib.js", "javascript/proxmox-widget-toolkit/proxmoxlib.js"),
        ("/qrcode.min.js", "javascript/qrcodejs/qrcode.min.js"),
    ];
    for (_, file) in pages {
        put(&lab, file, file);
    }
    let server = serve(&lab);
    for (url, file) in pages {
        let answer = server.get(&format!("{url}?_dc=1"), "").await;
        assert_eq!(
            (answer.line.as_str(), answer.text()),
            ("HTTP/1.1 200 OK", file),
            "{url}"
        );
    }
    put(&lab, "pve-docs/new/page.html", "made later");
    let answer = server.get("/pve-docs/new/page.html", "").await;
    assert_eq!(refused(&answer).0, "500 no such file '/pve-docs/new/page.html'");
}

#[tokio::test]
async fn types_go_by_endings() {
    let lab = Lab::new();
    let types = [
        ("css", "text/css"),
        ("html", "text/html"),
        ("js", "application/javascript"),
        ("json", "application/json"),
        ("map", "application/json"),
        ("svg", "image/svg+xml"),
        ("wasm", "application/wasm"),
        ("mo", "application/x-gettext-translation"),
        ("png", "image/png"),
        ("ico", "image/x-icon"),
        ("gif", "image/gif"),
        ("jar", "application/java-archive"),
        ("woff", "application/font-woff"),
        ("woff2", "application/font-woff2"),
        ("ttf", "application/font-snft"),
        ("pdf", "application/pdf"),
        ("epub", "application/epub+zip"),
        ("mp3", "audio/mpeg"),
        ("oga", "audio/ogg"),
        ("tgz", "application/x-compressed-tar"),
        ("gz", "application/gzip"),
    ];
    let text = "x".repeat(2000);
    for (ending, _) in types {
        put(&lab, &format!("novnc-pve/a.{ending}"), &text);
    }
    put(&lab, "novnc-pve/a.xyz", "");
    put(&lab, "novnc-pve/plain", "");
    let server = serve(&lab);
    for (at, (ending, content_type)) in types.into_iter().enumerate() {
        let answer = server
            .get(&format!("/novnc/a.{ending}"), "Accept-Encoding: gzip\r\n")
            .await;
        assert_eq!(answer.header("Content-Type"), Some(content_type));
        let encoding = (at < 8).then_some("gzip");
        assert_eq!(answer.header("Content-Encoding"), encoding, "{ending}");
        for (header, value) in [("Cache-Control", None), ("Pragma", None), ("Expires", None)] {
            assert_eq!(answer.header(header), value, "{header}");
        }
    }
    for path in ["/novnc/a.xyz", "/novnc/plain"] {
        let answer = server.get(path, "").await;
        assert_eq!(
            refused(&answer),
            ("500 unable to detect content type", "unable to detect content type\n")
        );
    }
}

/// Vector 25.
#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let lab = Lab::new();
    put(&lab, "pve-manager/css/a.css", "body {}");
    let path = lab.path("usr/share/pve-manager/css/a.css");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_700))
        .unwrap();
    let server = serve(&lab);
    let date = "Tue, 14 Nov 2023 22:13:20 GMT";
    let answer = server.get("/pve2/css/a.css", "").await;
    assert_eq!((answer.header("Last-Modified"), answer.text()), (Some(date), "body {}"));
    for since in [date, "Wed, 15 Nov 2023 00:00:00 GMT"] {
        let answer = server
            .get("/pve2/css/a.css", &format!("If-Modified-Since: {since}\r\n"))
            .await;
        assert_eq!(answer.line, "HTTP/1.1 304 NOT MODIFIED");
        assert_eq!(answer.header("Last-Modified"), Some(date));
        assert_eq!(
            (answer.header("Content-Length"), answer.header("Cache-Control")),
            (None, None)
        );
        assert_eq!(answer.header("Connection"), Some("Keep-Alive"));
    }
    for since in ["Tue, 14 Nov 2023 22:13:19 GMT", "yesterday"] {
        let answer = server
            .get("/pve2/css/a.css", &format!("If-Modified-Since: {since}\r\n"))
            .await;
        assert_eq!((answer.line.as_str(), answer.text()), ("HTTP/1.1 200 OK", "body {}"));
    }
    let answer = server.get("/pve2/css/a.css", "Range: bytes=1-2\r\n").await;
    assert_eq!((answer.line.as_str(), answer.text()), ("HTTP/1.1 200 OK", "body {}"));
}

#[tokio::test]
async fn nothing_else_can_be_reached() {
    let lab = Lab::new();
    put(&lab, "pve-manager/css/a.css", "body {}");
    put(&lab, "pve-manager/css/deep/b.css", "");
    put(&lab, "pve-manager/secret.css", "no");
    put(&lab, "fonts/font.ttf", "font");
    lab.put("etc/secret.css", "no");
    std::fs::create_dir_all(lab.path("usr/share/fonts-font-awesome/fonts")).unwrap();
    symlink(
        "../../fonts/font.ttf",
        lab.path("usr/share/fonts-font-awesome/fonts/font.ttf"),
    )
    .unwrap();
    symlink(
        "../../../../etc/secret.css",
        lab.path("usr/share/pve-manager/css/out.css"),
    )
    .unwrap();
    symlink("../../../../etc", lab.path("usr/share/pve-manager/css/out")).unwrap();
    symlink(".", lab.path("usr/share/pve-manager/css/loop")).unwrap();
    nix::unistd::mkfifo(
        &lab.path("usr/share/pve-manager/css/pipe.css"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    let server = serve(&lab);
    assert_eq!(
        server.get("/pve2/fa/fonts/font.ttf", "").await.text(),
        "font",
        "a link to a package's file"
    );
    let no_such = |path: &str| (format!("500 no such file '{path}'"), format!("no such file '{path}'\n"));
    let directory = |path: &str| {
        let text = format!("unable to open file '{path}' because it is a directory");
        (format!("500 {text}"), format!("{text}\n"))
    };
    for (path, expected) in [
        ("/pve2/css/out.css", no_such("/pve2/css/out.css")),
        ("/pve2/css/out/secret.css", no_such("/pve2/css/out/secret.css")),
        ("/pve2/css/loop/a.css", no_such("/pve2/css/loop/a.css")),
        ("/pve2/css/pipe.css", no_such("/pve2/css/pipe.css")),
        ("/pve2/css/../secret.css", no_such("/pve2/css/../secret.css")),
        ("/pve2/css/%2e%2e/secret.css", no_such("/pve2/css/../secret.css")),
        ("/pve2/css/..%2fsecret.css", no_such("/pve2/css/../secret.css")),
        ("/pve2/css/..%5csecret.css", no_such("/pve2/css/..\\secret.css")),
        (
            "/pve2/css/deep/../../secret.css",
            no_such("/pve2/css/deep/../../secret.css"),
        ),
        ("/pve2/css/a.css%00.png", no_such("/pve2/css/a.css\0.png")),
        ("/pve2/css//a.css", no_such("/pve2/css//a.css")),
        ("/pve2/css/", no_such("/pve2/css/")),
        ("/pve2/css", no_such("/pve2/css")),
        ("/pve2/js/a.js", no_such("/pve2/js/a.js")),
        (
            "/usr/share/pve-manager/css/a.css",
            no_such("/usr/share/pve-manager/css/a.css"),
        ),
        ("/favicon.ico", no_such("/favicon.ico")),
        ("/pve2/css/..", directory("/pve2/css/..")),
        ("/pve2/css/.", directory("/pve2/css/.")),
        ("/pve2/css/deep", directory("/pve2/css/deep")),
    ] {
        let answer = server.get(path, "").await;
        let (line, body) = refused(&answer);
        // What cannot be in a reason phrase is left out there.
        assert_eq!(
            (line, body),
            (expected.0.replace('\0', " ").as_str(), expected.1.as_str()),
            "{path}"
        );
        assert_eq!(answer.header("Connection"), Some("close"));
    }
    let answer = server.get("/pve2/css/none.css", "").await;
    let text = "unable to open file '/pve2/css/none.css' - No such file or directory";
    assert_eq!(refused(&answer).0, format!("500 {text}"));
    let answer = server.send("POST", "/pve2/css/a.css", "", "").await;
    assert_eq!(refused(&answer).0, "500 no such file '/pve2/css/a.css'");
    let answer = server.ask("HEAD /pve2/css/a.css HTTP/1.1\r\nHost: node1\r\n\r\n").await;
    assert_eq!(answer.line, "HTTP/1.1 501 method 'HEAD' not available");
}

#[tokio::test]
async fn where_nothing_is_installed_the_start_page_is_served_alone() {
    let server = serve(&Lab::new());
    assert!(server.get("/", "").await.text().contains("/api2/json/access/ticket"));
    let answer = server.get("/pve2/css/a.css", "").await;
    assert_eq!(
        refused(&answer),
        ("500 no such file '/pve2/css/a.css'", "no such file '/pve2/css/a.css'\n")
    );
}

#[tokio::test]
async fn large_files_are_sent_as_they_are_read() {
    let lab = Lab::new();
    let text: String = (0..200_000)
        .map(|n| format!("var v{n} = {};\n", n * 7919 % 1013))
        .collect();
    put(&lab, "javascript/extjs/ext-all.js", &text);
    let server = serve(&lab);
    let answer = server.get("/pve2/ext6/ext-all.js", "").await;
    assert_eq!(answer.header("Content-Length"), Some(text.len().to_string().as_str()));
    assert!(answer.text() == text);
    for (encoding, start) in [("gzip", 0x1f), ("deflate", 0x78)] {
        let mut client = server.connect().await;
        let head = "GET /pve2/ext6/ext-all.js HTTP/1.0\r\n";
        client
            .send(format!("{head}Accept-Encoding: {encoding}\r\n\r\n").as_bytes())
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.header("Content-Encoding"), Some(encoding));
        assert_eq!(answer.header("Content-Length"), None, "nobody knows it yet");
        let packed = client.rest().await;
        assert!(packed[0] == start && packed.len() < text.len() / 2, "{}", packed.len());
        let mut unpacked = String::new();
        match encoding {
            "gzip" => GzDecoder::new(packed.as_slice()).read_to_string(&mut unpacked).unwrap(),
            _ => ZlibDecoder::new(packed.as_slice())
                .read_to_string(&mut unpacked)
                .unwrap(),
        };
        assert!(unpacked == text);
    }
}
