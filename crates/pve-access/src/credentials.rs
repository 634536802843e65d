//! What a request brings to prove who it is from (reference 01 §3.6).

use pve_schema::text;

/// What a request brings to prove who it is from.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// A log-in ticket.
    Ticket(String),
    /// The value of an API token header, `USER@REALM!TOKEN=SECRET`.
    Token(String),
}

/// Shows the kind alone: the value is a secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Ticket(_) => "Ticket(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

/// The name of the cookie that holds a ticket.
const COOKIE: &str = "PVEAuthCookie";
/// The word in front of an API token.
const TOKEN: &str = "PVEAPIToken";

impl Credentials {
    /// The header that brings them to another node, its name first; `None` if there are none.
    pub fn to_header(&self) -> Option<(&'static str, String)> {
        match self {
            Self::None => None,
            Self::Ticket(ticket) => Some(("Cookie", format!("{COOKIE}={}", text::encode_component(ticket)))),
            Self::Token(token) => Some(("Authorization", format!("{TOKEN}={token}"))),
        }
    }

    /// Finds them in the headers `Cookie` (several joined by `, `) and `Authorization`: a ticket goes before a token,
    /// even a stale one.
    pub fn from_headers(cookie: Option<&str>, authorization: Option<&str>) -> Self {
        let ticket = cookie
            .and_then(|header| value(header, COOKIE))
            .or_else(|| authorization.and_then(|header| value(header, COOKIE)));
        if let Some(ticket) = ticket {
            return Self::Ticket(ticket);
        }
        match authorization.and_then(|header| value(header, TOKEN)) {
            Some(token) => Self::Token(token),
            None => Self::None,
        }
    }
}

/// The value of a key that stands at the start or after white space and is followed by `=` or a blank: everything up to
/// the next `;`, percent-decoded. An empty value counts as none.
fn value(header: &str, key: &str) -> Option<String> {
    header.match_indices(key).find_map(|(start, _)| {
        let before = header.get(..start)?;
        let after = header.get(start + key.len()..)?;
        let is_free = before.chars().next_back().is_none_or(char::is_whitespace);
        let rest = after.strip_prefix(['=', ' ']).filter(|_| is_free)?;
        let text = rest.split(';').next().unwrap_or_default();
        (!text.is_empty()).then(|| text::decode(text))
    })
}

/// A ticket as a cookie, for the header `Set-Cookie` of the HTML formatter and for requests to other nodes.
pub fn cookie(ticket: &str) -> String {
    let encoded = text::encode_component(ticket);
    format!("{COOKIE}={encoded}; path=/; secure; SameSite=Lax;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 01 §6, vectors 42 to 48.
    #[test]
    fn credentials_are_found_in_headers() {
        let token = |text: &str| Credentials::Token(text.to_owned());
        let ticket = |text: &str| Credentials::Ticket(text.to_owned());
        let authorization = |header| Credentials::from_headers(None, Some(header));
        let cookie_header = |header| Credentials::from_headers(Some(header), None);
        assert_eq!(authorization("PVEAPIToken=root@pam!x=uu-id"), token("root@pam!x=uu-id"));
        assert_eq!(
            authorization("PVEAPIToken root%40pam%21x%3Duu-id"),
            token("root@pam!x=uu-id")
        );
        assert_eq!(authorization("Bearer PVEAPIToken=a@b!c=d"), token("a@b!c=d"));
        for none in ["pveapitoken=a", "PVEAPIToken:a", "PVEAPITokenX=a", "PVEAPIToken="] {
            assert_eq!(authorization(none), Credentials::None, "{none}");
        }
        assert_eq!(authorization("PVEAuthCookie=x"), ticket("x"));
        assert_eq!(cookie_header("a=b; PVEAuthCookie=x; c"), ticket("x"));
        assert_eq!(cookie_header("a=b;PVEAuthCookie=x"), Credentials::None);
        assert_eq!(
            cookie_header("PVEAuthCookie=PVE%3Aroot%40pam%3A1"),
            ticket("PVE:root@pam:1")
        );
        assert_eq!(
            Credentials::from_headers(Some("PVEAuthCookie=stale"), Some("PVEAPIToken=a@b!c=d")),
            ticket("stale")
        );
        assert_eq!(
            cookie("PVE:root@pam:65B0C0DE::aGVsbG8+/w=="),
            "PVEAuthCookie=PVE%3Aroot%40pam%3A65B0C0DE%3A%3AaGVsbG8%2B%2Fw%3D%3D; path=/; secure; SameSite=Lax;"
        );
    }
}
