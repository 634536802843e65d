//! The page at `/`, for whoever opens the address in a browser (reference 01 §3.10): the one of the web interface that is
//! installed, or one of our own.
//!
//! | module | holds |
//! |---|---|
//! | here | which page a request is for |
//! | `variables` | what a page is told |
//! | `template` | how that is filled in |
//! | `built_in` | the page where no interface is installed |
//!
//! Not here: the files that these pages load ([`crate::files`]). Nobody has to be logged in: a page is told of a user only
//! what his own cookie proves.

mod built_in;
mod template;
mod variables;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{COOKIE, USER_AGENT};
use http::{HeaderMap, StatusCode};
use pve_access::Credentials;
use pve_rest::{Pipeline, RequestHead};
use pve_schema::decode;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use crate::answer::{Answer, Payload};
use crate::files::Files;
use crate::head;
use crate::html;

/// A page: the directory of its template below `/usr/share`, and what is missing where it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    directory: &'static str,
    name: &'static str,
}

const NO_VNC: Page = Page {
    directory: "novnc-pve",
    name: "noVNC",
};
const XTERM_JS: Page = Page {
    directory: "pve-xtermjs",
    name: "xterm.js",
};
const MOBILE: Page = Page {
    directory: "pve-yew-mobile-gui",
    name: "the web interface for phones",
};
const DESKTOP: Page = Page {
    directory: "pve-manager",
    name: "the web interface",
};

/// What the page depends on.
pub(crate) struct Visit {
    query: Map<String, Value>,
    cookies: String,
    user_agent: String,
    host: Option<String>,
}

impl Visit {
    /// What a request says.
    pub(crate) fn new(query: &str, headers: &HeaderMap) -> Self {
        let text = |name| head::joined(headers, name);
        Self {
            query: decode::form(query),
            cookies: text(&COOKIE),
            user_agent: text(&USER_AGENT),
            host: head::host(headers).map(str::to_owned),
        }
    }

    /// A parameter of the query; the last one if it is there more than once.
    fn parameter(&self, name: &str) -> Option<&str> {
        match self.query.get(name)? {
            Value::Array(all) => all.last()?.as_str(),
            one => one.as_str(),
        }
    }

    /// Anything is true but nothing and `0`.
    fn is_true(&self, name: &str) -> bool {
        self.parameter(name)
            .is_some_and(|value| !value.is_empty() && value != "0")
    }

    /// The page that this is for; where there is none, the next.
    fn pages(&self) -> &'static [Page] {
        let is_console = self.query.contains_key("console");
        if is_console && self.is_true("novnc") {
            &[NO_VNC]
        } else if is_console && self.is_true("xtermjs") {
            &[XTERM_JS]
        } else if self.is_true("mobile") || (is_phone(&self.user_agent) && self.parameter("mobile").is_none()) {
            &[MOBILE, DESKTOP]
        } else {
            &[DESKTOP]
        }
    }
}

/// Whether a browser says that it runs on a phone.
fn is_phone(user_agent: &str) -> bool {
    let has = |word: &str| user_agent.contains(word);
    let has_word = |word: &str| {
        user_agent
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .any(|found| found == word)
    };
    has("iPhone")
        || has("iPod")
        || has("Windows Phone")
        || (has_word("Mobile") && (has("BlackBerry") || has("BB") || (has("Android") && !has("Silk"))))
}

/// Answers with the page. `head` is the request's, for its cookie; other credentials do not count here.
pub(crate) async fn answer(pipeline: &Pipeline, files: Option<&Arc<Files>>, head: RequestHead, visit: Visit) -> Answer {
    let found = match files {
        Some(files) => installed(files, visit.pages()).await,
        None => None,
    };
    let Some((files, text)) = found else {
        let missing = visit.pages().first().copied().unwrap_or(DESKTOP);
        return built_in::page(visit.host.as_deref(), missing.name, missing.directory);
    };
    let session = session(pipeline, head, &visit.cookies).await;
    let context = pipeline.context.clone();
    let rendered = spawn_blocking(move || {
        let variables = variables::of(&context, &files, &visit, session);
        template::render(&text, &variables)
    });
    match rendered.await {
        Ok(Ok(page)) => Answer::new(StatusCode::OK, "")
            .with_type("text/html; charset=utf-8")
            .with_body(Payload::Whole(Bytes::from(page))),
        Ok(Err(error)) => failed(&format!("unable to show the page's template - {error}\n")),
        Err(_) => failed("internal error: the request's worker died\n"),
    }
}

fn failed(text: &str) -> Answer {
    log::error!("{}", text.trim_end());
    Answer::bare(500, text).with_body(Payload::Whole(Bytes::copy_from_slice(text.as_bytes())))
}

/// The first of the pages that is installed.
async fn installed(files: &Arc<Files>, pages: &'static [Page]) -> Option<(Arc<Files>, String)> {
    let files = Arc::clone(files);
    let read = spawn_blocking(move || {
        let text = pages.iter().find_map(|page| files.template(page.directory))?;
        Some((files, text))
    });
    read.await.ok().flatten()
}

/// Who is logged in by the cookie, and a token for changes.
async fn session(pipeline: &Pipeline, mut head: RequestHead, cookies: &str) -> Option<(String, String)> {
    head.credentials = Credentials::from_headers(Some(cookies), None);
    if !matches!(head.credentials, Credentials::Ticket(_)) {
        return None;
    }
    let caller = pipeline.identify(&head).await.ok()?;
    let token = html::token(pipeline, &caller)?;
    Some((caller.to_string(), token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(query: &str, user_agent: &str) -> Vec<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, user_agent.parse().unwrap());
        let visit = Visit::new(query, &headers);
        visit.pages().iter().map(|page| page.directory).collect()
    }

    /// Reference 01 §3.10.
    #[test]
    fn the_first_condition_that_holds_chooses_the_page() {
        let phone = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36";
        let desktop = "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0";
        for (query, user_agent, expected) in [
            ("", desktop, "pve-manager"),
            ("console=kvm&novnc=1", desktop, "novnc-pve"),
            ("console=kvm&novnc=0&xtermjs=1", desktop, "pve-xtermjs"),
            ("console=kvm&novnc=&xtermjs=yes", phone, "pve-xtermjs"),
            ("novnc=1", desktop, "pve-manager"),
            ("console=kvm", desktop, "pve-manager"),
            ("mobile=1", desktop, "pve-yew-mobile-gui pve-manager"),
            ("", phone, "pve-yew-mobile-gui pve-manager"),
            ("mobile=0", phone, "pve-manager"),
        ] {
            assert_eq!(pages(query, user_agent).join(" "), expected, "{query} {user_agent}");
        }
    }

    #[test]
    fn phones_are_told_by_their_browsers() {
        for (user_agent, expected) in [
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)", true),
            ("Mozilla/5.0 (Windows Phone 10.0)", true),
            ("Mozilla/5.0 (BB10; Touch) Version/10.0 Mobile Safari", true),
            (
                "Mozilla/5.0 (Android 13; Mobile; rv:109.0) Gecko/114.0 Firefox/114.0",
                true,
            ),
            ("Mozilla/5.0 (Android 13; Tablet; rv:109.0)", false),
            ("Mozilla/5.0 (Linux; Android 5.1; KFAUWI) Silk/108 Mobile Safari", false),
            ("Mozilla/5.0 (iPad; CPU OS 16_0) Mobile/15E148", false),
            ("", false),
        ] {
            assert_eq!(is_phone(user_agent), expected, "{user_agent}");
        }
    }
}
