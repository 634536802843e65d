//! What a page is told (reference 01 §3.10).

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use pve_cfs::{Cfs, Datacenter};
use pve_schema::Context;

use super::Visit;
use super::template::Variables;
use crate::files::Files;

/// Who decides nothing gets English.
const LANGUAGE: &str = "en";
/// A theme that follows the system's.
const THEME: &str = "auto";
/// Where the texts of languages are, below `/usr/share`.
const LANGUAGES: &str = "pve-i18n";
/// The library whose version pages put into their links.
const WIDGETS: &str = "javascript/proxmox-widget-toolkit/proxmoxlib.js";

/// The variables of a page for a visit; `session` is user and token of who is logged in.
pub(super) fn of(context: &Context, files: &Files, visit: &Visit, session: Option<(String, String)>) -> Variables {
    let options = datacenter(context);
    let option = |key: &str| options.text(key).map(str::to_owned);
    let language = cookie(&visit.cookies, "PVELangCookie")
        .filter(|language| is_language(language))
        .or_else(|| option("language").filter(|language| is_language(language)))
        .unwrap_or_else(|| LANGUAGE.to_owned());
    let language_file = files.modified(&format!("{LANGUAGES}/pve-lang-{language}.js")).is_some();
    let theme = cookie(&visit.cookies, "PVEThemeCookie").filter(|theme| is_theme(theme));
    let (username, token) = session.unwrap_or_else(|| (String::new(), "null".to_owned()));
    let parameter = |name: &str| visit.parameter(name).unwrap_or_default().to_owned();
    let is_debug = visit.is_true("debug") || log::max_level() >= log::LevelFilter::Debug;
    let mtime = |directory: &str| {
        let since = files.modified(directory)?.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_secs().to_string())
    };
    let mtime = |directory: &str| mtime(directory).unwrap_or_default();
    Variables::from([
        ("lang", language),
        ("langfile", flag(language_file)),
        ("theme", theme.unwrap_or_else(|| THEME.to_owned())),
        ("username", username),
        ("token", token),
        ("console", parameter("console")),
        ("nodename", context.site.node.to_string()),
        ("arch", architecture(std::env::consts::ARCH).to_owned()),
        ("debug", flag(is_debug)),
        ("version", pve_contract::RELEASE.to_owned()),
        ("wtversion", widgets_version(files).unwrap_or_default()),
        ("consenttext", option("consent-text").unwrap_or_default()),
        ("i18n_js_mtime", mtime(LANGUAGES)),
        ("i18n_yew_mobile_mtime", mtime("pve-yew-mobile-i18n")),
        ("yew_mobile_mtime", mtime("pve-yew-mobile-gui")),
        ("yew_mobile_base_path", "/yew-mobile".to_owned()),
    ])
}

fn flag(is_set: bool) -> String {
    if is_set { "1" } else { "" }.to_owned()
}

/// The options of the datacenter; a file that cannot be read has none.
fn datacenter(context: &Context) -> Arc<Datacenter> {
    Datacenter::read(&Cfs::new(context)).unwrap_or_else(|error| {
        log::warn!("{error}");
        Arc::default()
    })
}

/// A cookie's value.
fn cookie(cookies: &str, name: &str) -> Option<String> {
    let mut values = cookies.split([';', ',']).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = values.find(|(key, _)| *key == name)?;
    Some(value.to_owned())
}

/// `de`, `pt_BR`.
fn is_language(text: &str) -> bool {
    let (language, country) = match text.split_once('_') {
        Some((language, country)) => (language, Some(country)),
        None => (text, None),
    };
    let is_code =
        |text: &str, is_letter: fn(&u8) -> bool| (2..=3).contains(&text.len()) && text.as_bytes().iter().all(is_letter);
    is_code(language, u8::is_ascii_lowercase) && country.is_none_or(|country| is_code(country, u8::is_ascii_uppercase))
}

/// `proxmox-dark`: up to six words of up to ten letters.
fn is_theme(text: &str) -> bool {
    let is_word = |word: &str| (1..=10).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase());
    text.split('-').count() <= 6 && text.split('-').all(is_word)
}

/// What Debian calls a processor.
fn architecture(processor: &str) -> &str {
    match processor {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The version of the widgets: their file begins with it, as a comment.
fn widgets_version(files: &Files) -> Option<String> {
    let start = files.first_bytes(WIDGETS, 256)?;
    let line = start.lines().next()?.strip_prefix("// ")?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_choose_among_known_shapes() {
        let cookies = "PVEAuthCookie=x; PVELangCookie=pt_BR; PVEThemeCookie=proxmox-dark";
        assert_eq!(cookie(cookies, "PVELangCookie").as_deref(), Some("pt_BR"));
        assert_eq!(cookie("XPVELangCookie=de", "PVELangCookie"), None);
        for (text, expected) in [
            ("de", true),
            ("nds", true),
            ("pt_BR", true),
            ("d", false),
            ("german", false),
            ("pt_br", false),
            ("../de", false),
            ("de'", false),
            ("", false),
        ] {
            assert_eq!(is_language(text), expected, "{text}");
        }
        for (text, expected) in [
            ("crisp", true),
            ("proxmox-dark", true),
            ("a-b-c-d-e-f", true),
            ("a-b-c-d-e-f-g", false),
            ("averylongword", false),
            ("dark-", false),
            ("Dark", false),
            ("", false),
        ] {
            assert_eq!(is_theme(text), expected, "{text}");
        }
    }
}
