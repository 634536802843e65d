//! Values: the types that every other crate speaks.
//!
//! Nothing here does I/O. A value that enters the suite as text – a node name, a VMID, a volume id, a parameter, a
//! property string, a section file – becomes a type here and stays one.
//!
//! | module | holds |
//! |---|---|
//! | [`site`] | where an instance of the suite lives: root, address, node, users |
//! | [`clock`] | the injected clock |
//! | [`ids`] | names that can hold only valid values |
//! | [`params`] | the checked parameters of a call |
//! | [`schema`] | what a value may look like |
//! | [`pattern`] | regular expressions, compiled when first needed |
//! | [`format`] | named text formats |
//! | [`property_string`] | `key=value,…` texts |
//! | [`list`] | lists in one text |
//! | [`failure`] | what every crate's error can tell the API about itself |

pub mod clock;
pub mod failure;
pub mod format;
pub mod ids;
pub mod list;
pub mod params;
pub mod pattern;
pub mod property_string;
pub mod schema;
pub mod site;

pub use clock::{Clock, SystemClock};
pub use failure::{Failure, ParamErrors};
pub use params::{Param, Params};
pub use site::{Context, Site};
