//! The vectors of reference 03 §8.6. Where they show comments dropped, this project keeps them.

use super::*;
use crate::check;
use crate::schema::{Kind, Schema};

static TEXT: Schema = Schema::of(Kind::String);
static FLAG: Schema = Schema::of(Kind::Boolean);
static COUNT: Schema = Schema {
    minimum: Some(1.0),
    ..Schema::of(Kind::Integer)
};
static CONTENT: Schema = Schema {
    items: Some(&CONTENT_ITEM),
    ..Schema::of(Kind::Array)
};
static CONTENT_ITEM: Schema = Schema {
    words: &["a", "b"],
    ..Schema::of(Kind::String)
};

/// "Types" of the vectors.
fn format() -> SectionFormat {
    SectionFormat::new("test.cfg")
        .option("comment", &TEXT)
        .option("content", &CONTENT)
        .option("disable", &FLAG)
        .option("maxn", &COUNT)
        .option("nodes", &TEXT)
        .option("path", &TEXT)
        .option("server", &TEXT)
        .kind(
            "dir",
            &[
                ("path", Use::REQUIRED_FIXED),
                ("comment", Use::OPTIONAL),
                ("disable", Use::OPTIONAL),
                ("nodes", Use::OPTIONAL),
                ("content", Use::OPTIONAL),
                ("maxn", Use::OPTIONAL),
            ],
        )
        .kind(
            "nfs",
            &[
                ("server", Use::REQUIRED),
                ("path", Use::OPTIONAL),
                ("comment", Use::OPTIONAL),
                ("disable", Use::OPTIONAL),
                ("maxn", Use::OPTIONAL),
            ],
        )
}

fn parse(text: &str) -> SectionFile {
    SectionFile::parse(&format(), text)
}

fn warnings(text: &str) -> Vec<String> {
    parse(text).warnings.iter().map(ToString::to_string).collect()
}

/// Reads and writes again; what was written must read the same.
#[track_caller]
fn rewritten(text: &str) -> String {
    let format = format();
    let written = parse(text).write(&format).expect("complete sections");
    let again = parse(&written);
    assert_eq!(again.write(&format).as_ref(), Ok(&written), "written text is stable");
    written
}

/// Vector 59.
#[test]
fn a_file_is_read_and_written() {
    let text = "dir: a1\n\tpath /mnt/x\n";
    let file = parse(text);
    assert_eq!(file.digest, "9b49ed53939e6d5e17f05b188e670d25f3413d62");
    assert_eq!(file.sections().count(), 1);
    assert_eq!(rewritten(text), "dir: a1\n\tpath /mnt/x\n\n");
}

/// Vector 60.
#[test]
fn options_are_written_in_order_and_comments_stay() {
    let text = "dir: a1\n\tpath /mnt/x\n\tcomment hello world \n\tdisable\n\tnodes n1,n2\n\tcontent a\n\tcontent b\n\
                \tmaxn 3\n\n# remark\nnfs: b2\n    server s1\n";
    assert_eq!(
        rewritten(text),
        "dir: a1\n\tcomment hello world\n\tdisable\n\tpath /mnt/x\n\tcontent a\n\tcontent b\n\tmaxn 3\n\tnodes n1,n2\n\n\
         # remark\nnfs: b2\n\tserver s1\n\n"
    );
    let file = parse(text);
    let section = file.get("a1").unwrap();
    assert_eq!(
        (section.text("comment"), section.is_set("disable")),
        (Some("hello world"), true)
    );
    assert_eq!(section.list("content"), ["a", "b"]);
    assert!(file.warnings.is_empty());
}

