//! Whatever a client sends, routing and checks answer.

use proptest::prelude::*;
use pve_contract::{Verb, check_call, methods, property, property_format, route};
use pve_schema::property_string::{parse, print};
use serde_json::{Map, Value, json};

/// Any JSON that a parameter may be.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        "[a-z]{1,6}=[a-z0-9]{0,3},[a-z0-9=,:]{0,12}".prop_map(Value::from),
        prop::collection::vec("[a-z0-9]{0,3}", 0..3).prop_map(Value::from),
        Just(json!({"a": [1, null]})),
    ]
}

proptest! {
    #[test]
    fn any_path_is_routed_or_refused(path in "(/[a-z{}]{0,8}|/nodes|/n1|/qemu|/100| |%){0,8}|(?s:.{0,60})") {
        for verb in [Verb::Get, Verb::Post, Verb::Put, Verb::Delete] {
            let _ = route(verb, &path);
        }
    }

    #[test]
    fn any_parameters_are_checked(at in 0_usize..675, values in prop::collection::vec(value(), 8), name in "[a-z0-9]{0,9}") {
        let method = &methods()[at];
        let mut raw = Map::new();
        for (parameter, value) in method.parameters.iter().zip(values.iter().cycle()) {
            let index = if parameter.index_max.is_some() { "0" } else { "" };
            raw.insert(format!("{}{index}", parameter.name), value.clone());
        }
        raw.insert(name, Value::Null);
        let _ = check_call(method, Vec::new(), raw);
    }

    #[test]
    fn drives_and_nics_read_the_same_after_writing(
        text in "(local:[0-9]{1,3}|ssd=(on|0)|size=[0-9]{1,4}[KMGT]?|virtio(=02:00:00:00:00:01)?|bridge=vmbr0|,){0,6}",
    ) {
        for format in [&property::QEMU_SCSI, &property::QEMU_NET] {
            if let Ok(properties) = parse(format, &text) {
                let written = print(format, &properties).expect("values hold no comma");
                let again = parse(format, &written).expect("what was written can be read");
                prop_assert_eq!(print(format, &again), Ok(written));
            }
        }
    }

    #[test]
    fn any_property_string_is_read_or_refused(text in "\\PC{0,40}|[a-z0-9=,;:+-]{0,40}") {
        for name in ["qemu.net", "qemu.scsi", "pve-vm-cpu-conf", "prune-backups", "pve-lxc-network", "qemu.agent"] {
            let _ = parse(property_format(name).expect("a format"), &text);
        }
    }
}
