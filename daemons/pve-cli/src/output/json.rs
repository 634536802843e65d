//! JSON, with sorted keys.

use serde_json::Value;

/// Blanks per level.
const INDENT: usize = 3;

/// On one line.
pub(super) fn line(value: &Value) -> String {
    let mut out = String::new();
    write(value, None, &mut out);
    out.push('\n');
    out
}

/// A member in each line, `"key" : value`.
pub(super) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write(value, Some(0), &mut out);
    out.push('\n');
    out
}

fn write(value: &Value, level: Option<usize>, out: &mut String) {
    match value {
        Value::Array(items) => {
            let writers = items
                .iter()
                .map(|item| move |level, out: &mut String| write(item, level, out));
            block(['[', ']'], writers, level, out);
        }
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            let writers = members.into_iter().map(|(name, value)| {
                move |level: Option<usize>, out: &mut String| {
                    out.push_str(&Value::String(name.clone()).to_string());
                    out.push_str(if level.is_some() { " : " } else { ":" });
                    write(value, level, out);
                }
            });
            block(['{', '}'], writers, level, out);
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// What stands in brackets; nothing leaves them empty.
fn block<W>([open, close]: [char; 2], writers: impl Iterator<Item = W>, level: Option<usize>, out: &mut String)
where
    W: FnOnce(Option<usize>, &mut String),
{
    let inner = level.map(|level| level + 1);
    let mut is_empty = true;
    out.push(open);
    for write in writers {
        if !is_empty {
            out.push(',');
        }
        is_empty = false;
        new_line(inner, out);
        write(inner, out);
    }
    if !is_empty {
        new_line(level, out);
    }
    out.push(close);
}

fn new_line(level: Option<usize>, out: &mut String) {
    if let Some(level) = level {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', level * INDENT));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted() {
        let value = json!({"b": [1, "ä/\"", null], "a": {}, "c": {"d": true, "e": []}});
        assert_eq!(
            line(&value),
            "{\"a\":{},\"b\":[1,\"ä/\\\"\",null],\"c\":{\"d\":true,\"e\":[]}}\n"
        );
        let expected = "\
{
   \"a\" : {},
   \"b\" : [
      1,
      \"ä/\\\"\",
      null
   ],
   \"c\" : {
      \"d\" : true,
      \"e\" : []
   }
}
";
        assert_eq!(pretty(&value), expected);
        assert_eq!(
            (line(&json!("x")).as_str(), pretty(&json!([])).as_str()),
            ("\"x\"\n", "[]\n")
        );
    }
}
