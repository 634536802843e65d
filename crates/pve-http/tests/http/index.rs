//! The page at `/`: of the interface that is installed, told what its visitor may know.

use std::sync::Arc;

use pve_http::Files;
use pve_rest::{Registry, Role};

use crate::support::{Answer, Lab, Running};

/// What the pages of upstream's interface ask for.
const TEMPLATE: &str = "<html lang=\"[% lang %]\" class=\"[% theme %]\">\n\
    [%- IF langfile %]<script src='/pve2/locale/pve-lang-[% lang %].js'></script>[% ELSE %]<!-- none -->[% END %]\n\
    [% IF debug %]all-debug[% ELSE %]all[% END %].js?ver=[% version %] lib=[% wtversion %]\n\
    UserName: '[% username %]', Token: '[% token %]', NodeName: '[% nodename %]', Console: '[% console %]'\n\
    [% IF console != 'kvm' %]not [% END %]kvm [% consenttext %]</html>\n";

fn serve(lab: &Lab) -> Running {
    let files = Arc::new(Files::scan(&lab.context.site));
    lab.serve(Role::Web, Registry::new(), |config| config.files = Some(files))
}

fn install(lab: &Lab, directory: &str, template: &str) {
    let directory = lab.path("usr/share").join(directory);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("index.html.tpl"), template).unwrap();
}

fn is_page(answer: &Answer) -> bool {
    answer.line == "HTTP/1.1 200 OK" && answer.header("Content-Type") == Some("text/html; charset=utf-8")
}

#[tokio::test]
async fn a_page_is_told_who_its_visitor_is_and_what_he_prefers() {
    let lab = Lab::new();
    install(&lab, "pve-manager", TEMPLATE);
    lab.put("etc/pve/datacenter.cfg", "language: de\nconsent-text: SGFsdCE=\n");
    for folder in ["pve-i18n", "javascript/proxmox-widget-toolkit"] {
        std::fs::create_dir_all(lab.path("usr/share").join(folder)).unwrap();
    }
    lab.put("usr/share/pve-i18n/pve-lang-de.js", "");
    lab.put(
        "usr/share/javascript/proxmox-widget-toolkit/proxmoxlib.js",
        "// v5.1.2-t1\nrest",
    );
    let server = serve(&lab);
    let answer = server.get("/", "").await;
    assert!(is_page(&answer), "{}", answer.line);
    assert_eq!(answer.header("Cache-Control"), Some("max-age=0"));
    let text = answer.text();
    assert!(
        text.starts_with("<html lang=\"de\" class=\"auto\"><script src='/pve2/locale/pve-lang-de.js'>"),
        "{text}"
    );
    assert!(
        text.contains("all.js?ver=9.2") && text.contains("lib=v5.1.2-t1"),
        "{text}"
    );
    assert!(
        text.contains("UserName: '', Token: 'null', NodeName: 'node1', Console: ''"),
        "{text}"
    );
    assert!(text.contains("not kvm SGFsdCE="), "{text}");
    // A cookie tells who it is, and what he likes better.
    let (cookie, _) = lab.session("joe@pve");
    let cookie = cookie.replace("\r\n", "; PVELangCookie=fr; PVEThemeCookie=proxmox-dark\r\n");
    let answer = server.get("/?console=kvm&debug=1", &cookie).await;
    let text = answer.text();
    assert!(
        text.starts_with("<html lang=\"fr\" class=\"proxmox-dark\"><!-- none -->"),
        "{text}"
    );
    assert!(
        text.contains("all-debug.js") && text.contains("UserName: 'joe@pve', Token: '"),
        "{text}"
    );
    assert!(!text.contains("'null'") && !text.contains("not kvm"), "{text}");
    // A token is no session of a browser, and a bad cookie is nobody.
    for header in [
        crate::support::TOKEN,
        "Cookie: PVEAuthCookie=PVE:joe@pve:00000000::AAAA\r\n",
    ] {
        let answer = server.get("/", header).await;
        assert!(
            is_page(&answer) && answer.text().contains("UserName: '', Token: 'null'"),
            "{header}"
        );
    }
    // What a link puts into the query stays a text.
    let answer = server.get("/?console=%27%3B%3C/script%3E", "").await;
    assert!(
        answer.text().contains(r"Console: '\u0027;\u003c/script\u003e'"),
        "{}",
        answer.text()
    );
    for cookie in ["PVELangCookie='><script>", "PVEThemeCookie=\"><script>"] {
        let answer = server.get("/", &format!("Cookie: {cookie}\r\n")).await;
        assert!(
            answer.text().starts_with("<html lang=\"de\" class=\"auto\">"),
            "{cookie}"
        );
    }
}

#[tokio::test]
async fn consoles_and_phones_have_pages_of_their_own() {
    let lab = Lab::new();
    for directory in ["pve-manager", "novnc-pve", "pve-xtermjs"] {
        install(&lab, directory, &format!("<p>{directory} [% console %]</p>"));
    }
    let server = serve(&lab);
    let phone = "User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)\r\n";
    for (target, headers, expected) in [
        ("/", "", "<p>pve-manager </p>"),
        ("/?console=kvm&novnc=1&node=n1&vmid=100", "", "<p>novnc-pve kvm</p>"),
        ("/?console=shell&xtermjs=1&node=n1", phone, "<p>pve-xtermjs shell</p>"),
        // There is none for phones, so they get the one for all.
        ("/", phone, "<p>pve-manager </p>"),
    ] {
        assert_eq!(server.get(target, headers).await.text(), expected, "{target}");
    }
    // What is installed later needs no reload.
    install(
        &lab,
        "pve-yew-mobile-gui",
        "<p>[% yew_mobile_base_path %] [% i18n_yew_mobile_mtime %]</p>",
    );
    assert_eq!(server.get("/", phone).await.text(), "<p>/yew-mobile </p>");
}

#[tokio::test]
async fn where_nothing_is_installed_a_page_says_so() {
    let lab = Lab::new();
    let server = serve(&lab);
    for (target, directory) in [
        ("/", "/usr/share/pve-manager/"),
        ("/?console=kvm&novnc=1", "/usr/share/novnc-pve/"),
        ("/?console=lxc&xtermjs=1", "/usr/share/pve-xtermjs/"),
    ] {
        let answer = server.get(target, "").await;
        assert!(is_page(&answer) && answer.text().contains(directory), "{target}");
        assert!(answer.text().contains("/api2/html"));
    }
    // A template that cannot be shown is an error that names the place, and no half page.
    std::fs::create_dir_all(lab.path("usr/share")).unwrap();
    let server = serve(&lab);
    install(&lab, "pve-manager", "<p>\n[% INCLUDE other.tpl %]</p>");
    let answer = server.get("/", "").await;
    let expected = "500 unable to show the page's template - line 2: unknown directive 'INCLUDE other.tpl'";
    assert_eq!(answer.line, format!("HTTP/1.1 {expected}"));
    // A link to elsewhere is no template.
    std::fs::remove_file(lab.path("usr/share/pve-manager/index.html.tpl")).unwrap();
    lab.put("etc/secret", "secret");
    std::os::unix::fs::symlink(lab.path("etc/secret"), lab.path("usr/share/pve-manager/index.html.tpl")).unwrap();
    assert!(!server.get("/", "").await.text().contains("secret"));
}
