//! The vectors of reference 03 §8.3.

use serde_json::{Value, json};

use super::*;
use crate::format::{NamedFormat, rules};
use crate::params::Param;
use crate::pattern::Pattern;
use crate::schema::{Format, Kind, Suffix};

static NODE: NamedFormat = NamedFormat {
    pattern: Some(&NODE_PATTERN),
    ..NamedFormat::new("pve-node", "value does not look like a valid node name")
};
static NODE_PATTERN: Pattern = Pattern::anchored("^[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?$");
static VMID: NamedFormat = NamedFormat {
    pattern: Some(&VMID_PATTERN),
    ..NamedFormat::new("pve-vmid", "value does not look like a valid VM ID")
};
static VMID_PATTERN: Pattern = Pattern::anchored("^[1-9][0-9]{2,8}$");
static EMAIL: NamedFormat = NamedFormat {
    pattern: Some(&EMAIL_PATTERN),
    ..NamedFormat::new("email", "value does not look like a valid email address")
};
static EMAIL_PATTERN: Pattern = Pattern::anchored(r"^[\w+~-]+(?:\.[\w+~-]+)*@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*$");
static VLAN: NamedFormat = NamedFormat {
    rule: Some(rules::pve_vlan_id_or_range),
    ..NamedFormat::new("pve-vlan-id-or-range", "")
};
static PORTS: Pattern = Pattern::new(r"/dev/parport\d+|/dev/usb/lp\d+");

const STRING: Schema = Schema::of(Kind::String);
const INTEGER: Schema = Schema::of(Kind::Integer);
static INTEGER_ITEM: Schema = Schema::of(Kind::Integer);
static STRING_ITEM: Schema = Schema::of(Kind::String);

macro_rules! parameter {
    ($name:literal, $schema:expr) => {
        Parameter {
            name: $name,
            index_max: None,
            in_path: false,
            schema: {
                static SCHEMA: Schema = $schema;
                &SCHEMA
            },
        }
    };
}

static TABLE: [Parameter; 14] = [
    parameter!(
        "array",
        Schema {
            items: Some(&STRING_ITEM),
            ..Schema::of(Kind::Array)
        }
    ),
    parameter!("boolean", Schema::of(Kind::Boolean)),
    parameter!(
        "colour",
        Schema {
            words: &["red", "green"],
            ..STRING
        }
    ),
    parameter!(
        "email",
        Schema {
            format: Some(Format::Named(&EMAIL, Suffix::Optional)),
            ..STRING
        }
    ),
    parameter!("integer", INTEGER),
    parameter!(
        "integers",
        Schema {
            items: Some(&INTEGER_ITEM),
            ..Schema::of(Kind::Array)
        }
    ),
    parameter!(
        "nodes",
        Schema {
            format: Some(Format::Named(&NODE, Suffix::List)),
            ..STRING
        }
    ),
    parameter!("number", Schema::of(Kind::Number)),
    parameter!(
        "port",
        Schema {
            pattern: Some(&PORTS),
            ..STRING
        }
    ),
    parameter!(
        "range",
        Schema {
            minimum: Some(100.0),
            maximum: Some(200.0),
            ..INTEGER
        }
    ),
    parameter!(
        "short",
        Schema {
            min_length: Some(2),
            max_length: Some(3),
            ..STRING
        }
    ),
    parameter!("string", STRING),
    parameter!(
        "vlan",
        Schema {
            format: Some(Format::Named(&VLAN, Suffix::None)),
            ..STRING
        }
    ),
    parameter!(
        "vmid",
        Schema {
            format: Some(Format::Named(&VMID, Suffix::None)),
            minimum: Some(100.0),
            maximum: Some(999_999_999.0),
            ..INTEGER
        }
    ),
];

