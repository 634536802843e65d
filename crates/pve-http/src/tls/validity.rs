//! Whether certificates are good for clients: dates and names, for the verb `check`. The server shows them regardless, so
//! that a clock that is wrong keeps nobody out.

use pve_schema::Site;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::certificate::Pair;
use super::check::{Problem, Subject};

/// Days before the end from which `check` warns: time to order another. The node's own is made anew when 14 are left.
const SOON_DAYS: i64 = 30;
const DAY: i64 = 24 * 60 * 60;

/// What to do about a certificate that is no good for clients.
const RENEW_NODE: &str = "'pvecm updatecerts --force' makes a new one.";
const RENEW_OWN: &str = "Get a new one from who issued it, or remove it: then the node's own is used.";
const RENAME_OWN: &str = "Order it for the name in people's address bars, as subjectAltName.";
const CLOCK: &str = "Set the clock, or wait.";

/// Looks at a chain, leaf first.
pub(super) fn check(pair: &Pair, chain: &[CertificateDer<'_>], site: &Site, now: i64) -> Vec<Problem> {
    let path = &pair.certificate_path;
    let problem = |is_fatal, text: String, remedy| Problem {
        subject: Subject::File(path.clone()),
        is_fatal,
        text,
        remedy,
    };
    let renew = if pair.is_own() { RENEW_OWN } else { RENEW_NODE };
    let mut problems = Vec::new();
    for (place, der) in chain.iter().enumerate() {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            continue;
        };
        let whose = match place {
            0 => String::new(),
            _ => format!(" of the issuer '{}'", certificate.subject()),
        };
        let (from, to) = (
            certificate.validity().not_before.timestamp(),
            certificate.validity().not_after.timestamp(),
        );
        if now > to {
            let days = (now - to) / DAY;
            problems.push(problem(
                true,
                format!("the certificate{whose} expired {days} day(s) ago"),
                renew,
            ));
        } else if now < from {
            let days = (from - now) / DAY;
            let text = format!("the certificate{whose} is not valid yet: it will be in {days} day(s)");
            problems.push(problem(true, text, CLOCK));
        } else if to - now < SOON_DAYS * DAY {
            let days = (to - now) / DAY;
            problems.push(problem(
                false,
                format!("the certificate{whose} expires in {days} day(s)"),
                renew,
            ));
        }
        if place == 0
            && let Some((text, remedy)) = names(&certificate, pair.is_own(), site.node.as_str())
        {
            problems.push(problem(false, text, remedy));
        }
    }
    problems
}

/// What is wrong with the names of a leaf. The node's own certificate must name the node; which name people have for it
/// otherwise, nobody knows here.
fn names(certificate: &X509Certificate<'_>, is_own: bool, node: &str) -> Option<(String, &'static str)> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<&str> = extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            // Good for a client that goes by address; which ones is not looked at.
            GeneralName::IPAddress(_) => Some(""),
            _ => None,
        })
        .collect();
    if is_own {
        let text = "the certificate names no host in its subjectAltName: browsers refuse it".to_owned();
        return names.is_empty().then_some((text, RENAME_OWN));
    }
    let is_covered = names.iter().any(|name| {
        let short = name.split('.').next().unwrap_or_default();
        short.eq_ignore_ascii_case(node)
    });
    let text = format!("the certificate does not name the node '{node}' in its subjectAltName");
    (!is_covered).then_some((text, RENEW_NODE))
}

#[cfg(test)]
mod tests {
    use super::super::{TlsSettings, certificate, check};
    use super::*;

    /// The first second of 2026.
    const NEW_YEAR: i64 = 1_767_225_600;

    /// What is said on the n-th day of 2026 of a certificate that is good from the tenth to the hundredth.
    fn on_day(day: i64, name: &str, names: &[&str]) -> Vec<(bool, String)> {
        let directory = tempfile::tempdir().unwrap();
        let context = pve_testing::context(directory.path(), "node1");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut wanted = rcgen::CertificateParams::new(names).unwrap();
        wanted.not_before = rcgen::date_time_ymd(2026, 1, 10);
        wanted.not_after = rcgen::date_time_ymd(2026, 4, 10);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = wanted.self_signed(&key).unwrap();
        let node = directory.path().join("etc/pve/nodes/node1");
        std::fs::create_dir_all(&node).unwrap();
        std::fs::write(node.join(format!("{name}.pem")), made.pem()).unwrap();
        std::fs::write(node.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        let clock = pve_schema::clock::ManualClock::at(NEW_YEAR + (day - 1) * DAY + 1);
        let settings = TlsSettings::new(context.with_clock(std::sync::Arc::new(clock)));
        assert!(certificate::choose(&settings).is_ok());
        let problems = check::check(&settings).into_iter();
        problems.map(|problem| (problem.is_fatal, problem.text)).collect()
    }

    #[test]
    fn the_dates_of_a_certificate_are_looked_at() {
        for (day, expected) in [
            (
                9,
                Some((true, "the certificate is not valid yet: it will be in 0 day(s)")),
            ),
            (10, None),
            (69, None),
            (70, Some((false, "the certificate expires in 29 day(s)"))),
            (99, Some((false, "the certificate expires in 0 day(s)"))),
            (100, Some((true, "the certificate expired 0 day(s) ago"))),
            (130, Some((true, "the certificate expired 30 day(s) ago"))),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(fatal, text)| (fatal, text.to_owned()))
                .collect();
            assert_eq!(on_day(day, "pve-ssl", &["node1"]), expected, "{day}");
        }
    }

    #[test]
    fn the_node_is_named_by_its_certificate() {
        let text = "the certificate does not name the node 'node1' in its subjectAltName";
        for (names, is_good) in [
            (&["localhost", "node1"][..], true),
            (&["Node1.example"], true),
            (&["node10"], false),
            (&["192.0.2.1"], false),
            (&[], false),
        ] {
            let expected: Vec<_> = (!is_good).then(|| (false, text.to_owned())).into_iter().collect();
            assert_eq!(on_day(20, "pve-ssl", names), expected, "{names:?}");
        }
    }

    #[test]
    fn the_web_interfaces_own_certificate_names_somebody() {
        assert_eq!(on_day(20, "pveproxy-ssl", &["web.example"]), []);
        assert_eq!(on_day(20, "pveproxy-ssl", &["192.0.2.1"]), []);
        let text = "the certificate names no host in its subjectAltName: browsers refuse it";
        assert_eq!(on_day(20, "pveproxy-ssl", &[]), [(false, text.to_owned())]);
    }
}