/// Vectors 61 to 63, and the other texts of §3.2.
#[test]
fn what_does_not_fit_is_left_out_with_a_warning() {
    let cases: [(&str, &[&str]); 10] = [
        (
            "dir: a1\n\tpath /x\nnfs: b2\n\tserver s\n",
            &[
                "file test.cfg line 3 (section 'a1') - ignore config line: nfs: b2",
                "file test.cfg line 4 (section 'a1') - unable to parse value of 'server': unexpected property 'server'",
            ],
        ),
        (
            "dir: a1\n\tpath /x\n\tdisable yes\n",
            &[
                "file test.cfg line 3 (section 'a1') - unable to parse value of 'disable': \
               type check ('boolean') failed - got 'yes'",
            ],
        ),
        (
            "dir: a1\n\tpath /x\n\tpath /y\n",
            &["file test.cfg line 3 (section 'a1') - unable to parse value of 'path': duplicate attribute"],
        ),
        (
            "dir: a1\n\tpath /x\n\tbogus 1\n",
            &["file test.cfg line 3 (section 'a1') - unable to parse value of 'bogus': unknown property type"],
        ),
        (
            "foo: x\n\ta 1\n",
            &["file test.cfg line 1 (skip section 'x'): unsupported type 'foo'"],
        ),
        (
            "dir: x\n\n",
            &["file test.cfg line 2 (skip section 'x'): missing value for required option 'path'"],
        ),
        ("junk\n", &["file test.cfg line 1 - ignore config line: junk"]),
        (" dir: a\n", &["file test.cfg line 1 - ignore config line:  dir: a"]),
        (
            "dir: a1\n\tpath /x\n  \n\tmaxn 0\n",
            &[
                "file test.cfg line 3 (section 'a1') - ignore config line:   ",
                "file test.cfg line 4 (section 'a1') - unable to parse value of 'maxn': \
                 value must have a minimum value of 1",
            ],
        ),
        ("dir: a1\r\n\tpath /x\r\n", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(warnings(text), expected, "{text:?}");
    }
    assert_eq!(
        parse("dir: a1\n\tpath /x\n\tpath /y\n").get("a1").unwrap().text("path"),
        Some("/x")
    );
    assert_eq!(
        parse("dir: a1\r\n\tpath /x\r\n").get("a1").unwrap().text("path"),
        Some("/x")
    );
}

/// Vector 64.
#[test]
fn disable_is_written_only_when_on() {
    let text = "dir: a1\n\tpath /x\n\tdisable 0\n";
    assert_eq!(parse(text).get("a1").unwrap().flag("disable"), Some(false));
    assert_eq!(rewritten(text), "dir: a1\n\tpath /x\n\n");
}

#[test]
fn a_line_of_just_0_ends_a_section() {
    let file = parse("dir: a\n\tpath /x\n0\ndir: b\n\tpath /y\n");
    assert_eq!(
        file.sections().map(|section| section.id.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn of_two_sections_with_one_name_the_later_counts() {
    let text = "dir: a\n\tpath /x\n\ndir: b\n\tpath /y\n\nnfs: a\n\tserver s\n";
    let file = parse(text);
    assert_eq!(
        file.sections().map(|section| section.id.as_str()).collect::<Vec<_>>(),
        ["b", "a"]
    );
    assert_eq!(file.get("a").unwrap().kind, "nfs");
}

/// The note before reference 03 §8.
#[test]
fn nothing_a_person_wrote_is_lost() {
    let text = "# file\n\n# first\ndir: a\n\t# where\n\tpath /x\n\tbogus 1\n\t# how many\n\tmaxn 3\n\tdisable maybe\n\
                \n# alien\nweird: zz\n\tq 1\n\nnfs: broken\n\tmaxn 3\n\n# end\n";
    let expected = "# file\n\n# first\ndir: a\n\t# where\n\tpath /x\n\tbogus 1\n\t# how many\n\tmaxn 3\n\tdisable maybe\n\
                    \n# alien\nweird: zz\n\tq 1\n\nnfs: broken\n\tmaxn 3\n\n# end\n";
    assert_eq!(rewritten(text), expected);
    assert_eq!(parse(text).sections().count(), 1);
}

#[test]
fn a_broken_value_stays_until_there_is_a_proper_one() {
    let format = format();
    let mut file = parse("dir: a\n\tpath /x\n\tdisable maybe\n\t# about nodes\n\tnodes n1\n");
    let section = file.get_mut("a").unwrap();
    section.set("disable", true);
    section.remove("nodes");
    assert_eq!(
        file.write(&format).unwrap(),
        "dir: a\n\tdisable\n\tpath /x\n\t# about nodes\n\n"
    );

    let mut file = parse("dir: a\n\tpath /x\n\tdisable maybe\n");
    file.get_mut("a").unwrap().remove("disable");
    assert_eq!(file.write(&format).unwrap(), "dir: a\n\tpath /x\n\n");
}

#[test]
fn sections_are_added_replaced_and_removed() {
    let format = format();
    let mut file = parse("nfs: broken\n\tmaxn 3\n\ndir: a\n\tpath /x\n");
    let mut repaired = Section::new("nfs", "broken");
    repaired.set("server", "s");
    file.insert(repaired);
    file.insert(format.create("dir", "z", [("path".to_owned(), "/z".into())]).unwrap());
    assert_eq!(file.remove("a").unwrap().text("path"), Some("/x"));
    assert!(file.remove("a").is_none());
    assert_eq!(
        file.write(&format).unwrap(),
        "nfs: broken\n\tserver s\n\ndir: z\n\tpath /z\n\n"
    );
}

#[test]
fn what_cannot_be_written_is_refused() {
    let format = format();
    let mut file = SectionFile::default();
    let mut section = Section::new("dir", "a");
    file.insert(section.clone());
    let message = |file: &SectionFile| file.write(&format).unwrap_err().to_string();
    assert_eq!(message(&file), "section 'a' - missing value for required option 'path'");
    section.set("path", "/x\n/y");
    file.insert(section);
    assert_eq!(message(&file), "property 'path' contains a line feed");
}

/// Vector 65, and the other texts of §3.4.
#[test]
fn the_api_changes_sections_by_its_rules() {
    let format = format();
    let mut section = format.create("dir", "a1", [("path".to_owned(), "/x".into())]).unwrap();
    let before = section.clone();
    let mut update = |set: &[(&str, &str)], delete: &[&str]| {
        let set = set.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value)));
        format
            .update(&mut section, set.collect::<Vec<_>>(), delete)
            .map_err(|error| error.to_string())
    };
    for (set, delete, message) in [
        (
            &[("path", "/y")][..],
            &[][..],
            "can't change value of fixed parameter 'path'",
        ),
        (&[("server", "s")], &[], "unexpected property 'server'"),
        (&[], &["path"], "unable to delete required option 'path'"),
        (&[], &["server"], "no such option 'server'"),
        (
            &[("nodes", "n")],
            &["nodes"],
            "cannot set and delete property 'nodes' at the same time!",
        ),
    ] {
        assert_eq!(update(set, delete), Err(message.to_owned()));
    }
    assert_eq!(update(&[("nodes", "n1"), ("maxn", "3")], &[]), Ok(()));
    assert_eq!(update(&[], &["nodes"]), Ok(()));
    assert_eq!(update(&[("nodes", "n1")], &[]), Ok(()));
    assert_eq!(update(&[("nodes", "")], &[]), Ok(()), "an empty text is no value");
    assert_eq!((section.text("maxn"), section.text("nodes")), (Some("3"), None));
    assert_ne!(section, before);

    let create = |kind: &str, key: &str| format.create(kind, "x", [(key.to_owned(), "v".into())]);
    assert_eq!(
        create("dir", "comment").unwrap_err().to_string(),
        "missing value for required option 'path'"
    );
    assert_eq!(
        create("nfs", "nodes").unwrap_err().to_string(),
        "unexpected property 'nodes'"
    );
}

#[test]
fn headers_and_values_may_be_spelt_otherwise() {
    let format = SectionFormat {
        parse_header: |line| {
            let id = line.trim_end();
            let is_id = !id.is_empty() && !id.contains(char::is_whitespace);
            is_id.then(|| Header {
                kind: "dir".to_owned(),
                id: id.to_owned(),
            })
        },
        print_header: |_, id| id.to_owned(),
        check_header: |header| {
            if header.id == "bad" {
                Err("no".to_owned())
            } else {
                Ok(())
            }
        },
        decode: |key, text| {
            Ok(if key == "comment" {
                crate::text::decode(text)
            } else {
                text.to_owned()
            })
        },
        encode: |key, value| {
            if key == "comment" {
                crate::text::encode(value)
            } else {
                value.to_owned()
            }
        },
        ..format()
    };
    let text = "one\n\tcomment a%3A b\n\tpath /x\n\nbad\n\tpath /y\n\n";
    let file = SectionFile::parse(&format, text);
    assert_eq!(file.get("one").unwrap().text("comment"), Some("a: b"));
    assert_eq!(
        file.warnings[0].to_string(),
        "file test.cfg line 5 (skip section 'bad'): no"
    );
    assert_eq!(file.write(&format).unwrap(), text);
}

#[test]
fn headers_split_at_the_last_colon_that_leaves_a_name() {
    let parse = |line: &str| Header::parse(line).map(|header| (header.kind, header.id));
    let header = |kind: &str, id: &str| Some((kind.to_owned(), id.to_owned()));
    assert_eq!(parse("dir:d1"), header("dir", "d1"));
    assert_eq!(parse("dir: a:b "), header("dir", "a:b"));
    assert_eq!(parse("a:b: c"), header("a:b", "c"));
    for none in ["dir:", ": x", " dir: x", "dir: a b", "dir", ""] {
        assert_eq!(parse(none), None, "{none}");
    }
}

/// What `storage.cfg` needs: kinds in any case, values with a normal form, options with a default.
#[test]
fn a_file_may_have_rules_of_its_own() {
    let format = SectionFormat {
        check_header: |header| {
            header.kind = header.kind.to_lowercase();
            Ok(())
        },
        value: |kind, key, schema, text| {
            check::text(schema, text, key)?;
            Ok(match key {
                "nodes" if kind == "dir" => Some(text.trim_matches(',').to_owned()).filter(|text| !text.is_empty()),
                _ => Some(text.to_owned()),
            })
        },
        complete: |section| {
            if section.get("path").is_none() {
                let path = format!("/mnt/{}", section.id);
                section.set("path", path);
            }
            match section.text("path") {
                Some("/bad") => Err("bad path".to_owned()),
                _ => Ok(()),
            }
        },
        ..format()
    };
    let text = "DIR: a\n\tnodes ,n1,\n\nDir: b\n\tpath /bad\n\ndir: c\n\tnodes ,,\n\tpath /c\n\n";
    let file = SectionFile::parse(&format, text);
    assert_eq!(
        file.write(&format).unwrap(),
        "dir: a\n\tpath /mnt/a\n\tnodes n1\n\nDir: b\n\tpath /bad\n\ndir: c\n\tpath /c\n\n"
    );
    let warnings: Vec<String> = file.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["file test.cfg line 6 (skip section 'b'): bad path"]);

    let mut made = format.create("dir", "d", []).unwrap();
    assert_eq!(made.text("path"), Some("/mnt/d"));
    let bad = || [("path".to_owned(), Value::from("/bad"))];
    assert_eq!(format.create("dir", "d", bad()).unwrap_err().to_string(), "bad path");
    let nfs = format.create("nfs", "n", [("server".to_owned(), "s".into())]);
    let mut nfs = nfs.unwrap();
    assert_eq!(format.update(&mut nfs, bad(), &[]).unwrap_err().to_string(), "bad path");
    assert_eq!(nfs.text("path"), Some("/mnt/n"), "it stays as it was");
    assert_eq!(format.update(&mut made, [], &["nodes"]), Ok(()));
}

