//! The vectors of reference 03 §8.4.

use super::*;
use crate::format::NamedFormat;
use crate::pattern::Pattern;
use crate::schema::{Format, Kind, PropertyFormat, PropertyKey, Schema, Suffix};

static SIZE: NamedFormat = NamedFormat {
    pattern: Some(&SIZE_PATTERN),
    ..NamedFormat::new("disk-size", "value does not look like a valid disk size: {v}")
};
static SIZE_PATTERN: Pattern = Pattern::anchored(r"^\d+(?:\.\d+)?(?:[KMGT](?:iB)?)?$");

static STRING: Schema = Schema::of(Kind::String);
static OPTIONAL: Schema = Schema {
    optional: true,
    ..Schema::of(Kind::String)
};
static ALIAS: Schema = Schema {
    optional: true,
    ..Schema::of(Kind::Any)
};
static FLAG: Schema = Schema {
    optional: true,
    ..Schema::of(Kind::Boolean)
};
static COUNT: Schema = Schema {
    optional: true,
    minimum: Some(0.0),
    ..Schema::of(Kind::Integer)
};
static TAG: Schema = Schema {
    optional: true,
    minimum: Some(1.0),
    maximum: Some(4094.0),
    ..Schema::of(Kind::Integer)
};
static SIZE_VALUE: Schema = Schema {
    optional: true,
    format: Some(Format::Named(&SIZE, Suffix::None)),
    ..Schema::of(Kind::String)
};
static MODEL: Schema = Schema {
    words: &["virtio", "e1000"],
    ..Schema::of(Kind::String)
};

const fn key(name: &'static str, schema: &'static Schema) -> PropertyKey {
    PropertyKey {
        name,
        schema,
        default_key: false,
        alias: None,
        key_alias: None,
    }
}

/// "Schema D" of the vectors.
static DRIVE: PropertyFormat = PropertyFormat {
    name: "drive",
    keys: &[
        PropertyKey {
            default_key: true,
            ..key("file", &STRING)
        },
        key("iops", &COUNT),
        key("size", &SIZE_VALUE),
        key("ssd", &FLAG),
        PropertyKey {
            alias: Some("file"),
            ..key("volume", &ALIAS)
        },
    ],
    validator: None,
};

/// "Schema N" of the vectors.
static NIC: PropertyFormat = PropertyFormat {
    name: "nic",
    keys: &[
        key("bridge", &OPTIONAL),
        PropertyKey {
            alias: Some("macaddr"),
            key_alias: Some("model"),
            ..key("e1000", &ALIAS)
        },
        key("firewall", &FLAG),
        key("macaddr", &OPTIONAL),
        PropertyKey {
            default_key: true,
            ..key("model", &MODEL)
        },
        key("tag", &TAG),
        PropertyKey {
            alias: Some("macaddr"),
            key_alias: Some("model"),
            ..key("virtio", &ALIAS)
        },
    ],
    validator: None,
};

#[test]
fn property_strings_are_read() {
    let reads = |vector: u8, format: &'static PropertyFormat, text: &str, expected: &[(&str, &str)]| {
        let expected: Properties = expected.iter().copied().collect();
        assert_eq!(parse(format, text), Ok(expected), "vector {vector}");
    };
    let drive = [("file", "local:100/a.qcow2"), ("size", "32G"), ("ssd", "1")];
    reads(35, &DRIVE, "local:100/a.qcow2,size=32G,ssd=on", &drive);
    reads(36, &DRIVE, "ssd=1,local:x/y", &[("ssd", "1"), ("file", "local:x/y")]);
    reads(37, &DRIVE, "local:x,,ssd=0, ,", &[("file", "local:x"), ("ssd", "0")]);
    reads(38, &DRIVE, "volume=local:y", &[("file", "local:y")]);
    let nic = [
        ("model", "virtio"),
        ("macaddr", "BC:24:11:00:00:01"),
        ("bridge", "vmbr0"),
    ];
    reads(45, &NIC, "virtio=BC:24:11:00:00:01,bridge=vmbr0", &nic);
}

