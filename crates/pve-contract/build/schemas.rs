//! Formats and schemas.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::Result;
use crate::emit::{Pool, identifier, items, literal, members, option_literal, text};

/// What a format's name in a schema stands for.
pub(crate) struct Formats {
    named: BTreeMap<String, String>,
    properties: BTreeMap<String, String>,
}

impl Formats {
    /// Emits all formats: modules `named` and `property`.
    pub(crate) fn emit(formats: &Value, pool: &mut Pool, out: &mut String) -> Result<Self> {
        let mut all = Self {
            named: BTreeMap::new(),
            properties: BTreeMap::new(),
        };
        out.push_str("/// The named text formats.\npub mod named {\n    use super::*;\n");
        for (name, format) in members(&formats["named"]) {
            let constant = identifier(name);
            let value = named_format(name, format, &words(name, &formats["named"]), pool)?;
            writeln!(
                out,
                "    /// `{name}`\n    pub static {constant}: NamedFormat = {value};"
            )?;
            all.named.insert(name.clone(), format!("named::{constant}"));
        }
        let names = all
            .named
            .iter()
            .map(|(name, path)| format!("({}, &{path})", literal(name)));
        let names: Vec<String> = names.collect();
        writeln!(
            out,
            "}}\nstatic NAMED: [(&str, &NamedFormat); {}] = [{}];",
            names.len(),
            names.join(", ")
        )?;

        // Names first: a key of one format may be a property string of another.
        for section in ["property_strings", "inline_property_strings"] {
            for (name, _) in members(&formats[section]) {
                let path = format!("property::{}", identifier(name));
                if all.properties.values().any(|known| *known == path) {
                    return Err(format!("{name}: two property-string formats with this constant").into());
                }
                all.properties.insert(name.clone(), path);
            }
        }
        out.push_str("/// The property-string formats.\npub mod property {\n    use super::*;\n");
        for section in ["property_strings", "inline_property_strings"] {
            for (name, format) in members(&formats[section]) {
                let value = all.property_format(name, format, pool)?;
                let constant = identifier(name);
                writeln!(
                    out,
                    "    /// `{name}`\n    pub static {constant}: PropertyFormat = {value};"
                )?;
            }
        }
        let names = all
            .properties
            .iter()
            .map(|(name, path)| format!("({}, &{path})", literal(name)));
        let names: Vec<String> = names.collect();
        writeln!(
            out,
            "}}\nstatic PROPERTY: [(&str, &PropertyFormat); {}] = [{}];",
            names.len(),
            names.join(", ")
        )?;
        Ok(all)
    }

    fn property_format(&self, name: &str, format: &Value, pool: &mut Pool) -> Result<String> {
        let mut keys = Vec::new();
        for (key, schema) in members(&format["keys"]) {
            let what = format!("{name}.{key}");
            // A key that stands for another has no schema of its own and is never required.
            let schema_name = if schema["alias"].is_string() {
                pool.define("S", "Schema", "Schema { optional: true, ..ANY }")
            } else {
                self.schema(&what, schema, pool)?
            };
            keys.push(format!(
                "PropertyKey {{ name: {}, schema: &{schema_name}, default_key: {}, alias: {}, key_alias: {} }}",
                literal(key),
                schema["default_key"].as_bool().unwrap_or(false),
                option_literal(schema["alias"].as_str()),
                option_literal(schema["keyAlias"].as_str()),
            ));
        }
        let keys = pool.slice("PropertyKey", &keys);
        let validator = match &format["validator"] {
            Value::Null => "None".to_owned(),
            _ => format!(
                "Some(pve_schema::property_string::validators::{})",
                name.replace('-', "_")
            ),
        };
        Ok(format!(
            "PropertyFormat {{ name: {}, keys: {keys}, validator: {validator} }}",
            literal(name)
        ))
    }

    /// Defines a schema and answers the name of its static.
    pub(crate) fn schema(&self, what: &str, schema: &Value, pool: &mut Pool) -> Result<String> {
        let fields = self.schema_fields(what, schema, pool)?;
        let value = if fields.is_empty() {
            "ANY".to_owned()
        } else {
            format!("Schema {{ {}, ..ANY }}", fields.join(", "))
        };
        Ok(pool.define("S", "Schema", &value))
    }

