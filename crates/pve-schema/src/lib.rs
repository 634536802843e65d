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
//! | [`failure`] | what every crate's error can tell the API about itself |
//! | [`schema`] | what a value may look like |
//! | [`check`] | checks of parameters against their schemas |
//! | [`format`] | named text formats |
//! | [`pattern`] | regular expressions, compiled when first needed |
//! | [`decode`] | query strings and bodies |
//! | [`property_string`] | `key=value,…` texts |
//! | [`section_config`] | files of sections: `storage.cfg`, `domains.cfg` |
//! | [`simple_config`] | files of `key: value` lines: `datacenter.cfg` |
//! | [`list`], [`idmap`], [`size`], [`startup`], [`calendar`], [`text`] | small languages inside values |
//! | [`shell`] | words of a command line, as a shell takes them |
//! | [`digest`] | digests of configuration files |
//!
//! The one exception to "no I/O": time zones, services and protocols are looked up in the host's own tables.

pub mod calendar;
pub mod check;
pub mod clock;
pub mod decode;
pub mod digest;
pub mod failure;
pub mod format;
pub mod idmap;
pub mod ids;
pub mod list;
pub mod params;
pub mod pattern;
pub mod property_string;
pub mod schema;
pub mod section_config;
pub mod shell;
pub mod simple_config;
pub mod site;
pub mod size;
pub mod startup;
pub mod text;

pub use clock::{Clock, SystemClock};
pub use failure::{Failure, ParamErrors, errno_text};
pub use params::{Param, Params};
pub use site::{Context, Site};
