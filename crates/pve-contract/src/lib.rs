//! The API contract as data: every path, parameter, permission and routing flag, in static tables that the build script
//! makes from `contract/pve-9.2.json` and `contract/formats.json`.
//!
//! Nothing of the contract is written a second time in code. Handlers bind to the ids in [`id`], which exist only for
//! methods that the contract has.

mod call;
mod method;
mod route;
mod tables;
pub mod version;

pub use call::{Merged, check_call, merge};
pub use method::{Check, GroupsParam, Method, MethodId, Permissions, UserClass, Verb};
pub use pve_schema::schema::Parameter;
pub use route::{NotFound, Route, route};
/// The contract as an OpenAPI 3.1 description in JSON, packed by gzip.
pub static OPENAPI_GZIP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));

pub use tables::{RELEASE, find, id, method, methods, named, named_format, paths, property, property_format};