    fn schema_fields(&self, what: &str, schema: &Value, pool: &mut Pool) -> Result<Vec<String>> {
        let mut fields = Vec::new();
        let mut set = |name: &str, value: String| fields.push(format!("{name}: {value}"));
        for (key, value) in members(schema) {
            match key.as_str() {
                "type" => set("kind", format!("Kind::{}", kind(what, value)?)),
                "optional" => set("optional", value.as_bool().unwrap_or(false).to_string()),
                "enum" => set("words", pool.words(value, what)?),
                "minimum" => set("minimum", number(what, value)?),
                "maximum" => set("maximum", number(what, value)?),
                "minLength" => set("min_length", format!("Some({value})")),
                "maxLength" => set("max_length", format!("Some({value})")),
                "pattern" => set(
                    "pattern",
                    format!("Some(&{})", pattern("new", text(value, what)?, pool)),
                ),
                "format" => set("format", format!("Some({})", self.reference(what, value)?)),
                "requires" => set("requires", format!("Some({})", literal(text(value, what)?))),
                "items" => set("items", format!("Some(&{})", self.schema(what, value, pool)?)),
                "properties" => set("properties", self.properties(what, value, pool)?),
                "additionalProperties" if value.is_object() => {
                    set("additional", format!("Some(&{})", self.schema(what, value, pool)?));
                }
                "additionalProperties" => set("open", value.as_bool().unwrap_or(true).to_string()),
                "oneOf" => {
                    let variants = items(value).iter().map(|variant| self.schema(what, variant, pool));
                    let variants: Vec<String> = variants.collect::<Result<Vec<_>>>()?;
                    let variants: Vec<String> = variants.iter().map(|name| format!("&{name}")).collect();
                    set("variants", pool.slice("&Schema", &variants));
                }
                "type-property" => set("type_property", format!("Some({})", literal(text(value, what)?))),
                "instance-types" => set("instance_types", pool.words(value, what)?),
                "default" => set("default", format!("Some({})", literal(&default_text(value)))),
                "links" => {
                    if let Some(href) = value[0]["href"].as_str() {
                        set("child_href", format!("Some({})", literal(href)));
                    }
                }
                // Of the parameter or the key, not of its value.
                "in" | "index_max" | "alias" | "keyAlias" | "default_key" => {}
                // Together, below.
                "typetext" | "format_description" | "renderer" | "title" | "print_width" => {}
                // For people who read the contract.
                "default_rule" => {}
                other => return Err(format!("{what}: unknown schema key '{other}'").into()),
            }
        }
        if let Some(hints) = hints(what, schema, pool)? {
            fields.push(format!("hints: Some(&{hints})"));
        }
        Ok(fields)
    }

    fn properties(&self, what: &str, properties: &Value, pool: &mut Pool) -> Result<String> {
        let mut list = Vec::new();
        let mut sorted: Vec<_> = members(properties).collect();
        sorted.sort_by_key(|(name, _)| name.as_str());
        for (name, schema) in sorted {
            let schema = self.schema(&format!("{what}.{name}"), schema, pool)?;
            list.push(format!("({}, &{schema})", literal(name)));
        }
        Ok(pool.slice("(&str, &Schema)", &list))
    }

    /// A `Format` value.
    fn reference(&self, what: &str, format: &Value) -> Result<String> {
        if let Some(name) = format["$ref"].as_str() {
            let path = self
                .properties
                .get(name)
                .ok_or_else(|| format!("{what}: no format '{name}'"))?;
            return Ok(format!("Format::Properties(&{path})"));
        }
        let name = text(format, what)?;
        if let Some(path) = self.properties.get(name) {
            return Ok(format!("Format::Properties(&{path})"));
        }
        for (suffix, variant) in [("", "None"), ("-list", "List"), ("-opt", "Optional")] {
            if let Some(path) = name.strip_suffix(suffix).and_then(|base| self.named.get(base)) {
                return Ok(format!("Format::Named(&{path}, Suffix::{variant})"));
            }
        }
        Err(format!("{what}: no format '{name}'").into())
    }
}

/// Formats whose regular expression is not the whole truth: their notes in `formats.json` name further error texts.
const WITH_NOTES: [&str; 2] = ["pve-poolid", "pve-userid"];

