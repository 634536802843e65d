//! The parameters of one call: merged with the path, then – after the permission check – checked (reference 03 §1).

use pve_schema::check::{self, Rejected};
use pve_schema::decode::Raw;
use pve_schema::{Param, Params};
use serde_json::Value;

use crate::Method;

/// The parameters of a call, those of the path among them, not checked yet.
///
/// Permissions are looked at on these: a caller without permission learns nothing about parameters.
#[derive(Debug, Clone)]
pub struct Merged {
    method: &'static Method,
    raw: Raw,
}

/// Puts the parameters of the path beside those that were sent.
///
/// # Errors
/// A parameter of the path was also sent, with another value.
pub fn merge(
    method: &'static Method,
    uri_params: Vec<(&'static str, String)>,
    mut raw: Raw,
) -> Result<Merged, Rejected> {
    for (name, value) in uri_params {
        match raw.get(name).map(|sent| scalar(sent) == Some(value.as_str().into())) {
            None => {
                raw.insert(name.to_owned(), Value::String(value));
            }
            Some(true) => {}
            Some(false) => {
                let text = "duplicate parameter (already defined in URI) with conflicting values!";
                return Err(Rejected::one(name, text));
            }
        }
    }
    // Numbers are taken as their text from here on; whether something else is a text matters to the checks.
    for value in raw.values_mut().filter(|value| value.is_number()) {
        if let Some(text) = scalar(value) {
            *value = Value::String(text.into_owned());
        }
    }
    Ok(Merged { method, raw })
}

/// The text of a scalar; lists and objects have none.
fn scalar(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Bool(_) | Value::Number(_) => Some(check::scalar_text(value).into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Merged {
    /// The method that is called.
    pub fn method(&self) -> &'static Method {
        self.method
    }

    /// A scalar parameter as sent.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.raw.get(name)? {
            Value::String(text) => Some(text),
            Value::Bool(on) => Some(if *on { "1" } else { "0" }),
            _ => None,
        }
    }

    /// Whether the parameter was sent; null counts as absent.
    pub fn has(&self, name: &str) -> bool {
        self.raw.get(name).is_some_and(|value| !value.is_null())
    }

    /// A path template with the parameters in their places; one that is absent, empty or `0` becomes `-`.
    pub fn expand(&self, template: &str) -> String {
        let mut out = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, (name, after))) = rest
            .split_once('{')
            .and_then(|(before, tail)| Some((before, tail.split_once('}')?)))
        {
            out.push_str(before);
            let value = self.text(name).filter(|value| !matches!(*value, "" | "0"));
            out.push_str(value.unwrap_or("-"));
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// Checks all parameters against the contract.
    ///
    /// # Errors
    /// Every parameter that failed, with its message.
    pub fn check(mut self) -> Result<Params, Rejected> {
        let undeclared = self.take_undeclared_components();
        let checked = check::parameters(self.method.parameters, self.method.additional_parameters, self.raw);
        checked.map(|mut params| {
            for (name, value) in undeclared {
                params.insert(name, Param::Text(value));
            }
            params
        })
    }

    /// A few methods do not declare all components of their own path. Those cannot be checked, and refusing them as
    /// unknown would make the methods unusable.
    fn take_undeclared_components(&mut self) -> Vec<(&'static str, String)> {
        let components = self.method.path.split('/');
        let names = components.filter_map(|component| component.strip_prefix('{')?.strip_suffix('}'));
        let undeclared = names.filter(|name| self.method.parameter(name).is_none());
        undeclared
            .filter_map(|name| match self.raw.remove(name)? {
                Value::String(value) => Some((name, value)),
                _ => None,
            })
            .collect()
    }
}

