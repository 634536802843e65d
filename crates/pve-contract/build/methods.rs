//! Methods, permissions and the routing tree.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Result;
use crate::emit::{Pool, items, literal, members, option_literal, text};
use crate::schemas::Formats;

/// The verbs in the order of `Verb`'s variants.
pub(crate) const VERBS: [(&str, &str); 4] = [
    ("GET", "Verb::Get"),
    ("POST", "Verb::Post"),
    ("PUT", "Verb::Put"),
    ("DELETE", "Verb::Delete"),
];

/// A method's value.
pub(crate) fn method(
    index: usize,
    path: &str,
    verb: &str,
    method: &Value,
    formats: &Formats,
    pool: &mut Pool,
) -> Result<String> {
    let what = format!("{verb} {path}");
    let flag = |key: &str| method[key].as_bool().unwrap_or(false);
    let verb = VERBS.iter().find(|(name, _)| *name == verb);
    let (_, verb) = verb.ok_or_else(|| format!("{what}: unknown verb"))?;
    let parameters = parameters(&what, &method["parameters"], formats, pool)?;
    let permissions = permissions(&what, &method["permissions"], pool)?;
    let returns = formats.schema(&format!("{what} returns"), &method["returns"], pool)?;
    Ok(format!(
        "Method {{ id: MethodId({index}), verb: {verb}, path: {}, name: {}, protected: {}, proxy_to: {}, \
         proxy_to_check_node: {}, allow_token: {}, expose_credentials: {}, download_allowed: {}, tail_param: {}, \
         permissions: {permissions}, parameters: {parameters}, additional_parameters: {}, returns: &{returns} }}",
        literal(path),
        literal(text(&method["name"], &what)?),
        flag("protected"),
        option_literal(method["proxyto"].as_str()),
        method["proxyto_callback"].is_string(),
        flag("allowtoken"),
        flag("expose_credentials"),
        flag("download_allowed"),
        method["tail_param"].is_string(),
        flag("additional_parameters"),
    ))
}

/// A parameter list: sorted by name, a plain parameter before the family of the same name.
fn parameters(what: &str, parameters: &Value, formats: &Formats, pool: &mut Pool) -> Result<String> {
    let mut sorted = BTreeMap::new();
    for (name, schema) in members(parameters) {
        let what = format!("{what} {name}");
        let (stem, index_max) = match name.strip_suffix("[n]") {
            Some(stem) if stem.ends_with(|c: char| c.is_ascii_digit()) => {
                return Err(format!("{what}: a family's name must not end in a digit").into());
            }
            Some(stem) => (
                stem,
                Some(schema["index_max"].as_u64().ok_or(format!("{what}: no index_max"))?),
            ),
            None => (name.as_str(), None),
        };
        let index = index_max.map_or_else(|| "None".to_owned(), |max| format!("Some({max})"));
        let value = format!(
            "Parameter {{ name: {}, index_max: {index}, in_path: {}, schema: &{} }}",
            literal(stem),
            schema["in"] == "path",
            formats.schema(&what, schema, pool)?,
        );
        sorted.insert((stem, index_max.is_some()), value);
    }
    let list: Vec<String> = sorted.into_values().collect();
    Ok(pool.slice("Parameter", &list))
}

/// A permission rule.
fn permissions(what: &str, permissions: &Value, pool: &mut Pool) -> Result<String> {
    if permissions.is_null() {
        return Ok("None".to_owned());
    }
    let user = match permissions["user"].as_str() {
        None => "None",
        Some("world") => "Some(UserClass::World)",
        Some("all") => "Some(UserClass::All)",
        Some(other) => return Err(format!("{what}: unknown user class '{other}'").into()),
    };
    let check = match &permissions["check"] {
        Value::Null => "None".to_owned(),
        expression => format!("Some({})", check(what, expression, pool)?),
    };
    let handler_checks = permissions["handler_checks"].as_bool().unwrap_or(false);
    Ok(format!(
        "Some(Permissions {{ user: {user}, check: {check}, handler_checks: {handler_checks} }})"
    ))
}

