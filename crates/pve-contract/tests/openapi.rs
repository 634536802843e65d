//! The OpenAPI description says what the tables say. That it is valid is for a validator to tell: tests/e2e/test_openapi.py.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use pve_contract::{OPENAPI_GZIP, methods};
use serde_json::Value;

fn description() -> Value {
    let mut text = String::new();
    GzDecoder::new(OPENAPI_GZIP).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn verb(method: &pve_contract::Method) -> String {
    format!("{:?}", method.verb).to_lowercase()
}

#[test]
fn every_method_is_described_with_an_id_of_its_own() {
    let description = description();
    let mut ids = BTreeSet::new();
    for method in methods() {
        let operation = &description["paths"][method.path][verb(method)];
        let id = operation["operationId"]
            .as_str()
            .unwrap_or_else(|| panic!("{} is missing", method.path));
        assert!(ids.insert(id.to_owned()), "{id} twice");
        assert_eq!(operation["x-pve"]["protected"], method.protected, "{id}");
    }
    assert_eq!(ids.len(), 675);
}

#[test]
fn every_parameter_is_where_it_is_sent() {
    let description = description();
    for method in methods() {
        let operation = &description["paths"][method.path][verb(method)];
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        for parameter in method.parameters {
            let (name, path) = (parameter.name, method.path);
            let listed = operation["parameters"].as_array().unwrap().iter();
            let place = listed
                .clone()
                .find(|listed| listed["name"] == name)
                .map(|listed| &listed["in"]);
            if parameter.in_path {
                assert_eq!(place.unwrap(), "path", "{path} {name}");
            } else if parameter.index_max.is_some() {
                assert!(
                    body["patternProperties"][format!("^{name}[0-9]+$")].is_object(),
                    "{path} {name}"
                );
            } else if let Some(place) = place {
                assert_eq!(place, "query", "{path} {name}");
            } else {
                assert!(body["properties"][name].is_object(), "{path} {name}");
            }
        }
    }
}
