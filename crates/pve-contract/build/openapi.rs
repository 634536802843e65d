//! The contract as an OpenAPI 3.1 description, for clients and their generators.
//!
//! What OpenAPI has no word for (permissions, which daemon runs a method, the other node that a call is passed on to) is
//! told in `x-pve`. Property strings and named formats keep their names as `format`.

use serde_json::{Map, Value, json};

use crate::Result;
use crate::emit::{members, text};

/// The description.
pub(crate) fn describe(contract: &Value) -> Result<Value> {
    let mut paths = Map::new();
    for (path, methods) in members(&contract["paths"]) {
        let mut item = Map::new();
        for (verb, method) in members(methods) {
            item.insert(verb.to_lowercase(), operation(path, verb, method)?);
        }
        paths.insert(path.clone(), Value::Object(item));
    }
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Proxmox VE API",
            "version": text(&contract["release"], "release")?,
            "summary": "Every method of the API that this server routes.",
            "description": "Booleans are sent as true and false, or 1 and 0; they are answered as 1 and 0. A method that \
                this build does not have answers 501.",
        },
        "servers": [{ "url": "/api2/json" }],
        "security": [{ "token": [] }, { "ticket": [], "csrf": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "PVEAPIToken=USER@REALM!TOKENID=SECRET",
                },
                "ticket": {
                    "type": "apiKey", "in": "cookie", "name": "PVEAuthCookie",
                    "description": "The ticket of POST /access/ticket, percent-encoded.",
                },
                "csrf": {
                    "type": "apiKey", "in": "header", "name": "CSRFPreventionToken",
                    "description": "The token of POST /access/ticket; wanted beside a ticket unless the method is GET.",
                },
            },
            "responses": {
                "Error": {
                    "description": "The call failed. The first line of the message is the reason phrase, too.",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
                },
            },
            "schemas": {
                "Error": {
                    "type": "object",
                    "properties": {
                        "data": { "type": "null" },
                        "message": { "type": "string" },
                        "errors": {
                            "type": "object",
                            "description": "What is wrong, by parameter.",
                            "additionalProperties": { "type": "string" },
                        },
                    },
                },
            },
        },
    }))
}

fn operation(path: &str, verb: &str, method: &Value) -> Result<Value> {
    let has_body = matches!(verb, "POST" | "PUT");
    let mut parameters = Vec::new();
    let mut body = Object::default();
    for (name, schema) in members(&method["parameters"]) {
        let required = !schema["optional"].as_bool().unwrap_or(false);
        if schema["in"] == "path" {
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": request_schema(schema) }));
        } else if has_body {
            body.add(name, request_schema(schema), required);
        } else {
            parameters
                .push(json!({ "name": name, "in": "query", "required": required, "schema": request_schema(schema) }));
        }
    }
    for name in undeclared(path, &method["parameters"]) {
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    let mut operation = json!({
        "operationId": operation_id(path, verb),
        "tags": [tag(path)],
        "parameters": parameters,
        "responses": { "200": answer(&method["returns"]), "default": { "$ref": "#/components/responses/Error" } },
        "x-pve": {
            "name": method["name"],
            "protected": method["protected"],
            "proxyto": method["proxyto"],
            "permissions": method["permissions"],
        },
    });
    if !body.is_empty() {
        let closed = !method["additional_parameters"].as_bool().unwrap_or(false);
        let required = !body.required.is_empty();
        let schema = body.schema(closed);
        operation["requestBody"] = json!({
            "required": required,
            "content": {
                "application/x-www-form-urlencoded": { "schema": schema },
                "application/json": { "schema": schema },
            },
        });
    }
    if method["permissions"]["user"] == "world" {
        operation["security"] = json!([]);
    } else if method["allowtoken"] == false {
        operation["security"] = json!([{ "ticket": [], "csrf": [] }]);
    }
    Ok(operation)
}

/// Components of the path that the contract has no parameter for, as `url_seq` of a prefix list's entry.
fn undeclared<'a>(path: &'a str, parameters: &Value) -> impl Iterator<Item = &'a str> {
    let in_braces = |part: &'a str| part.strip_prefix('{')?.strip_suffix('}');
    path.split('/')
        .filter_map(in_braces)
        .filter(|name| parameters[*name]["in"] != "path")
}

/// The handler's id in lower case: unique, and the same name that the code uses.
fn operation_id(path: &str, verb: &str) -> String {
    let words = path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut id = verb.to_lowercase();
    for word in words {
        id.push('_');
        id.push_str(&word.to_lowercase());
    }
    id
}

/// `nodes/qemu` for what is below `/nodes/{node}/qemu`.
fn tag(path: &str) -> String {
    let words: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && !part.starts_with('{'))
        .collect();
    words.get(..2.min(words.len())).unwrap_or_default().join("/")
}

fn answer(returns: &Value) -> Value {
    let schema = json!({
        "type": "object",
        "properties": { "data": schema(returns, Side::Answer) },
        "required": ["data"],
    });
    json!({ "description": "Done.", "content": { "application/json": { "schema": schema } } })
}