/// Merges and checks in one go, where nothing needs to be looked at in between.
///
/// # Errors
/// Every parameter that failed, with its message.
pub fn check_call(
    method: &'static Method,
    uri_params: Vec<(&'static str, String)>,
    raw: Raw,
) -> Result<Params, Rejected> {
    merge(method, uri_params, raw)?.check()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Verb, id, method, methods, named_format, property_format, route};
    use pve_schema::schema::{Format, Schema};
    use pve_schema::{ParamErrors, property_string};
    use serde_json::json;

    fn raw(value: Value) -> Raw {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    fn call(verb: Verb, path: &str, sent: Value) -> Result<Params, ParamErrors> {
        let route = route(verb, path).expect("a method");
        check_call(route.method, route.uri_params, raw(sent)).map_err(|Rejected(errors)| errors)
    }

    #[test]
    fn path_and_request_must_agree() {
        for same in [json!("100"), json!(100)] {
            let params = call(Verb::Get, "/nodes/n/qemu/100/config", json!({"vmid": same})).unwrap();
            assert_eq!((params.text("vmid"), params.text("node")), (Some("100"), Some("n")));
        }
        for other in [json!("101"), json!(["100"]), json!(null)] {
            let errors = call(Verb::Get, "/nodes/n/qemu/100/config", json!({"vmid": other})).unwrap_err();
            let text = "duplicate parameter (already defined in URI) with conflicting values!";
            assert_eq!(errors, ParamErrors::from([("vmid".to_owned(), text.to_owned())]));
        }
    }

    #[test]
    fn a_guest_is_created_with_its_families_of_parameters() {
        let path = "/nodes/n/qemu";
        let good = json!({"vmid": 100, "net0": "virtio,bridge=vmbr0", "scsi30": "local:8", "ide2": "none,media=cdrom"});
        assert!(call(Verb::Post, path, good).is_ok());
        let errors = call(
            Verb::Post,
            path,
            json!({"vmid": 99, "net0": "virtio,tag=5000", "net32": "virtio", "x": 1}),
        );
        let unknown = "property is not defined in schema and the schema does not allow additional properties";
        let expected = [
            (
                "net0",
                "invalid format - format error\nnet0.tag: value must have a maximum value of 4094\n",
            ),
            ("net32", unknown),
            ("vmid", "invalid format - value does not look like a valid VM ID\n"),
            ("x", unknown),
        ];
        assert_eq!(
            errors.unwrap_err(),
            expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
        );
    }

    /// Reference 03 §8.1, vector 6.
    #[test]
    fn a_route_may_lead_to_parameters_that_fail() {
        let errors = call(Verb::Get, "/nodes/pve1/qemu/abc/config", json!({})).unwrap_err();
        assert_eq!(errors["vmid"], "type check ('integer') failed - got 'abc'");
    }

    #[test]
    fn undeclared_components_of_the_path_reach_the_handler() {
        let params = call(Verb::Get, "/cluster/sdn/prefix-lists/a/entries/5", json!({})).unwrap();
        assert_eq!(params.text("url_seq"), Some("5"));
    }

    /// Reference 03 §8.5, vector 56.
    #[test]
    fn templates_are_expanded_with_what_was_sent() {
        let merged = merge(
            method(id::GET_VERSION),
            vec![("vmid", "100".into())],
            raw(json!({"x": "0", "y": 7})),
        );
        let merged = merged.unwrap();
        assert_eq!(merged.expand("/vms/{vmid}/{x}"), "/vms/100/-");
        assert_eq!(merged.expand("/{y}/{none}/{open"), "/7/-/{open");
        assert_eq!(merged.text("y"), Some("7"));
        assert!(!merged.has("none"));
    }

    /// Visits a schema and all schemas in it.
    fn visit(schema: &'static Schema, see: &mut impl FnMut(&'static Schema)) {
        see(schema);
        let inner = schema
            .items
            .into_iter()
            .chain(schema.additional)
            .chain(schema.variants.iter().copied());
        let inner = inner.chain(schema.properties.iter().map(|(_, schema)| *schema));
        let keys = match schema.format {
            Some(Format::Properties(format)) => format.keys,
            _ => &[],
        };
        inner
            .chain(keys.iter().map(|key| key.schema))
            .for_each(|schema| visit(schema, see));
    }

    #[test]
    fn every_pattern_compiles() {
        let mut count = 0;
        let mut see = |schema: &'static Schema| {
            let named = match schema.format {
                Some(Format::Named(format, _)) => format.pattern,
                _ => None,
            };
            for pattern in schema.pattern.into_iter().chain(named) {
                assert!(pattern.regex().is_some(), "{pattern:?} does not compile");
                count += 1;
            }
        };
        for method in methods() {
            method
                .parameters
                .iter()
                .for_each(|parameter| visit(parameter.schema, &mut see));
            visit(method.returns, &mut see);
        }
        assert!(count > 500, "only {count} patterns seen");
    }

    #[test]
    fn formats_are_the_contracts() {
        let checked = |name: &str, value: &str| named_format(name).expect("a format").check(value);
        assert_eq!(
            checked("pve-storage-id", "x"),
            Err("storage ID 'x' cannot be shorter than 2 characters".into())
        );
        assert_eq!(checked("pve-fw-dport-spec", "echo-request"), Ok(()));
        assert!(checked("pve-priv", "VM.Fly").is_err());
        assert!(named_format("nope").is_none());
    }

    #[test]
    fn whole_property_strings_have_rules() {
        let parse = |name: &str, text: &str| property_string::parse(property_format(name).expect("a format"), text);
        let message = |name: &str, text: &str| parse(name, text).unwrap_err().to_string();
        assert_eq!(
            message("prune-backups", "keep-all=1,keep-last=2"),
            "keep-all cannot be set together with other options."
        );
        assert_eq!(
            parse("prune-backups", "keep-last=0").unwrap().get("keep-all"),
            Some("1")
        );
        assert_eq!(
            message("backup-fleecing", "1"),
            "'storage' parameter is required when 'enabled' is set"
        );
        assert_eq!(message("pve-vm-cpu-conf", "flags=+aes"), "CPU is missing cputype");
        let unknown = "Built-in cputype 'x' is not defined (missing 'custom-' prefix?)";
        assert_eq!(message("pve-vm-cpu-conf", "x"), unknown);
        assert!(
            message("pve-vm-cpu-conf", "host,flags=+vmx")
                .starts_with("VM-specific CPU flags must be a subset of: aes,")
        );
        assert!(parse("pve-vm-cpu-conf", "host,flags=+aes;-pcid").is_ok());
    }
}
