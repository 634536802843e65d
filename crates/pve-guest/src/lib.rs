//! What virtual machines and containers share: the config file's grammar, its sections, pending changes, the config
//! lock, tags (reference 06a §2, §3.5, 07 §1).
//!
//! A guest's config is an ordered map of keys to text in several sections ([`GuestConfig`]). What a key means is the
//! guest type's affair: it hands its [`KeyRules`] to the parser. Nothing here knows a disk from a network card, and
//! nothing here talks to a running guest.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the config: sections, accessors, lock, digest |
//! | [`pending`] | pending changes and deletions |
//! | [`store`] | where configs lie, how they are locked, read and written |
//! | [`interface`] | the host's ends of guests' network cards |
//! | [`rates`] | how busy guests are, from two readings |
//! | [`tags`] | tags: normal form and who may change one |

pub mod config;
pub mod error;
pub mod interface;
mod parse;
pub mod pending;
mod print;
pub mod rates;
pub mod rules;
pub mod section;
pub mod store;
pub mod tags;

pub use config::GuestConfig;
pub use error::GuestError;
pub use parse::{ParseWarning, Parsed};
pub use pending::{PendingDeletes, PendingItem};
pub use pve_cfs::GuestKind;
pub use pve_schema::startup::Startup;
pub use rules::KeyRules;
pub use section::Section;
pub use store::GuestStore;
