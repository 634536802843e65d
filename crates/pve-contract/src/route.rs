//! From a verb and a path to a method (reference 03 §1).

use crate::method::{Method, MethodId, Verb};
use crate::tables;

/// A node of the routing tree. It has either fixed children or one parameter child, never both.
#[derive(Debug)]
pub(crate) struct Node {
    /// The children with a name, sorted.
    pub(crate) fixed: &'static [(&'static str, &'static Node)],
    /// The child that takes any component, with the parameter's name.
    pub(crate) parameter: Option<(&'static str, &'static Node)>,
    /// The methods by verb.
    pub(crate) methods: [Option<MethodId>; 4],
    /// Whether the parameter that leads here takes the whole rest of the path.
    pub(crate) tail: bool,
}

/// Where a request leads.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: &'static Method,
    /// The parameters that are components of the path, unchecked, in the order of the path.
    pub uri_params: Vec<(&'static str, String)>,
}

/// There is no such method: status 501, there is neither 404 nor 405.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such method")]
pub struct NotFound;

/// Finds the method for a path below `/api2/FORMAT`, percent-decoded already. Empty components vanish.
///
/// # Errors
/// There is no such path, or it lacks the verb.
pub fn route(verb: Verb, path: &str) -> Result<Route, NotFound> {
    let mut node = tables::root();
    let mut uri_params = Vec::new();
    let mut components = path.split('/').filter(|component| !component.is_empty());
    while let Some(component) = components.next() {
        if let Some((name, child)) = node.parameter {
            let mut value = component.to_owned();
            if child.tail {
                for rest in components.by_ref() {
                    value.push('/');
                    value.push_str(rest);
                }
            } else if component.contains(char::is_whitespace) {
                return Err(NotFound);
            }
            uri_params.push((name, value));
            node = child;
        } else {
            let at = node.fixed.binary_search_by(|(name, _)| (*name).cmp(component));
            let (_, child) = at.ok().and_then(|at| node.fixed.get(at)).ok_or(NotFound)?;
            node = child;
        }
    }
    let id = node.methods.get(verb as usize).copied().flatten().ok_or(NotFound)?;
    Ok(Route {
        method: tables::method(id),
        uri_params,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(verb: Verb, path: &str) -> (&'static str, Vec<(&'static str, String)>) {
        let route = route(verb, path).unwrap_or_else(|_| panic!("{path} leads nowhere"));
        (route.method.name, route.uri_params)
    }

    fn params(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    /// Reference 03 §8.1, vectors 1 to 6.
    #[test]
    fn requests_find_their_methods() {
        assert_eq!(
            found(Verb::Get, "nodes//pve1///qemu/100/config/"),
            ("vm_config", params(&[("node", "pve1"), ("vmid", "100")]))
        );
        let (_, volume) = found(Verb::Get, "/nodes/pve1/storage/local/content/local:iso/a.iso");
        assert_eq!(volume[2], ("volume", "local:iso/a.iso".to_owned()));
        let (_, volume) = found(Verb::Get, "/nodes/pve1/storage/local/content/local:a//b");
        assert_eq!(volume[2], ("volume", "local:a/b".to_owned()));
        let (_, entry) = found(Verb::Delete, "/cluster/firewall/ipset/x/10.0.0.0/8");
        assert_eq!(entry, params(&[("name", "x"), ("cidr", "10.0.0.0/8")]));
        for (verb, path) in [
            (Verb::Get, "/version/foo"),
            (Verb::Post, "/version"),
            (Verb::Get, "/storage/a/b"),
            (Verb::Get, "/nodes/a b/status"),
            (Verb::Get, "/nope"),
        ] {
            assert_eq!(route(verb, path).unwrap_err(), NotFound, "{verb} {path}");
        }
        let (_, guest) = found(Verb::Get, "/nodes/pve1/qemu/abc/config");
        assert_eq!(guest[1], ("vmid", "abc".to_owned()));
    }

    #[test]
    fn the_root_is_an_index() {
        assert_eq!(found(Verb::Get, ""), ("index", vec![]));
        assert_eq!(found(Verb::Get, "///"), ("index", vec![]));
        assert_eq!(route(Verb::Get, "/").unwrap().method.id, tables::id::GET);
        assert!(route(Verb::Put, "/").is_err());
    }

    #[test]
    fn every_method_routes_to_itself() {
        for method in tables::methods() {
            let route = route(method.verb, method.path).expect("its own template is a path");
            assert_eq!(route.method.id, method.id);
        }
    }
}