/// An object under construction; a family of names becomes a pattern.
#[derive(Default)]
struct Object {
    properties: Map<String, Value>,
    families: Map<String, Value>,
    required: Vec<Value>,
}

impl Object {
    fn add(&mut self, name: &str, schema: Value, required: bool) {
        if let Some(stem) = name.strip_suffix("[n]") {
            self.families.insert(format!("^{stem}[0-9]+$"), schema);
            return;
        }
        if required {
            self.required.push(json!(name));
        }
        self.properties.insert(name.to_owned(), schema);
    }

    fn is_empty(&self) -> bool {
        self.properties.is_empty() && self.families.is_empty()
    }

    fn schema(self, is_closed: bool) -> Value {
        let mut schema = json!({ "type": "object" });
        if !self.properties.is_empty() {
            schema["properties"] = Value::Object(self.properties);
        }
        if !self.families.is_empty() {
            schema["patternProperties"] = Value::Object(self.families);
        }
        if !self.required.is_empty() {
            schema["required"] = Value::Array(self.required);
        }
        if is_closed {
            schema["additionalProperties"] = json!(false);
        }
        schema
    }
}

/// Whether a value is sent or answered: booleans differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Answer,
}

fn request_schema(source: &Value) -> Value {
    schema(source, Side::Request)
}

/// A schema of the contract in JSON Schema's words.
fn schema(source: &Value, side: Side) -> Value {
    if let Some(variants) = source["oneOf"].as_array() {
        let variants: Vec<Value> = variants.iter().map(|variant| schema(variant, side)).collect();
        return json!({ "anyOf": variants });
    }
    let mut target = Map::new();
    let kind = source["type"].as_str();
    match (kind, side) {
        (None | Some("any"), _) => {}
        (Some("boolean"), Side::Answer) => {
            target.insert("type".to_owned(), json!("integer"));
            target.insert("enum".to_owned(), json!([0, 1]));
        }
        (Some(kind), _) => {
            target.insert("type".to_owned(), json!(kind));
        }
    }
    for key in ["enum", "minimum", "maximum", "minLength", "maxLength"] {
        if !source[key].is_null() && kind != Some("boolean") {
            target.insert(key.to_owned(), source[key].clone());
        }
    }
    if !source["default"].is_null() && side == Side::Request {
        let default = default_of(kind, &source["default"]);
        // Some defaults of the contract are words that may not be sent: "all" of a list of single keys.
        if fits(kind, source, &default) {
            target.insert("default".to_owned(), default);
        } else {
            target.insert("description".to_owned(), json!(format!("Default: {default}")));
        }
    }
    if let Some(pattern) = source["pattern"].as_str() {
        // The contract's rule: anchors around the whole, without a group.
        target.insert("pattern".to_owned(), json!(format!("^{pattern}$")));
    }
    match &source["format"] {
        Value::String(format) => target.insert("format".to_owned(), json!(format)),
        Value::Object(reference) => target.insert("format".to_owned(), reference["$ref"].clone()),
        _ => None,
    };
    if kind == Some("array") {
        target.insert("items".to_owned(), schema(&source["items"], side));
    }
    if kind == Some("object") {
        object(source, side, &mut target);
    }
    Value::Object(target)
}

fn object(source: &Value, side: Side, target: &mut Map<String, Value>) {
    let mut built = Object::default();
    for (name, property) in source["properties"].as_object().into_iter().flatten() {
        let required = !property["optional"].as_bool().unwrap_or(false);
        built.add(name, schema(property, side), required);
    }
    let is_closed = source["additionalProperties"] == false;
    if let Value::Object(schema) = built.schema(is_closed) {
        target.extend(schema);
    }
}

/// Whether a value may be sent, as far as type, words and limits tell.
fn fits(kind: Option<&str>, source: &Value, value: &Value) -> bool {
    let is_typed = match kind {
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        _ => true,
    };
    let is_word = source["enum"].as_array().is_none_or(|words| words.contains(value));
    let is_within = value.as_f64().is_none_or(|number| {
        source["minimum"].as_f64().is_none_or(|limit| number >= limit)
            && source["maximum"].as_f64().is_none_or(|limit| number <= limit)
    });
    is_typed && is_word && is_within
}

/// A default in the type of its value: the contract has booleans as 1 and 0.
fn default_of(kind: Option<&str>, value: &Value) -> Value {
    match (kind, value) {
        (Some("boolean"), Value::Number(number)) => json!(number.as_i64() != Some(0)),
        (Some("boolean"), Value::String(text)) => json!(text == "1"),
        (Some("string"), Value::Number(number)) => json!(number.to_string()),
        (Some("integer"), Value::String(text)) => text
            .parse::<i64>()
            .map_or_else(|_| value.clone(), |number| json!(number)),
        _ => value.clone(),
    }
}
