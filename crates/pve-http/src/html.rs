//! `/api2/html`: the API as pages for people to look around in, with a form to log in (reference 01 §3.9).
//!
//! The pages work as they are; with the style sheets below `/bootstrap5/`, where they are installed, they look better.
//! Whatever comes from a call is escaped.

use std::fmt::Write as _;

use bytes::Bytes;
use http::StatusCode;
use http::header::SET_COOKIE;
use pve_access::{AccessControl, Credentials, credentials};
use pve_contract::{Verb, route};
use pve_rest::{Admitted, ApiError, Pipeline, Role};
use pve_schema::ids::AuthId;
use pve_schema::text::encode_component;
use serde_json::{Map, Value, json};

use crate::answer::{Answer, Payload};
use crate::format::escape;

/// Where the pages begin.
const ROOT: &str = "/api2/html";
/// The call that logs in, and its page.
const LOGIN: &str = "/access/ticket";

/// Why the form of another site logs nobody in: its visitor would go on under a name that is not his.
pub(crate) const FOREIGN_LOGIN: &str = "the login form was sent by a page of another site\n";

/// A page about a call.
pub(crate) struct Page {
    title: &'static str,
    verb: Verb,
    /// The path of the call, without a slash at the end.
    path: String,
    /// The property of a row that names what lies below it.
    child: Option<&'static str>,
    /// The token that scripts of the page send along with changes.
    token: Option<String>,
}

impl Page {
    /// A page about a request.
    pub(crate) fn new(pipeline: &Pipeline, admitted: &Admitted) -> Self {
        let head = &admitted.head;
        let components = head.path.split('/').filter(|component| !component.is_empty());
        let path: String = components.map(|component| format!("/{component}")).collect();
        let method = route(head.verb, &path).map(|route| route.method);
        let caller = admitted.caller.as_ref();
        let by_ticket = matches!(head.credentials, Credentials::Ticket(_));
        let token = caller.filter(|_| by_ticket).and_then(|caller| token(pipeline, caller));
        Self {
            title: match pipeline.role {
                Role::Web => "Proxmox VE API",
                Role::Root => "API Inspector",
            },
            verb: head.verb,
            child: method.ok().and_then(|method| method.returns.child_key()),
            path,
            token,
        }
    }

    /// Whether the request is the form that logs in.
    pub(crate) fn is_login(&self) -> bool {
        self.path == LOGIN && self.verb == Verb::Post
    }

    /// What a call answered.
    pub(crate) fn reply(&self, data: &Value) -> Answer {
        if self.path == LOGIN {
            return match data.get("ticket").and_then(Value::as_str) {
                Some(ticket) if self.verb == Verb::Post => {
                    // The browser is to fetch that page now, and to send the form again to nobody.
                    Answer::redirect(StatusCode::SEE_OTHER, "See Other", ROOT)
                        .with_header(SET_COOKIE, &credentials::cookie(ticket))
                }
                _ => self.page(StatusCode::OK, "", LOGIN_FORM),
            };
        }
        let links = data
            .as_array()
            .map(|rows| self.links(rows))
            .filter(|links| !links.is_empty());
        let content = links.unwrap_or_else(|| pretty(&json!({ "data": data })));
        self.page(StatusCode::OK, "", &content)
    }

    /// A refused or failed call.
    pub(crate) fn error(&self, error: &ApiError) -> Answer {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = match error.message.as_str() {
            "" => status.canonical_reason().unwrap_or("error"),
            message => message,
        };
        let mut content = format!(
            "<div class=\"alert alert-danger\" role=\"alert\"><b>Error {}:</b> {}</div>\n",
            status.as_u16(),
            escape(message.trim_end())
        );
        if !error.errors.is_empty() {
            content += &pretty(&json!({ "errors": error.errors }));
        }
        if self.path == LOGIN {
            content += LOGIN_FORM;
        }
        self.page(status, message, &content)
    }