#[test]
fn what_is_wrong_with_a_property_string_is_told_as_upstream_does() {
    for (vector, format, text, message) in [
        (
            39,
            &DRIVE,
            "file=local:x,volume=local:y",
            "key 'file' is already defined (via alias)\n",
        ),
        (
            40,
            &DRIVE,
            "local:x,local:y",
            "duplicate key in comma-separated list property: file\n",
        ),
        (
            41,
            &DRIVE,
            "local:x,ssd=",
            "missing key in comma-separated list property\n",
        ),
        (
            41,
            &DRIVE,
            "local:x,=1",
            "missing key in comma-separated list property\n",
        ),
        (
            42,
            &DRIVE,
            "ssd=1",
            "format error\nfile: property is missing and it is not optional\n",
        ),
        (
            43,
            &DRIVE,
            "local:x, ssd=1",
            "format error\n ssd: property is not defined in schema and the schema does not allow additional properties\n",
        ),
        (
            44,
            &DRIVE,
            "local:x,size=3X",
            "format error\nsize: invalid format - value does not look like a valid disk size: 3X\n\n",
        ),
        (
            48,
            &NIC,
            "virtio=BC:24:11:00:00:01,model=e1000",
            "duplicate key in comma-separated list property: model\n",
        ),
        (
            0,
            &NIC,
            "model=e1000,virtio=BC:24:11:00:00:01",
            "key alias 'model' is already defined\n",
        ),
        (
            0,
            &DRIVE,
            "local:x,ssd=maybe",
            "format error\nssd: type check ('boolean') failed - got 'maybe'\n",
        ),
    ] {
        assert_eq!(parse(format, text).unwrap_err().text(""), message, "vector {vector}");
    }
}

#[test]
fn keys_of_a_parameter_carry_its_name() {
    let format = Format::Properties(&NIC);
    assert_eq!(
        format.check("virtio,tag=5000", "net0").unwrap_err(),
        "format error\nnet0.tag: value must have a maximum value of 4094\n"
    );
    assert_eq!(
        format.check("model=virtio,model=e1000", "net0").unwrap_err(),
        "duplicate key in comma-separated list property: model\n"
    );
}

#[test]
fn property_strings_are_written() {
    for (vector, format, text, written) in [
        (
            45,
            &NIC,
            "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            "virtio=BC:24:11:00:00:01,bridge=vmbr0",
        ),
        (
            46,
            &NIC,
            "model=e1000,macaddr=BC:24:11:00:00:01",
            "e1000=BC:24:11:00:00:01",
        ),
        (
            47,
            &NIC,
            "virtio,bridge=vmbr0,firewall=yes",
            "virtio,bridge=vmbr0,firewall=1",
        ),
        (
            49,
            &DRIVE,
            "file=local:x,size=34359738368,ssd=1,iops=5",
            "local:x,iops=5,size=32G,ssd=1",
        ),
    ] {
        let properties = parse(format, text).unwrap();
        assert_eq!(print(format, &properties).as_deref(), Ok(written), "vector {vector}");
    }
}

#[test]
fn a_comma_cannot_be_written() {
    let properties: Properties = [("file", "a,b")].into_iter().collect();
    assert_eq!(
        print(&DRIVE, &properties).unwrap_err().to_string(),
        "illegal value with commas for file"
    );
}

#[test]
fn values_are_read_as_their_types() {
    let properties = parse(&DRIVE, "local:x,size=1G,ssd=off,iops=7").unwrap();
    assert_eq!(properties.size("size"), Some(1 << 30));
    assert_eq!(properties.flag("ssd"), Some(false));
    assert_eq!(properties.integer("iops"), Some(7));
    assert_eq!(properties.parse::<u8>("iops"), Ok(Some(7)));
    assert!(!properties.is_set("nope"));
}