#[test]
fn sections_that_cannot_be_used_hold_their_names() {
    let format = format();
    let mut file = parse("# c\nweird: a\n\tq 1\n\ndir: a\n\tpath /x\n\nweird: b\n\n");
    assert!(file.is_taken("a") && file.is_taken("b") && !file.is_taken("c"));
    let mut section = file.get("a").unwrap().clone();
    section.set("path", "/y");
    file.insert(section.clone());
    let rest = "weird: b\n\n";
    assert_eq!(
        file.write(&format).unwrap(),
        format!("# c\nweird: a\n\tq 1\n\ndir: a\n\tpath /y\n\n{rest}")
    );
    file.insert_first(section);
    assert_eq!(
        file.write(&format).unwrap(),
        format!("dir: a\n\tpath /y\n\n# c\n{rest}")
    );
    assert!(file.remove("b").is_none() && !file.is_taken("b"));
}

#[test]
fn comments_may_be_escaped() {
    let format = format().escaped_comment();
    let text = "dir: a\n\tcomment 50%25 done%3A%0A%C3%BC\n\tpath /x%20\n\n";
    let file = SectionFile::parse(&format, text);
    let section = file.get("a").unwrap();
    assert_eq!(
        (section.text("comment"), section.text("path")),
        (Some("50% done:\nü"), Some("/x%20"))
    );
    assert_eq!(file.write(&format).unwrap(), text);
}