fn raw(value: Value) -> Raw {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// Checks one parameter of the table alone.
fn single(name: &str, value: Value) -> Result<Option<Param>, ParamErrors> {
    let at = TABLE
        .iter()
        .position(|parameter| parameter.name == name)
        .expect("in the table");
    let checked = parameters(&TABLE[at..=at], false, raw(json!({ name: value })));
    checked
        .map(|mut params| params.remove(name))
        .map_err(|Rejected(errors)| errors)
}

fn text(text: &str) -> Result<Option<Param>, ParamErrors> {
    Ok(Some(Param::Text(text.to_owned())))
}

fn list(items: &[&str]) -> Result<Option<Param>, ParamErrors> {
    Ok(Some(Param::List(
        items.iter().map(|item| Param::Text((*item).to_owned())).collect(),
    )))
}

fn fails(name: &str, message: &str) -> Result<Option<Param>, ParamErrors> {
    Err(ParamErrors::from([(name.to_owned(), message.to_owned())]))
}

#[test]
fn values_are_checked_one_by_one() {
    let boolean = |got: &str| fails("boolean", &format!("type check ('boolean') failed - got '{got}'"));
    let integer = |got: &str| fails("integer", &format!("type check ('integer') failed - got {got}"));
    let cases = [
        (
            14,
            "string",
            json!(null),
            fails("string", "property is missing and it is not optional"),
        ),
        (15, "integer", json!("+5"), text("+5")),
        (15, "integer", json!("007"), text("007")),
        (15, "integer", json!(7), text("7")),
        (16, "integer", json!(" 5"), integer("' 5'")),
        (16, "integer", json!(""), integer("''")),
        (16, "integer", json!("0x10"), integer("'0x10'")),
        (16, "integer", json!("1e3"), integer("'1e3'")),
        (16, "integer", json!(1.5), integer("'1.5'")),
        (17, "number", json!("1e3"), text("1e3")),
        (17, "number", json!(".5"), text(".5")),
        (17, "number", json!("5."), text("5.")),
        (
            17,
            "number",
            json!("inf"),
            fails("number", "type check ('number') failed - got 'inf'"),
        ),
        (
            17,
            "number",
            json!("."),
            fails("number", "type check ('number') failed - got '.'"),
        ),
        (18, "boolean", json!("yes"), boolean("yes")),
        (18, "boolean", json!(""), boolean("")),
        (19, "boolean", json!(true), text("1")),
        (19, "boolean", json!(0), text("0")),
        (20, "integer", json!(true), integer("JSON::PP::Boolean")),
        (
            21,
            "string",
            json!(["a", "b"]),
            fails("string", "type check ('string') failed - got ARRAY"),
        ),
        (
            21,
            "string",
            json!({}),
            fails("string", "type check ('string') failed - got HASH"),
        ),
        (22, "nodes", json!(["a", "b"]), text("a,b")),
        (23, "array", json!("x,y"), list(&["x,y"])),
        (24, "array", json!(""), fails("array", "type check ('array') failed")),
        (24, "array", json!("0"), fails("array", "type check ('array') failed")),
        (
            25,
            "integers",
            json!(["1", "x"]),
            fails("integers[1]", "type check ('integer') failed - got 'x'"),
        ),
        (
            26,
            "vmid",
            json!("99"),
            fails("vmid", "invalid format - value does not look like a valid VM ID\n"),
        ),
        (
            27,
            "vmid",
            json!("abc"),
            fails("vmid", "type check ('integer') failed - got 'abc'"),
        ),
        (
            28,
            "range",
            json!("201"),
            fails("range", "value must have a maximum value of 200"),
        ),
        (
            28,
            "range",
            json!("99"),
            fails("range", "value must have a minimum value of 100"),
        ),
        (29, "short", json!("äöü"), text("äöü")),
        (
            29,
            "short",
            json!("abcd"),
            fails("short", "value may only be 3 characters long"),
        ),
        (
            29,
            "short",
            json!("a"),
            fails("short", "value must be at least 2 characters long"),
        ),
        (30, "port", json!("/dev/parport0;x"), text("/dev/parport0;x")),
        (
            30,
            "port",
            json!("x"),
            fails("port", "value does not match the regex pattern"),
        ),
        (31, "email", json!(""), text("")),
        (
            31,
            "email",
            json!("x"),
            fails(
                "email",
                "invalid format - value does not look like a valid email address\n",
            ),
        ),
        (34, "vlan", json!("2-10"), text("2-10")),
        (
            34,
            "vlan",
            json!("10-2"),
            fails(
                "vlan",
                "invalid format - VLAN range must go from lower to higher tag '10-2'\n",
            ),
        ),
        (
            0,
            "colour",
            json!("blue"),
            fails(
                "colour",
                "value 'blue' does not have a value in the enumeration 'red, green'",
            ),
        ),
    ];
    for (vector, name, value, expected) in cases {
        assert_eq!(
            single(name, value.clone()),
            expected,
            "vector {vector}: {name} = {value}"
        );
    }
}

/// Vectors 32 and 33.
#[test]
fn every_wrong_parameter_is_told() {
    static NEEDY: [Parameter; 2] = [
        parameter!(
            "a",
            Schema {
                optional: true,
                requires: Some("b"),
                ..INTEGER
            }
        ),
        parameter!(
            "b",
            Schema {
                optional: true,
                ..INTEGER
            }
        ),
    ];
    let errors = parameters(&NEEDY, false, raw(json!({"a": "1"}))).unwrap_err().0;
    assert_eq!(
        errors,
        ParamErrors::from([("b".into(), "missing property required by 'a'".into())])
    );
    assert!(parameters(&NEEDY, false, raw(json!({"a": "1", "b": 2}))).is_ok());

    static CLOSED: [Parameter; 2] = [
        parameter!("a", INTEGER),
        parameter!(
            "b",
            Schema {
                requires: Some("a"),
                ..INTEGER
            }
        ),
    ];
    let errors = parameters(&CLOSED, false, raw(json!({"a": "x", "c": "1"})))
        .unwrap_err()
        .0;
    let expected = [
        ("a", "type check ('integer') failed - got 'x'"),
        ("b", "property is missing and it is not optional"),
        (
            "c",
            "property is not defined in schema and the schema does not allow additional properties",
        ),
    ];
    assert_eq!(
        errors,
        expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
    );

    let errors = parameters(&CLOSED, false, raw(json!({"b": "1", "": "x"})))
        .unwrap_err()
        .0;
    let both = "property is missing and it is not optional\\nmissing property required by 'b'";
    assert_eq!(errors["a"], both);
    assert!(errors.contains_key("_root"));
}

#[test]
fn unknown_parameters_may_be_ignored() {
    let params = parameters(&[], true, raw(json!({"x": 1}))).unwrap();
    assert_eq!(params, Params::new());
}

#[test]
fn the_type_decides_which_schema_applies() {
    static FOR_B: Schema = Schema {
        instance_types: &["b"],
        type_property: Some("type"),
        ..STRING
    };
    static OF_A: Schema = Schema {
        instance_types: &["a"],
        optional: true,
        ..INTEGER
    };
    static TABLE: [Parameter; 3] = [
        parameter!(
            "either",
            Schema {
                variants: &[&OF_A],
                type_property: Some("type"),
                ..Schema::of(Kind::Any)
            }
        ),
        Parameter {
            name: "forb",
            index_max: None,
            in_path: false,
            schema: &FOR_B,
        },
        parameter!("type", STRING),
    ];
    let check = |value| parameters(&TABLE, false, raw(value)).map_err(|Rejected(errors)| errors);
    assert!(
        check(json!({"type": "a"})).is_ok(),
        "what is required for b is optional for a"
    );
    assert!(check(json!({"type": "a", "either": "1"})).is_ok());
    assert_eq!(
        check(json!({"type": "a", "either": "x"})).unwrap_err()["either"],
        "type check ('integer') failed - got 'x'"
    );
    let errors = check(json!({"type": "b", "either": "1"})).unwrap_err();
    assert_eq!(errors["forb"], "property is missing and it is not optional");
    assert!(errors["either"].starts_with("property is not defined in schema"));
}
