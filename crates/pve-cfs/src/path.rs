//! What a path below `/etc/pve` may look like, and which mode it gets (reference 04 §1.2, §1.3).
//!
//! Paths are relative to `/etc/pve`: `storage.cfg`, `nodes/pve1/config`. The links of the top level (`local`,
//! `qemu-server`, `lxc`, `openvz`) are resolved in the text, because the mode depends on the real place.

use std::path::PathBuf;

use pve_schema::ids::NodeName;

use crate::CfsError;

/// A checked path below `/etc/pve`, links resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelPath(String);

impl RelPath {
    /// Checks a path: relative, without empty, `.` or `..` components and without NUL. The empty path is the root.
    pub(crate) fn parse(text: &str, node: &NodeName) -> Result<Self, CfsError> {
        let good = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if !text.is_empty() && !text.split('/').all(good) {
            return Err(CfsError::IllegalPath(text.to_owned()));
        }
        let (first, rest) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let base = match first {
            "local" => format!("nodes/{node}"),
            "qemu-server" | "lxc" | "openvz" => format!("nodes/{node}/{first}"),
            _ => return Ok(Self(text.to_owned())),
        };
        Ok(Self(rest.map_or(base.clone(), |rest| format!("{base}/{rest}"))))
    }

    /// The path as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Below an absolute `/etc/pve`.
    pub(crate) fn below(&self, mut etc_pve: PathBuf) -> PathBuf {
        if !self.0.is_empty() {
            etc_pve.push(&self.0);
        }
        etc_pve
    }

    /// The directory that holds it; `None` for the root and what lies directly in it.
    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Whether only root may see it: at or below `priv`, or `nodes/NODE/priv`.
    pub(crate) fn is_private(&self) -> bool {
        let mut parts = self.0.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("priv"), _, _) => true,
            (Some("nodes"), Some(_), third) => third == Some("priv"),
            _ => false,
        }
    }

    /// The mode of a file at this place.
    pub(crate) fn file_mode(&self) -> u32 {
        if self.is_private() { 0o600 } else { 0o640 }
    }

    /// The mode of a directory at this place.
    pub(crate) fn dir_mode(&self) -> u32 {
        if self.is_private() { 0o700 } else { 0o755 }
    }
}

/// Whether a name is that of a write that is under way (`NAME.tmp.DIGITS`); readers must not see it.
pub fn is_temporary(name: &str) -> bool {
    name.rsplit_once(".tmp.")
        .is_some_and(|(_, tail)| !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(text: &str) -> RelPath {
        RelPath::parse(text, &"pve1".parse().unwrap()).unwrap()
    }

    /// Reference 04 §20, vector 6.
    #[test]
    fn modes_depend_on_the_path() {
        for (path, mode) in [
            ("priv/x", 0o600),
            ("nodes/a/priv/b", 0o600),
            ("private", 0o640),
            ("nodes/a/privx", 0o640),
            ("local/priv/b", 0o600),
            ("local/pve-ssl.key", 0o640),
            ("user.cfg", 0o640),
        ] {
            assert_eq!(rel(path).file_mode(), mode, "{path}");
        }
        assert_eq!(rel("nodes/a/priv").dir_mode(), 0o700);
        assert_eq!(rel("nodes/a").dir_mode(), 0o755);
    }

    #[test]
    fn links_of_the_top_level_are_resolved() {
        assert_eq!(rel("local/config").as_str(), "nodes/pve1/config");
        assert_eq!(rel("qemu-server/100.conf").as_str(), "nodes/pve1/qemu-server/100.conf");
        assert_eq!(rel("lxc").as_str(), "nodes/pve1/lxc");
    }

    #[test]
    fn paths_cannot_leave_the_tree() {
        for bad in ["/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\0b"] {
            assert!(RelPath::parse(bad, &"n".parse().unwrap()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn writes_under_way_are_recognised() {
        assert!(is_temporary("100.conf.tmp.77"));
        for name in ["100.conf", "x.tmp.", "x.tmp.7a", "tmp.7"] {
            assert!(!is_temporary(name), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,60}") {
            if let Ok(path) = RelPath::parse(&text, &"n".parse().unwrap()) {
                let full = path.below(PathBuf::from("/r"));
                proptest::prop_assert!(full.starts_with("/r"));
                proptest::prop_assert!(!full.components().any(|c| c == std::path::Component::ParentDir));
            }
            let _ = is_temporary(&text);
        }
    }
}