/// A permission expression.
fn check(what: &str, expression: &Value, pool: &mut Pool) -> Result<String> {
    let all = items(expression);
    let unknown = || format!("{what}: unknown permission expression {expression}");
    let (operator, arguments) = all.split_first().ok_or_else(unknown)?;
    let argument = |at: usize| text(arguments.get(at).unwrap_or(&Value::Null), what);
    Ok(match text(operator, what)? {
        operator @ ("and" | "or") => {
            let parts = arguments.iter().map(|part| check(what, part, pool));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            let variant = if operator == "and" { "And" } else { "Or" };
            format!("Check::{variant}({})", pool.slice("Check", &parts))
        }
        "perm" => {
            let privileges = pool.words(arguments.get(1).unwrap_or(&Value::Null), what)?;
            let mut any = false;
            let mut require_param = None;
            for option in arguments.get(2..).unwrap_or_default().chunks(2) {
                match option {
                    [name, value] if name == "any" => any = value.as_u64() == Some(1),
                    [name, value] if name == "require_param" => require_param = Some(text(value, what)?),
                    _ => return Err(unknown().into()),
                }
            }
            format!(
                "Check::Perm {{ path: {}, privileges: {privileges}, any: {any}, require_param: {} }}",
                literal(argument(0)?),
                option_literal(require_param),
            )
        }
        "perm-modify" => format!("Check::PermModify({})", literal(argument(0)?)),
        "userid-param" => match argument(0)? {
            "self" => "Check::UserIdSelf".to_owned(),
            "Realm.AllocateUser" => "Check::UserIdRealm".to_owned(),
            _ => return Err(unknown().into()),
        },
        "userid-group" => {
            let privileges = pool.words(arguments.first().unwrap_or(&Value::Null), what)?;
            let groups = match (arguments.get(1), arguments.get(2).and_then(Value::as_str)) {
                (None, None) => "Ignored",
                (Some(name), Some("create")) if name == "groups_param" => "Create",
                (Some(name), Some("update")) if name == "groups_param" => "Update",
                _ => return Err(unknown().into()),
            };
            format!("Check::UserIdGroup {{ privileges: {privileges}, groups: GroupsParam::{groups} }}")
        }
        _ => return Err(unknown().into()),
    })
}

/// A node of the routing tree while it grows.
#[derive(Default)]
pub(crate) struct Node {
    fixed: BTreeMap<String, Node>,
    parameter: Option<(String, Box<Node>)>,
    methods: [Option<usize>; 4],
    tail: bool,
}

impl Node {
    /// Adds a method below this node.
    pub(crate) fn insert(&mut self, path: &str, verb: &str, index: usize, tail: bool) -> Result<()> {
        let mut node = self;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            node = match component.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                None => node.fixed.entry(component.to_owned()).or_default(),
                Some(name) => {
                    let (known, child) = node.parameter.get_or_insert_with(|| (name.to_owned(), Box::default()));
                    if known != name {
                        return Err(format!("{path}: this component is called '{known}' elsewhere").into());
                    }
                    child
                }
            };
        }
        let at = VERBS.iter().position(|(name, _)| *name == verb).ok_or("unknown verb")?;
        node.methods[at] = Some(index);
        node.tail |= tail;
        Ok(())
    }

    /// Defines the node and all below it; answers the static's name.
    pub(crate) fn emit(&self, pool: &mut Pool) -> Result<String> {
        if self.parameter.is_some() && !self.fixed.is_empty() {
            return Err("a node of the tree has fixed children and a parameter".into());
        }
        let mut fixed = Vec::new();
        for (name, child) in &self.fixed {
            fixed.push(format!("({}, &{})", literal(name), child.emit(pool)?));
        }
        let fixed = pool.slice("(&str, &Node)", &fixed);
        let parameter = match &self.parameter {
            Some((name, child)) => format!("Some(({}, &{}))", literal(name), child.emit(pool)?),
            None => "None".to_owned(),
        };
        let methods = self.methods.map(|index| match index {
            Some(index) => format!("Some(MethodId({index}))"),
            None => "None".to_owned(),
        });
        let value = format!(
            "Node {{ fixed: {fixed}, parameter: {parameter}, methods: [{}], tail: {} }}",
            methods.join(", "),
            self.tail,
        );
        Ok(pool.define("R", "Node", &value))
    }
}
