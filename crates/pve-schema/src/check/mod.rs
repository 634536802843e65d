//! Checks of parameters against their schemas, with upstream's messages (reference 03 §2.3 to §2.6).
//!
//! All parameters are checked, so that a client learns of everything that is wrong at once; of one parameter the first
//! failure counts. What comes out holds only texts, lists and maps: see [`crate::params`].

mod scalar;
mod value;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::decode::Raw;
use crate::failure::{Failure, ParamErrors};
use crate::params::Params;
use crate::schema::{Parameter, Schema, find_parameter};

pub use scalar::{boolean_word, is_integer, is_number, text};
pub use value::scalar_text;

/// Parameters that failed: status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Parameter verification failed.")]
pub struct Rejected(pub ParamErrors);

impl Rejected {
    /// One parameter is at fault.
    pub fn one(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self(ParamErrors::from([(name.into(), text.into())]))
    }
}

impl Failure for Rejected {
    fn status(&self) -> u16 {
        400
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        Some(&self.0)
    }
}

/// The messages so far.
#[derive(Debug, Default)]
pub(crate) struct Errors(pub(crate) ParamErrors);

impl Errors {
    /// Adds a message. Two for one key are joined by the two characters `\n`; what has no name goes to `_root`.
    pub(crate) fn add(&mut self, name: &str, message: &str) {
        let name = if name.is_empty() { "_root" } else { name };
        match self.0.get_mut(name) {
            Some(known) => {
                known.push_str("\\n");
                known.push_str(message);
            }
            None => {
                self.0.insert(name.to_owned(), message.to_owned());
            }
        }
    }

    /// A name that the schema does not know.
    pub(crate) fn unknown(&mut self, name: &str) {
        self.add(
            name,
            "property is not defined in schema and the schema does not allow additional properties",
        );
    }

    /// A name that another needs.
    pub(crate) fn requires(&mut self, name: &str, by: &str) {
        self.add(name, &format!("missing property required by '{by}'"));
    }
}

/// Checks the parameters of a call.
///
/// `parameters` is sorted as [`find_parameter`] needs it. `additional` says whether unknown names are accepted – and
/// ignored: they are not in what comes out.
///
/// # Errors
/// Every parameter that failed, with its message.
pub fn parameters(parameters: &'static [Parameter], additional: bool, mut raw: Raw) -> Result<Params, Rejected> {
    let mut errors = Errors::default();
    let mut params = Params::new();
    let sent = value::present_names(&raw);
    let types = TypeValues::of(parameters, &raw);

    let plain = parameters.iter().filter(|parameter| parameter.index_max.is_none());
    for parameter in plain {
        let received = raw.remove(parameter.name);
        let Some(schema) = types.schema(parameter.schema) else {
            // None of its variants applies to the type: for this call the parameter does not exist.
            if received.is_some() && !additional {
                errors.unknown(parameter.name);
            }
            continue;
        };
        let received = received.map(|value| value::normalised(schema, value));
        let excused = received.as_ref().is_none_or(Value::is_null) && !types.applies(schema);
        if excused {
            continue;
        }
        if let Some(param) = value::value(schema, received, parameter.name, &mut errors) {
            params.insert(parameter.name, param);
        }
    }
    for (name, received) in raw {
        match find_parameter(parameters, &name) {
            Some(family) => {
                let received = value::normalised(family.schema, received);
                if let Some(param) = value::value(family.schema, Some(received), &name, &mut errors) {
                    params.insert(name, param);
                }
            }
            None if additional => {}
            None => errors.unknown(&name),
        }
    }
    for name in &sent {
        let required = find_parameter(parameters, name).and_then(|parameter| parameter.schema.requires);
        if let Some(required) = required.filter(|required| !sent.iter().any(|sent| sent == required)) {
            errors.requires(required, name);
        }
    }
    if errors.0.is_empty() {
        Ok(params)
    } else {
        Err(Rejected(errors.0))
    }
}

/// The values of the parameters that select among variants.
struct TypeValues(Vec<(&'static str, String)>);

impl TypeValues {
    fn of(parameters: &[Parameter], raw: &Raw) -> Self {
        let mut values: Vec<(&'static str, String)> = Vec::new();
        for name in parameters.iter().filter_map(|parameter| parameter.schema.type_property) {
            let known = values.iter().any(|(known, _)| *known == name);
            if let Some(value) = raw.get(name).filter(|value| !known && !value.is_null()) {
                values.push((name, scalar_text(value)));
            }
        }
        Self(values)
    }

    fn get(&self, schema: &Schema) -> Option<&str> {
        let name = schema.type_property?;
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The schema that applies: the parameter's own, or the variant for the type.
    fn schema(&self, schema: &'static Schema) -> Option<&'static Schema> {
        if schema.variants.is_empty() {
            return Some(schema);
        }
        let value = self.get(schema)?;
        schema
            .variants
            .iter()
            .copied()
            .find(|variant| variant.instance_types.contains(&value))
    }

    /// Whether a schema is meant for the type; one that is not makes its parameter optional.
    fn applies(&self, schema: &Schema) -> bool {
        schema.type_property.is_none()
            || schema.instance_types.is_empty()
            || self
                .get(schema)
                .is_some_and(|value| schema.instance_types.contains(&value))
    }
}
