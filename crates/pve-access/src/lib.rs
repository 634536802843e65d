//! Users, rights and tickets (reference 02).
//!
//! | module | holds |
//! |---|---|
//! | [`user_config`] | `user.cfg` as a value |
//! | [`privileges`], [`roles`], [`paths`] | the 47 privileges, the built-in roles, the tree they are granted in |
//! | [`permissions`] | who may do what where |
//! | [`rights`] | the checks that handlers make themselves |
//! | [`check`] | the permission expressions of the contract |
//! | [`text`] | lists and free text in files |

pub mod check;
pub mod error;
pub mod paths;
pub mod permissions;
pub mod privileges;
pub mod rights;
pub mod roles;
pub mod text;
pub mod user_config;

pub use error::AccessError;
pub use user_config::UserConfig;
