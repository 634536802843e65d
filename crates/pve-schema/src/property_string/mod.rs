//! Property strings: `key=value,key=value,…` in one text (reference 03 §2.8).

/// The keys and values of one property string, in the order in which they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);
