//! Names of files that users bring (reference 08 §8.2, vector V7).

use crate::kind::Content;
use crate::volume::{is_iso_file, is_template_file};

/// Why a file may not be stored under a name; the text of the `filename` parameter's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFileName {
    /// Not the extension of the content.
    #[error("wrong file extension")]
    Extension,
    /// Nothing that can be imported.
    #[error("invalid filename or wrong extension")]
    Import,
}

/// A file's name as it is stored: what stands before the last slash or backslash goes, and every byte outside
/// `[A-Za-z0-9_.-]` becomes `_`.
pub fn normalise_file_name(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    file.bytes()
        .map(|b| if plain(b) { char::from(b) } else { '_' })
        .collect()
}

/// The name under which a user's file is stored as some kind of content.
///
/// # Errors
/// The name does not fit the content.
pub fn upload_name(content: Content, name: &str) -> Result<String, InvalidFileName> {
    let name = normalise_file_name(name);
    let (fits, otherwise) = match content {
        Content::Iso => (is_iso_file(&name), InvalidFileName::Extension),
        Content::Vztmpl => (is_template_file(&name), InvalidFileName::Extension),
        _ => (is_importable(&name), InvalidFileName::Import),
    };
    if fits { Ok(name) } else { Err(otherwise) }
}

/// What may be brought to be imported: OVA archives and disks, but no OVF, which refers to files beside it.
fn is_importable(name: &str) -> bool {
    let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty());
    extension.is_some_and(|(_, extension)| ["ova", "qcow2", "raw", "vmdk"].contains(&extension))
}

/// The file name of a container image pulled from a registry: `[host/]path/name:tag` → `name_tag.tar`.
pub fn oci_file_name(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or_default();
    format!("{}.tar", last.replace(':', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_harmless() {
        for (name, expected) in [
            ("My ISO (v2).iso", "My_ISO__v2_.iso"),
            (r"..\..\evil.iso", "evil.iso"),
            ("/tmp/x y.tar.gz", "x_y.tar.gz"),
            ("a+b.iso", "a_b.iso"),
            ("ü.iso", "__.iso"),
            ("x\0\n.iso", "x__.iso"),
        ] {
            assert_eq!(normalise_file_name(name), expected);
        }
        assert_eq!(oci_file_name("reg.example:5000/team/app:v1.2"), "app_v1.2.tar");
        assert_eq!(oci_file_name("alpine:latest"), "alpine_latest.tar");
    }

    #[test]
    fn names_must_fit_the_content() {
        let fits = |content, name: &str| upload_name(content, name).map_err(|error| error.to_string());
        for name in ["x.ova", "x.qcow2", "x.vmdk", "x.raw"] {
            assert_eq!(fits(Content::Import, name).unwrap(), name);
        }
        for name in ["x.ovf", "x.img", ".ova", "ova"] {
            assert_eq!(
                fits(Content::Import, name).unwrap_err(),
                "invalid filename or wrong extension"
            );
        }
        assert_eq!(fits(Content::Iso, "a b.IMG").unwrap(), "a_b.IMG");
        for (content, name) in [
            (Content::Iso, ".iso"),
            (Content::Iso, "a.iso/"),
            (Content::Iso, "a.tar"),
            (Content::Vztmpl, "a.iso"),
            (Content::Vztmpl, "a.tgz"),
        ] {
            assert_eq!(fits(content, name).unwrap_err(), "wrong file extension");
        }
    }
}
