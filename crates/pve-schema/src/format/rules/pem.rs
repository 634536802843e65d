//! PEM texts (RFC 7468): their shape, not what is in them.

use super::{Checked, when};
use crate::format::NamedFormat;

/// The labels of the blocks of a text; `None` if a block is broken or something else stands behind the first.
fn labels(text: &str) -> Option<Vec<&str>> {
    let mut labels = Vec::new();
    let mut open: Option<&str> = None;
    let mut body = String::new();
    for line in text.lines().map(str::trim_end) {
        let begin = line
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"));
        let end = line
            .strip_prefix("-----END ")
            .and_then(|rest| rest.strip_suffix("-----"));
        match (open, begin, end) {
            (None, Some(label), _) => open = Some(label),
            // Text before the first block explains it; behind one only blank lines may stand.
            (None, None, _) if labels.is_empty() || line.is_empty() => {}
            (Some(label), None, Some(closed)) if label == closed && is_base64(&body) => {
                labels.push(label);
                open = None;
                body.clear();
            }
            (Some(_), None, None) => body.push_str(line.trim()),
            _ => return None,
        }
    }
    open.is_none().then_some(labels)
}

/// Whether a text is padded base64, not empty.
fn is_base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    !data.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - data.len() <= 2
        && data
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// `pem-string`: one block with any label.
pub fn pem_string(format: &'static NamedFormat, value: &str) -> Checked {
    when(labels(value).is_some_and(|labels| labels.len() == 1), format, value)
}

/// `pem-certificate`: one certificate.
pub fn pem_certificate(format: &'static NamedFormat, value: &str) -> Checked {
    when(
        labels(value).is_some_and(|labels| labels == ["CERTIFICATE"]),
        format,
        value,
    )
}

/// `pem-certificate-chain`: one certificate or more.
pub fn pem_certificate_chain(format: &'static NamedFormat, value: &str) -> Checked {
    let fits = labels(value).is_some_and(|labels| !labels.is_empty() && labels.iter().all(|l| *l == "CERTIFICATE"));
    when(fits, format, value)
}
