//! The tables that the build script makes, and the ways into them.

use pve_schema::format::NamedFormat;
use pve_schema::pattern::Pattern;
use pve_schema::schema::{Format, Hints, Kind, Parameter, PropertyFormat, PropertyKey, Renderer, Schema, Suffix};

use crate::method::{Check, GroupsParam, Method, MethodId, Permissions, UserClass, Verb};
use crate::route::Node;

/// What the schemas of the tables spread from.
const ANY: Schema = Schema::of(Kind::Any);

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// The root of the routing tree.
pub(crate) fn root() -> &'static Node {
    ROOT
}

/// The index of the whole tree: `GET /`, which the contract does not list (reference 03 §1.1).
static INDEX: Method = Method {
    id: id::GET,
    verb: Verb::Get,
    path: "/",
    name: "index",
    protected: false,
    proxy_to: None,
    proxy_to_check_node: false,
    allow_token: true,
    expose_credentials: false,
    download_allowed: false,
    tail_param: false,
    permissions: Some(Permissions {
        user: Some(UserClass::All),
        check: None,
        handler_checks: false,
    }),
    parameters: &[],
    additional_parameters: false,
    returns: &Schema {
        items: Some(&Schema {
            properties: &[("subdir", &Schema::of(Kind::String))],
            ..Schema::of(Kind::Object)
        }),
        child_href: Some("{subdir}"),
        ..Schema::of(Kind::Array)
    },
};

/// A method by its id.
pub fn method(id: MethodId) -> &'static Method {
    // Ids are made by the build script alone, for methods of the table; the one that is not in it is the index.
    METHODS.get(id.index()).unwrap_or(&INDEX)
}

/// All methods of the contract, sorted by path and then by verb.
pub fn methods() -> &'static [Method] {
    &METHODS
}

/// All path templates, sorted.
pub fn paths() -> &'static [&'static str] {
    &PATHS
}

/// A method by its path template, `/nodes/{node}/qemu` for one.
pub fn find(path: &str, verb: Verb) -> Option<&'static Method> {
    let at = METHODS
        .binary_search_by(|method| method.path.cmp(path).then(method.verb.cmp(&verb)))
        .ok()?;
    METHODS.get(at)
}

/// A named format, without a suffix.
pub fn named_format(name: &str) -> Option<&'static NamedFormat> {
    let at = NAMED.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    NAMED.get(at).map(|(_, format)| *format)
}

/// A property-string format, `qemu.net` for one.
pub fn property_format(name: &str) -> Option<&'static PropertyFormat> {
    let at = PROPERTY.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    PROPERTY.get(at).map(|(_, format)| *format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_has_675_methods_on_444_paths() {
        assert_eq!((methods().len(), paths().len()), (675, 444));
        assert_eq!(RELEASE, "9.2.3");
    }

    #[test]
    fn every_method_is_found_by_path_and_verb() {
        for method in methods() {
            let found = find(method.path, method.verb).expect("in the table");
            assert_eq!(found.id, method.id, "{} {}", method.verb, method.path);
            assert_eq!(super::method(method.id).path, method.path);
        }
        assert!(find("/nope", Verb::Get).is_none());
    }

    #[test]
    fn parameters_are_found_by_their_name_as_sent() {
        let create = method(id::POST_NODES_NODE_QEMU);
        let family = |name: &str| create.parameter(name).map(|p| (p.name, p.index_max));
        assert_eq!(family("net3"), Some(("net", Some(31))));
        assert_eq!(family("scsi30"), Some(("scsi", Some(30))));
        assert_eq!(family("numa"), Some(("numa", None)));
        assert!(matches!(family("numa0"), Some(("numa", Some(_)))));
        for unknown in [
            "net",
            "net03",
            "net32",
            "scsi31",
            "net-1",
            "net3x",
            "",
            "0",
            "net99999999999",
        ] {
            assert_eq!(family(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn parameter_lists_are_sorted_for_the_search() {
        for method in methods() {
            for parameter in method.parameters {
                let sent = match parameter.index_max {
                    Some(max) => format!("{}{max}", parameter.name),
                    None => parameter.name.to_owned(),
                };
                let found = method.parameter(&sent).expect("declared");
                assert!(std::ptr::eq(found, parameter), "{} {} {sent}", method.verb, method.path);
            }
        }
    }
}