    fn page(&self, status: StatusCode, message: &str, content: &str) -> Answer {
        let title = self.title;
        let script = self.token.as_ref().map(|token| {
            // Hexadecimal digits, a colon and base64: nothing that could end the text or the element.
            format!("<script>const CSRFPreventionToken = \"{}\";</script>\n", escape(token))
        });
        let script = script.unwrap_or_default();
        let trail = self.trail();
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <link rel=\"stylesheet\" href=\"/bootstrap5/css/bootstrap.min.css\">\n{script}</head>\n\
             <body class=\"container\">\n<nav class=\"navbar\"><a class=\"navbar-brand\" href=\"{ROOT}\">{title}</a>\n\
             <a href=\"{ROOT}{LOGIN}\">Log in as somebody else</a></nav>\n{trail}{content}</body>\n</html>\n"
        );
        Answer::new(status, message)
            .with_type("text/html;charset=UTF-8")
            .with_body(Payload::Whole(Bytes::from(page)))
    }

    /// The way from the root to this path.
    fn trail(&self) -> String {
        let mut trail = String::from("<ol class=\"breadcrumb\">\n");
        let mut target = ROOT.to_owned();
        for component in self.path.split('/').skip(1) {
            target = format!("{target}/{}", encode_component(component));
            let name = escape(component);
            let _ = writeln!(
                trail,
                "<li class=\"breadcrumb-item\"><a href=\"{target}\">{name}</a></li>"
            );
        }
        trail + "</ol>\n"
    }

    /// A list whose rows lead to what is below.
    fn links(&self, rows: &[Value]) -> String {
        let mut named: Vec<(String, &Value)> = rows
            .iter()
            .filter_map(|row| Some((self.leads_to(row.as_object()?)?, row)))
            .collect();
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        let items = named.into_iter().map(|(name, row)| {
            let target = format!("{ROOT}{}/{}", encode_path(&self.path), encode_component(&name));
            let name = escape(&name);
            format!(
                "<div class=\"list-group-item\"><h5><a href=\"{target}\">{name}</a></h5>\n{}</div>\n",
                pretty(row)
            )
        });
        items.collect()
    }

    /// The component that a row stands for.
    fn leads_to(&self, row: &Map<String, Value>) -> Option<String> {
        match row.get(self.child?)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// The form: it is sent to its own page.
const LOGIN_FORM: &str = "<form method=\"post\" action=\"/api2/html/access/ticket\">\n\
    <p><label>User <input name=\"username\" placeholder=\"root@pam\" autocomplete=\"username\" required></label></p>\n\
    <p><label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" required></label></p>\n\
    <p><button type=\"submit\">Log in</button></p>\n</form>\n";

/// A token for the user who looks at the page.
pub(crate) fn token(pipeline: &Pipeline, caller: &AuthId) -> Option<String> {
    let AuthId::User(user) = caller else { return None };
    AccessControl::load(&pipeline.context).ok()?.csrf_token(user).ok()
}

/// A path for a link.
fn encode_path(path: &str) -> String {
    let components = path.split('/').skip(1);
    components
        .map(|component| format!("/{}", encode_component(component)))
        .collect()
}

/// A value as text that people can read, keys in order.
fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(&value).unwrap_or_default();
    format!("<pre>{}</pre>\n", escape(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(verb: Verb, path: &str) -> Page {
        Page {
            title: "Proxmox VE API",
            verb,
            path: path.to_owned(),
            child: route(verb, path).unwrap().method.returns.child_key(),
            token: Some("65B0C0DE:abc".to_owned()),
        }
    }

    fn text(answer: &Answer) -> String {
        match &answer.body {
            Payload::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            _ => String::new(),
        }
    }

    #[test]
    fn rows_lead_to_what_is_below_them() {
        let nodes = page(Verb::Get, "/nodes");
        let html = text(&nodes.reply(&json!([{"node": "n2", "x": "<b>"}, {"node": "n1"}])));
        let at = |part: &str| html.find(part).unwrap_or_else(|| panic!("{part} in {html}"));
        assert!(at("<a href=\"/api2/html/nodes/n1\">n1</a>") < at("<a href=\"/api2/html/nodes/n2\">n2</a>"));
        assert!(html.contains("&lt;b&gt;") && !html.contains("<b>"));
        let index = page(Verb::Get, "/cluster");
        let html = text(&index.reply(&json!([{"name": "tasks"}, {"other": "nothing below"}])));
        assert!(html.contains("<a href=\"/api2/html/cluster/tasks\">") && !html.contains("nothing%20below"));
        let root = page(Verb::Get, "");
        let html = text(&root.reply(&json!([{"subdir": "access"}])));
        assert!(html.contains("<a href=\"/api2/html/access\">"), "{html}");
    }

    #[test]
    fn other_answers_are_shown_and_nothing_in_them_is_markup() {
        let version = page(Verb::Get, "/version");
        let answer = version.reply(&json!({"version": "9.2", "a": "</pre><script>"}));
        let html = text(&answer);
        assert!(
            html.contains("&quot;a&quot;: &quot;&lt;/pre&gt;&lt;script&gt;&quot;"),
            "{html}"
        );
        assert_eq!(html.matches("<script>").count(), 1, "its own");
        let answer = version.error(&ApiError::plain("<i>no</i>"));
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text(&answer).contains("<b>Error 500:</b> &lt;i&gt;no&lt;/i&gt;"));
    }

    #[test]
    fn a_login_sets_the_cookie_and_leads_to_the_root() {
        let form = page(Verb::Get, LOGIN).reply(&Value::Null);
        assert!(text(&form).contains("<form method=\"post\""));
        let done = page(Verb::Post, LOGIN).reply(&json!({"ticket": "PVE:root@pam:65B0C0DE::aGVsbG8+/w=="}));
        assert_eq!(
            (done.status, done.message.as_str()),
            (StatusCode::SEE_OTHER, "See Other")
        );
        assert_eq!(done.headers["location"], "/api2/html");
        assert_eq!(
            done.headers[SET_COOKIE],
            "PVEAuthCookie=PVE%3Aroot%40pam%3A65B0C0DE%3A%3AaGVsbG8%2B%2Fw%3D%3D; path=/; secure; SameSite=Lax;"
        );
        let refused = page(Verb::Post, LOGIN).error(&ApiError::status(401, "authentication failure\n"));
        assert!(text(&refused).contains("Error 401:</b> authentication failure</div>\n<form"));
    }
}
