//! Records that nodes of other versions tell (reference 04 §10, §13.1).

use pve_schema::Failure;

use crate::subject::Subject;

/// A record's key that says of nothing known.
#[derive(Debug, thiserror::Error)]
#[error("RRD update error: unknown/wrong key {0}")]
pub struct UnknownKey(String);

impl Failure for UnknownKey {}

/// What a record is about, and the sample for its file: a record of a release before 9.0 knows fewer values, a newer
/// one more. `key`: without the `rrd/` before it, `pve2-node/pve1`.
///
/// # Errors
/// [`UnknownKey`].
pub fn sample(key: &str, value: &str) -> Result<(Subject, String), UnknownKey> {
    let subject = subject(key).ok_or_else(|| UnknownKey(key.to_owned()))?;
    let wanted = 1 + subject.sources().len();
    let known = value.split(':').skip(subject.fields_before_time());
    let fields: Vec<&str> = known.chain(std::iter::repeat("U")).take(wanted).collect();
    Ok((subject, fields.join(":")))
}

fn subject(key: &str) -> Option<Subject> {
    let (kind, name) = key.split_once('/')?;
    let storage = |name: &str| {
        let (node, storage) = name.split_once('/')?;
        Some(Subject::Storage(node.parse().ok()?, storage.parse().ok()?))
    };
    match kind {
        "pve2-node" => return Some(Subject::Node(name.parse().ok()?)),
        "pve2.3-vm" => return Some(Subject::Guest(name.parse().ok()?)),
        "pve2-storage" => return storage(name),
        _ => {}
    }
    let (kind, version) = kind.strip_prefix("pve-")?.split_once('-')?;
    if !version.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match kind {
        "node" => Some(Subject::Node(name.parse().ok()?)),
        "vm" => Some(Subject::Guest(name.parse().ok()?)),
        "storage" => storage(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §20, vector 41.
    #[test]
    fn records_before_9_are_filled_up() {
        let fields: Vec<String> = (0..15).map(|n| n.to_string()).collect();
        let (subject, text) = sample("pve2-node/n1", &fields.join(":")).unwrap();
        assert_eq!(subject.to_string(), "pve-node-9.0/n1");
        assert_eq!(text, format!("{}:U:U:U:U:U:U:U", fields[2..].join(":")));
        let (subject, text) = sample("pve2.3-vm/100", &fields.join(":")).unwrap();
        assert_eq!(subject.to_string(), "pve-vm-9.0/100");
        assert_eq!(text, format!("{}:U:U:U:U:U:U:U", fields[4..].join(":")));
        let (subject, text) = sample("pve2-storage/n1/local", "5:10:7").unwrap();
        assert_eq!(
            (subject.to_string().as_str(), text.as_str()),
            ("pve-storage-9.0/n1/local", "5:10:7")
        );
    }

    #[test]
    fn records_of_newer_releases_are_cut() {
        let fields: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let (subject, text) = sample("pve-vm-12.1/100", &fields.join(":")).unwrap();
        assert_eq!(subject.to_string(), "pve-vm-9.0/100");
        assert_eq!(text, fields[4..22].join(":"));
        let (_, text) = sample("pve-node-9.0/n1", &fields.join(":")).unwrap();
        assert_eq!(text, fields[2..22].join(":"));
    }

    #[test]
    fn other_keys_are_refused() {
        for key in [
            "",
            "pve-node-9.0",
            "pve-node-9.0/../x",
            "pve2-vm/100",
            "pve-pool-9.0/a",
            "pve-vm-9.0/0100",
            "pve-vm-x/100",
        ] {
            let error = sample(key, "1:2").unwrap_err().to_string();
            assert_eq!(error, format!("RRD update error: unknown/wrong key {key}"));
        }
    }
}
