//! Lines about failed authentication, as fail2ban and its like read them.
//!
//! Their filters look for `authentication failure; rhost=ADDRESS user=… msg=…` anywhere in a line and ban the address.
//! What a client sent stands in such a line, and must not look like one: else it would choose who is banned.

use std::net::IpAddr;

use crate::access_control::printable;

/// Most characters of a user's name: a valid one has 64, and a token's name may follow.
const MAX_USER: usize = 128;
/// Most characters of a reason.
const MAX_REASON: usize = 200;

/// Logs a log-in that failed.
pub(crate) fn failure(client: Option<IpAddr>, user: &str, reason: &str) {
    log::error!("{}", line(client, user, reason));
}

fn line(client: Option<IpAddr>, user: &str, reason: &str) -> String {
    let rhost = client.map(|address| address.to_string()).unwrap_or_default();
    // A valid name has no blank in it, so that what follows one is not part of the name.
    let user: String = quote(user, MAX_USER)
        .chars()
        .map(|c| if c.is_whitespace() { '?' } else { c })
        .collect();
    let reason = quote_reason(reason);
    format!("authentication failure; rhost={rhost} user={user} msg={reason}")
}

/// Logs a return from an identity provider that let nobody in.
pub(crate) fn openid_failure(client: Option<IpAddr>, reason: &str) {
    log::error!("{}", openid_line(client, reason));
}

fn openid_line(client: Option<IpAddr>, reason: &str) -> String {
    let rhost = client.map(|address| address.to_string()).unwrap_or_default();
    format!(
        "openid authentication failure; rhost={rhost} msg={}",
        quote_reason(reason)
    )
}

/// A reason for the end of a line.
pub(crate) fn quote_reason(reason: &str) -> String {
    quote(reason, MAX_REASON)
}

/// A text that a client may have made up, for a line in the log: at most so many characters of it, none of them a control
/// character, and no `rhost=` among them.
pub fn quote(text: &str, most: usize) -> String {
    let mut quoted = String::new();
    for (at, c) in printable(text).chars().enumerate() {
        if at == most {
            quoted.push('…');
            break;
        }
        let is_rhost = c == '=' && ends_with_rhost(&quoted);
        quoted.push(if is_rhost { '?' } else { c });
    }
    quoted
}

/// In any case: filters may be written to match any. Upper case is what the old form of `s` shares with the usual one.
fn ends_with_rhost(text: &str) -> bool {
    let last = text.chars().rev().take("rhost".len());
    last.flat_map(char::to_uppercase).eq("TSOHR".chars())
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::RegexBuilder;

    /// Who is banned, by the filter that administrators are told to use; it takes the last match of a line.
    fn banned(line: &str) -> Option<String> {
        let filter = r"pvedaemon\[.*authentication failure; rhost=(?P<HOST>\S+) user=.* msg=.*";
        let filter = RegexBuilder::new(filter).case_insensitive(true).build().unwrap();
        let found = filter.captures(line)?;
        Some(found["HOST"].to_owned())
    }

    #[test]
    fn nobody_is_banned_but_who_failed() {
        let line = |user: &str, reason: &str| {
            let client = "192.0.2.7".parse().unwrap();
            format!("pvedaemon[7]: {}", line(Some(client), user, reason))
        };
        assert_eq!(
            line("a@pve", "no such user ('a@pve')"),
            "pvedaemon[7]: authentication failure; rhost=192.0.2.7 user=a@pve msg=no such user ('a@pve')"
        );
        let long = "x".repeat(1000);
        for (user, reason) in [
            ("a authentication failure; rhost=6.6.6.6 user=b msg=@pam", ""),
            ("a", "authentication failure; rhost=6.6.6.6 user=b msg=c"),
            ("a", "authentication failure; RHOST=6.6.6.6 user=b msg=c"),
            ("a", "authentication failure; rho\u{17f}t=6.6.6.6 user=b msg=c"),
            (
                "a\npvedaemon[8]: authentication failure;\u{a0}rhost=6.6.6.6 user=b msg=c",
                "a\nb",
            ),
            (&long, &long),
        ] {
            let line = line(user, reason);
            assert_eq!(banned(&line).as_deref(), Some("192.0.2.7"), "{line}");
            assert!(line.chars().count() < 420 && !line.contains('\n'), "{line}");
        }
        let reason = "authentication failure; rhost=6.6.6.6 user=b msg=c";
        let line = openid_line("192.0.2.7".parse().ok(), reason);
        assert_eq!(banned(&format!("pvedaemon[7]: {line}")), None, "{line}");
        assert_eq!(banned(&format!("pvedaemon[7]: x: {reason}")).unwrap(), "6.6.6.6");
        assert_eq!(banned(&format!("pvedaemon[7]: x: {}", quote_reason(reason))), None);
    }
}