/// A named format's value. A rule in words is a function of `pve_schema::format::rules` of the same name: one that is
/// missing there does not compile.
fn named_format(name: &str, format: &Value, words: &Value, pool: &mut Pool) -> Result<String> {
    let mut fields = Vec::new();
    match format["kind"].as_str() {
        Some("regex") => {
            let regex = text(&format["regex"], name)?;
            fields.push(format!("pattern: Some(&{})", pattern("anchored", regex, pool)));
        }
        Some("rule") => {}
        other => return Err(format!("{name}: unknown kind {other:?}").into()),
    }
    if format["kind"] == "rule" || WITH_NOTES.contains(&name) {
        let function = name.replace('-', "_").to_ascii_lowercase();
        fields.push(format!("rule: Some(pve_schema::format::rules::{function})"));
    }
    if let (Some(length), Some(error)) = (format["min_length"].as_u64(), format["min_length_error"].as_str()) {
        fields.push(format!("min_length: Some(({length}, {}))", literal(error)));
    }
    let words = pool.words(words, name)?;
    let error = literal(format["error"].as_str().unwrap_or_default());
    fields.push(format!("words: {words}"));
    Ok(format!(
        "NamedFormat {{ {}, ..NamedFormat::new({}, {error}) }}",
        fields.join(", "),
        literal(name)
    ))
}

/// The words of a named format. Destination ports may be the names of ICMP types, of both families.
fn words(name: &str, named: &Value) -> Value {
    let format = match name {
        "pve-fw-dport-spec" => &named["pve-fw-icmp-type-spec"],
        _ => &named[name],
    };
    let lists = ["values", "values_v4", "values_v6"].map(|key| items(&format[key]));
    Value::Array(lists.concat())
}

/// What usage texts and the command lines' tables need: the name of a static, where there is anything.
fn hints(what: &str, schema: &Value, pool: &mut Pool) -> Result<Option<String>> {
    let mut fields = Vec::new();
    for (key, field) in [
        ("title", "title"),
        ("typetext", "type_text"),
        ("format_description", "description"),
    ] {
        if !schema[key].is_null() {
            fields.push(format!("{field}: Some({})", literal(text(&schema[key], what)?)));
        }
    }
    if let Some(width) = schema["print_width"].as_u64() {
        fields.push(format!("print_width: Some({width})"));
    }
    if !schema["renderer"].is_null() {
        let renderer = match text(&schema["renderer"], what)? {
            "bytes" => "Bytes",
            "duration" => "Duration",
            "timestamp" => "Timestamp",
            "timestamp_gmt" => "TimestampGmt",
            "fraction_as_percentage" => "Percentage",
            "yaml" => "Yaml",
            other => return Err(format!("{what}: unknown renderer '{other}'").into()),
        };
        fields.push(format!("renderer: Some(Renderer::{renderer})"));
    }
    if fields.is_empty() {
        return Ok(None);
    }
    let value = format!("Hints {{ {}, ..Hints::NONE }}", fields.join(", "));
    Ok(Some(pool.define("H", "Hints", &value)))
}

fn pattern(constructor: &str, source: &str, pool: &mut Pool) -> String {
    pool.define("P", "Pattern", &format!("Pattern::{constructor}({})", literal(source)))
}

fn kind(what: &str, value: &Value) -> Result<&'static str> {
    Ok(match text(value, what)? {
        "string" => "String",
        // A slip of upstream's in `pve-sdn-dhcp-range`: no such type. The handler checks these addresses (10b §7).
        "ip" => "String",
        "boolean" => "Boolean",
        "integer" => "Integer",
        "number" => "Number",
        "array" => "Array",
        "object" => "Object",
        "null" => "Null",
        "any" => "Any",
        other => return Err(format!("{what}: unknown type '{other}'").into()),
    })
}

fn number(what: &str, value: &Value) -> Result<String> {
    let number = value
        .as_f64()
        .ok_or_else(|| format!("{what}: expected a number, got {value}"))?;
    Ok(format!("Some({number:?})"))
}

/// A default as the text it would be sent as.
fn default_text(value: &Value) -> String {
    match value {
        Value::Bool(on) => if *on { "1" } else { "0" }.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
