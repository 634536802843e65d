//! Attributes of which a server tells a part at a time: Active Directory has `member;range=0-1499` instead of `member` for a
//! group of more members than that.

use ldap3::SearchEntry;

/// What the option of such an attribute begins with.
const RANGE: &str = "range=";
/// Most values of one attribute.
const MAX_VALUES: usize = 500_000;

/// Gathers the values of such an attribute; `fetch` asks for an attribute of the entry. Others stay as they are. Where the
/// server does not tell all, what there is goes by the name of a part again.
///
/// # Errors
/// Those of `fetch`.
pub(super) fn complete<E>(
    entry: &mut SearchEntry,
    name: &str,
    mut fetch: impl FnMut(&str, &str) -> Result<Option<SearchEntry>, E>,
) -> Result<(), E> {
    let Some(first) = take_part(entry, name) else {
        return Ok(());
    };
    let mut values = first.values;
    let mut next = first.next;
    while let Some(start) = next {
        if values.len() > MAX_VALUES {
            break;
        }
        let more = fetch(&entry.dn, &format!("{name};range={start}-*"))?;
        let Some(part) = more.and_then(|mut more| take_part(&mut more, name)) else {
            break;
        };
        values.extend(part.values);
        // A server that goes back would go round for ever.
        if part.next.is_some_and(|next| next <= start) {
            break;
        }
        next = part.next;
    }
    let key = match next {
        None => name.to_owned(),
        Some(next) => format!("{name};range=0-{}", next.saturating_sub(1)),
    };
    entry.attrs.insert(key, values);
    Ok(())
}

/// A part of an attribute's values.
struct Part {
    values: Vec<String>,
    /// The number of the first value that is missing; `None`: none is.
    next: Option<usize>,
}

fn take_part(entry: &mut SearchEntry, name: &str) -> Option<Part> {
    let mut keys = entry.attrs.keys();
    let (key, next) = keys.find_map(|key| Some((key.clone(), after(key, name)?)))?;
    let values = entry.attrs.remove(&key)?;
    Some(Part { values, next })
}

/// The attribute that a part is of: `member;range=0-1499` → `member`; `None` if it is no part.
pub(super) fn attribute_of(key: &str) -> Option<&str> {
    let (attribute, option) = key.split_once(';')?;
    let option = option.get(..RANGE.len())?;
    option.eq_ignore_ascii_case(RANGE).then_some(attribute)
}

/// What comes after a part: `member;range=0-1499` → 1500, `member;range=1500-*` → nothing; `None` if it is no part.
fn after(key: &str, name: &str) -> Option<Option<usize>> {
    let (attribute, option) = key.split_once(';')?;
    let option = option.to_ascii_lowercase();
    let (_, last) = option.strip_prefix(RANGE)?.split_once('-')?;
    if !attribute.eq_ignore_ascii_case(name) {
        return None;
    }
    match last {
        "*" => Some(None),
        last => Some(Some(last.parse::<usize>().ok()?.checked_add(1)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn entry(key: &str, values: std::ops::Range<usize>) -> SearchEntry {
        SearchEntry {
            dn: "cn=g".to_owned(),
            attrs: HashMap::from([(key.to_owned(), values.map(|number| number.to_string()).collect())]),
            bin_attrs: HashMap::new(),
        }
    }

    #[test]
    fn parts_are_gathered_until_the_last() {
        let mut asked = Vec::new();
        let mut group = entry("member;range=0-1499", 0..1500);
        group.attrs.insert("member".to_owned(), Vec::new());
        complete(&mut group, "member", |dn, attribute| {
            asked.push(format!("{dn} {attribute}"));
            Ok::<_, ()>(Some(match asked.len() {
                1 => entry("Member;Range=1500-2999", 1500..3000),
                _ => entry("member;range=3000-*", 3000..3002),
            }))
        })
        .unwrap();
        assert_eq!(asked, ["cn=g member;range=1500-*", "cn=g member;range=3000-*"]);
        assert!(
            group.attrs["member"]
                .iter()
                .map(|value| value.parse::<usize>().unwrap())
                .eq(0..3002_usize)
        );
        assert_eq!(group.attrs.len(), 1);
    }

    #[test]
    fn a_server_that_goes_round_is_left() {
        for answer in [Some(entry("member;range=0-1", 0..2)), Some(entry("member", 0..2)), None] {
            let mut group = entry("member;range=0-1", 0..2);
            let mut count = 0;
            complete(&mut group, "member", |_, _| {
                count += 1;
                Ok::<_, ()>(answer.clone())
            })
            .unwrap();
            assert_eq!(count, 1);
            let keys: Vec<_> = group.attrs.keys().collect();
            assert_eq!(keys, ["member;range=0-1"], "that it is not all stays to be seen");
            assert_eq!(attribute_of(keys[0]), Some("member"));
        }
        let mut whole = entry("member", 0..2);
        complete(&mut whole, "member", |_, _| Err("not asked")).unwrap();
        assert_eq!(whole.attrs["member"].len(), 2);
    }
}
