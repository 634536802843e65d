//! Values of options: from a file or a request to the text that is kept (reference 08 §1.2, §2.3).

use std::collections::BTreeSet;

use pve_contract::{id, method};
use pve_schema::check;
use pve_schema::ids::NodeName;
use pve_schema::list;
use pve_schema::schema::{Kind, Schema};

use super::retention::Retention;
use crate::kind::{Content, ContentSet, ImageFormat, StorageKind, content_list};

/// What a value is checked against: what `POST /storage` declares.
pub(super) fn schema(option: &str) -> Option<&'static Schema> {
    Some(method(id::POST_STORAGE).parameter(option)?.schema)
}

/// The declared type of an option.
pub fn option_kind(option: &str) -> Kind {
    schema(option).map_or(Kind::String, |schema| schema.kind)
}

/// An option's value as it is kept; `None` when nothing is left of it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(kind: StorageKind, option: &str, value: &str) -> Result<Option<String>, String> {
    // A node that left the cluster must not make the whole list go.
    if option == "nodes" {
        return Ok(nodes(value));
    }
    if let Some(schema) = schema(option) {
        check::text(schema, value, option)?;
    }
    match option {
        "content" => content(kind, value),
        "format" => format(kind, value).map(Some),
        "prune-backups" => {
            let retention: Retention = value.parse().map_err(|error| format!("invalid format - {error}"))?;
            Ok(Some(retention.to_string()))
        }
        "path" if matches!(kind, StorageKind::Dir | StorageKind::Btrfs) => Ok(Some(without_end_slash(value))),
        _ if option_kind(option) == Kind::Integer => {
            let number: Option<i64> = value.parse().ok();
            Ok(Some(number.map_or(value.to_owned(), |number| number.to_string())))
        }
        _ => Ok(Some(value.to_owned())).map(|value| value.filter(|value| !value.is_empty())),
    }
}

fn nodes(value: &str) -> Option<String> {
    let names = list::split(value)
        .into_iter()
        .filter_map(|name| name.parse::<NodeName>().ok());
    let names: BTreeSet<String> = names.map(String::from).collect();
    let names: Vec<String> = names.into_iter().collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn content(kind: StorageKind, value: &str) -> Result<Option<String>, String> {
    let mut held = ContentSet::new();
    for word in list::split(value) {
        let content: Content = word.parse().map_err(|error| format!("invalid format - {error}"))?;
        if kind.supported_content().contains(&content) {
            held.insert(content);
        } else {
            log::warn!("storage type '{kind}' does not support content type '{content}'");
        }
    }
    if held.contains(&Content::None) && held.len() > 1 {
        return Err("unable to combine 'none' with other content types".to_owned());
    }
    Ok((!held.is_empty()).then(|| content_list(&held)))
}

fn format(kind: StorageKind, value: &str) -> Result<String, String> {
    let format: Option<ImageFormat> = value.parse().ok();
    let known = format.is_some_and(|format| kind.formats().contains(&format));
    if known {
        Ok(value.to_owned())
    } else {
        Err(format!("invalid format - invalid format '{value}'"))
    }
}

fn without_end_slash(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }.to_owned()
}

/// Whether a directory storage may have this path: `^/[-/a-zA-Z0-9_.@]+$`.
pub(super) fn is_legal_directory(path: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-/_.@".contains(&b);
    path.len() > 1 && path.starts_with('/') && path.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 08, vector V7.
    #[test]
    fn values_are_checked_by_their_formats() {
        let decode = |option, value| decode(StorageKind::Dir, option, value);
        for valid in ["iso=a/b", "iso=.hidden"] {
            assert_eq!(decode("content-dirs", valid).unwrap().as_deref(), Some(valid));
        }
        for invalid in ["iso=../x", "iso=", "foo=x", "iso=a..b"] {
            assert!(decode("content-dirs", invalid).is_err(), "{invalid}");
        }
        let blocks = |value| super::decode(StorageKind::Zfspool, "blocksize", value);
        for valid in ["4k", "8K", "1m", "512", "16m"] {
            assert!(blocks(valid).is_ok(), "{valid}");
        }
        for invalid in ["513", "3k", "0", "04k", "32m"] {
            assert!(blocks(invalid).is_err(), "{invalid}");
        }
        assert_eq!(decode("prune-backups", "keep-last=0").unwrap().unwrap(), "keep-all=1");
        assert_eq!(decode("nodes", "n2, n1,-bad,n1").unwrap().unwrap(), "n1,n2");
        assert_eq!(decode("content", "rootdir,images").unwrap().unwrap(), "images,rootdir");
        assert_eq!(
            decode("content", "none,iso").unwrap_err(),
            "unable to combine 'none' with other content types"
        );
    }
}
