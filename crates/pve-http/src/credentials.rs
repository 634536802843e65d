//! Ticket and token out of the headers (reference 01 §3.6).

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use percent_encoding::percent_decode_str;
use pve_rest::Credentials;

/// The key of a login ticket, in either header.
const TICKET: &str = "PVEAuthCookie";
/// The key of an API token.
const TOKEN: &str = "PVEAPIToken";

/// What a request presents. A ticket in the cookie comes before one in `Authorization`, and both before a token.
pub(crate) fn of(headers: &HeaderMap) -> Credentials {
    let cookie = joined(headers, &COOKIE);
    let authorization = joined(headers, &AUTHORIZATION);
    let ticket = value_of(&cookie, TICKET).or_else(|| value_of(&authorization, TICKET));
    let token = value_of(&authorization, TOKEN);
    Credentials { ticket, token }
}

/// All values of a header, as text, joined with `, `.
pub(crate) fn joined(headers: &HeaderMap, name: &http::HeaderName) -> String {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    values.join(", ")
}

/// The value of a key: the key stands at the start or behind white space and is followed by `=` or one blank; the value
/// runs to the next `;` or the end, and is percent-decoded.
fn value_of(header: &str, key: &str) -> Option<String> {
    let (value, _) = header.match_indices(key).find_map(|(at, _)| {
        let stands_alone = header.get(..at)?.chars().next_back().is_none_or(char::is_whitespace);
        let value = header.get(at + key.len()..)?.strip_prefix(['=', ' '])?;
        stands_alone.then_some((value, at))
    })?;
    let value = value.split(';').next().unwrap_or_default();
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn credentials(headers: &[(HeaderName, &str)]) -> (Option<String>, Option<String>) {
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect();
        let found = of(&map);
        (found.ticket, found.token)
    }

    #[test]
    fn tokens_are_found_by_vectors_42_to_44() {
        for (header, token) in [
            ("PVEAPIToken=root@pam!x=uu-id", Some("root@pam!x=uu-id")),
            ("PVEAPIToken root%40pam%21x%3Duu-id", Some("root@pam!x=uu-id")),
            ("Bearer PVEAPIToken=root@pam!x=uu-id", Some("root@pam!x=uu-id")),
            ("pveapitoken=a", None),
            ("PVEAPIToken:a", None),
            ("PVEAPITokenX=a", None),
        ] {
            assert_eq!(
                credentials(&[(AUTHORIZATION, header)]),
                (None, token.map(String::from)),
                "{header}"
            );
        }
    }

    #[test]
    fn tickets_are_found_by_vectors_45_to_47() {
        for (header, ticket) in [
            ("a=b; PVEAuthCookie=x; c", Some("x")),
            ("a=b;PVEAuthCookie=x", None),
            ("XPVEAuthCookie=x", None),
            ("PVEAuthCookie=PVE%3Aroot%40pam%3A1", Some("PVE:root@pam:1")),
        ] {
            assert_eq!(credentials(&[(COOKIE, header)]).0, ticket.map(String::from), "{header}");
        }
        let both = [(COOKIE, "PVEAuthCookie=c"), (AUTHORIZATION, "PVEAuthCookie=a")];
        assert_eq!(credentials(&both).0, Some("c".into()));
        assert_eq!(
            credentials(&[(AUTHORIZATION, "PVEAuthCookie=PVE:root@pam:1")]).0,
            Some("PVE:root@pam:1".into())
        );
    }
}
