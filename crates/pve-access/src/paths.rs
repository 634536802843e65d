//! Paths of the permission tree (reference 02 §10.3).

use std::cmp::Ordering;
use std::fmt;

/// A path of the permission tree, normalised: `/`, or `/` and components without empty ones.
///
/// Its order is that of a walk through the tree: a path comes before everything below it, and siblings in order of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AclPath(String);

impl AclPath {
    /// The path above all others.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Normalises a path; `None` for one that is empty or holds anything but `A-Z a-z 0-9 . - _ /`.
    pub fn normalise(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let mut path = String::with_capacity(text.len() + 1);
        for component in text.split('/').filter(|component| !component.is_empty()) {
            path.push('/');
            path.push_str(component);
        }
        if path.is_empty() {
            path.push('/');
        }
        path.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_/".contains(&b))
            .then_some(Self(path))
    }

    /// A path that cannot be normalised: nothing is ever granted on it itself.
    pub(crate) fn nowhere(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components; none for `/`.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|component| !component.is_empty())
    }

    /// Whether this is `other` or below it.
    pub fn is_within(&self, other: &Self) -> bool {
        let mut mine = self.components();
        other.components().all(|component| mine.next() == Some(component))
    }

    /// Whether an ACL may be added here: whether such a thing can exist.
    pub fn is_known(&self) -> bool {
        let components: Vec<&str> = self.components().collect();
        match components[..] {
            [] | ["access" | "nodes" | "pool" | "sdn" | "storage" | "vms" | "mapping"] => true,
            ["access", "groups" | "realm"] | ["access", "groups" | "realm", _] => true,
            ["nodes", _] | ["storage", _] => true,
            ["pool", ..] => components.len() <= 4,
            ["vms", vmid] => is_number(vmid, 3..=usize::MAX),
            ["mapping", _] | ["mapping", _, _] => true,
            ["sdn", ref below @ ..] => is_known_sdn(below),
            _ => false,
        }
    }
}

/// The part below `/sdn`.
fn is_known_sdn(components: &[&str]) -> bool {
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
    match components {
        ["controllers" | "dns" | "fabrics" | "ipams" | "prefix-lists" | "route-maps" | "zones"] => true,
        ["controllers", name] => name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)),
        ["dns" | "fabrics" | "ipams" | "prefix-lists" | "route-maps", name] => word(name),
        ["zones", _] | ["zones", _, _] => true,
        ["zones", _, _, tag] => is_number(tag, 1..=4),
        _ => false,
    }
}

/// Whether a text is a decimal number without leading zero, with so many digits.
fn is_number(text: &str, digits: std::ops::RangeInclusive<usize>) -> bool {
    digits.contains(&text.len()) && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit())
}

impl Ord for AclPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for AclPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for AclPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path template with every `{name}` replaced by that parameter, or by `-` if it is missing, empty or `0`.
pub fn fill_template(template: &str, param: &dyn Fn(&str) -> Option<String>) -> String {
    let mut path = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else {
            break;
        };
        path.push_str(before);
        match param(name) {
            Some(value) if pve_schema::text::truthy(&value) => path.push_str(&value),
            _ => path.push('-'),
        }
        rest = tail;
    }
    path.push_str(rest);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(text: &str) -> (String, bool) {
        let path = AclPath::normalise(text).unwrap();
        (path.as_str().to_owned(), path.is_known())
    }

    /// Reference 02 §16, vectors 13 to 19.
    #[test]
    fn paths_normalise_and_are_known_or_not() {
        assert!(AclPath::normalise("").is_none());
        assert!(AclPath::normalise("/vms/100 ").is_none());
        assert!(AclPath::normalise("/vms/100\n").is_none());
        for (text, path, is_known) in [
            ("//", "/", true),
            ("vms/100", "/vms/100", true),
            ("/vms//100/", "/vms/100", true),
            ("/vms/99", "/vms/99", false),
            ("/vms/0100", "/vms/0100", false),
            ("/vms/100/x", "/vms/100/x", false),
            ("/pool/a/b/c", "/pool/a/b/c", true),
            ("/pool/a/b/c/d", "/pool/a/b/c/d", false),
            ("/sdn/zones/z/v/100", "/sdn/zones/z/v/100", true),
            ("/sdn/zones/z/v/0", "/sdn/zones/z/v/0", false),
            ("/sdn/zones/z/v/10000", "/sdn/zones/z/v/10000", false),
            ("/sdn/controllers/a-b", "/sdn/controllers/a-b", true),
            ("/sdn/dns/a-b", "/sdn/dns/a-b", false),
            ("/mapping/pci/x", "/mapping/pci/x", true),
            ("/mapping/pci/x/y", "/mapping/pci/x/y", false),
            ("/access/domains", "/access/domains", false),
            ("/sdn/vnets/x", "/sdn/vnets/x", false),
        ] {
            assert_eq!(known(text), (path.to_owned(), is_known), "{text}");
        }
    }

    #[test]
    fn a_walk_visits_a_path_before_what_is_below_it() {
        let path = |text: &str| AclPath::normalise(text).unwrap();
        let mut paths = [path("/a-b"), path("/a/c"), path("/a"), path("/")];
        paths.sort();
        assert_eq!(paths.map(|p| p.to_string()), ["/", "/a", "/a/c", "/a-b"]);
        assert!(path("/vms/100").is_within(&path("/vms")));
        assert!(!path("/vms/1000").is_within(&path("/vms/100")));
    }

    /// Reference 02 §16, vector 20.
    #[test]
    fn templates_take_a_dash_for_what_is_missing() {
        let param = |name: &str| match name {
            "x" => Some("0".to_owned()),
            "y" => Some("q".to_owned()),
            _ => None,
        };
        assert_eq!(fill_template("/pool/{poolid}", &param), "/pool/-");
        assert_eq!(fill_template("/a/{x}/{y}", &param), "/a/-/q");
        assert_eq!(fill_template("/a/{x", &param), "/a/{x");
    }
}
