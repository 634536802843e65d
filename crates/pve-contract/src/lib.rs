//! The API contract as data: every path, parameter, permission and routing flag, in static tables that the build script
//! makes from `contract/pve-9.2.json` and `contract/formats.json`.
//!
//! Nothing of the contract is written a second time in code. Handlers bind to the ids in [`id`], which exist only for
//! methods that the contract has.

mod method;

pub use method::{Check, GroupsParam, Method, MethodId, Parameter, Permissions, UserClass, Verb};
