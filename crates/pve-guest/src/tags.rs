//! Tags (reference 06a §3.5): normal form, and who may change one.

use std::collections::BTreeSet;

use pve_schema::list;

/// How tags are written: the datacenter's `tag-style`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TagStyle {
    /// Upper and lower case are different; otherwise all is lower case.
    pub case_sensitive: bool,
    /// Tags keep the order they were given in; otherwise they are sorted.
    pub keep_order: bool,
}

/// The stored form of a list of tags: unique, joined with `;`.
pub fn normalise(text: &str, style: TagStyle) -> String {
    let mut seen = BTreeSet::new();
    let mut tags: Vec<String> = list::split(text)
        .into_iter()
        .filter(|tag| !tag.is_empty())
        .map(|tag| {
            if style.case_sensitive {
                tag.to_owned()
            } else {
                tag.to_lowercase()
            }
        })
        .filter(|tag| seen.insert(tag.clone()))
        .collect();
    if !style.keep_order {
        tags.sort();
    }
    tags.join(";")
}

/// The tags that are in one list and not in the other, in order of name.
pub fn changed(old: &str, new: &str) -> Vec<String> {
    let old: BTreeSet<&str> = list::split(old).into_iter().collect();
    let new: BTreeSet<&str> = list::split(new).into_iter().collect();
    old.symmetric_difference(&new).map(|tag| (*tag).to_owned()).collect()
}

/// Which tags a user may give to a guest: the datacenter's `user-tag-access` and `registered-tags`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagAccess {
    /// Tags that only an administrator may give.
    pub registered: BTreeSet<String>,
    /// What a user may give.
    pub allow: UserAllow,
}

/// What a user may give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserAllow {
    /// Any tag.
    Free,
    /// These: the configured list, with `existing` also the tags of all guests that the user may see.
    List(BTreeSet<String>),
    /// None.
    Nothing,
}

impl TagAccess {
    /// Whether a user without `Sys.Modify` on `/` may give or take the tag.
    pub fn permits(&self, tag: &str) -> bool {
        !self.registered.contains(tag)
            && match &self.allow {
                UserAllow::Free => true,
                UserAllow::List(list) => list.contains(tag),
                UserAllow::Nothing => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_decides_case_and_order() {
        let style = |case_sensitive, keep_order| TagStyle {
            case_sensitive,
            keep_order,
        };
        let cases = [
            (false, false, "a;b;c"),
            (false, true, "b;a;c"),
            (true, false, "A;B;a;c"),
        ];
        for (case, order, expected) in cases {
            assert_eq!(normalise("B;a;A,c", style(case, order)), expected);
        }
    }

    #[test]
    fn only_changed_tags_need_a_right() {
        assert_eq!(changed("a;b", "b;c"), ["a", "c"]);
        let access = TagAccess {
            registered: BTreeSet::from(["prod".to_owned()]),
            allow: UserAllow::Free,
        };
        assert!(access.permits("lab") && !access.permits("prod"));
    }
}
