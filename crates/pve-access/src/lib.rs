//! Users, rights and tickets (reference 02).
//!
//! | module | holds |
//! |---|---|
//! | [`user_config`] | `user.cfg` as a value |
//! | [`privileges`], [`roles`], [`paths`] | the 47 privileges, the built-in roles, the tree they are granted in |
//! | [`permissions`] | who may do what where |
//! | [`rights`] | the checks that handlers make themselves |
//! | [`check`] | the permission expressions of the contract |
//! | [`domains`], [`password`], [`pam`], [`ldap`] | realms and changes of them, and where their users' passwords are |
//! | [`tfa`] | second factors: who has which, answers, locks, changes |
//! | [`ticket`], [`secret`], [`token`] | what proves who somebody is |
//! | [`credentials`] | where a request carries it |
//! | [`access_control`] | all of that for one request |
//! | [`openid`] | logging in at an identity provider |
//! | [`login`], [`limits`], [`auth_log`] | logging in, and failing to; the lines about that |
//! | [`counters`] | how often that happened |
//! | [`edit`] | changes under the lock, also on behalf of other parts |
//! | [`users`], [`acl`], [`pools`] | making and deleting users, granting and revoking roles, pools and their members |
//! | `helper` | what is done in a process of its own |
//! | [`store`] | the names of the files, and changes under their locks |
//! | `crowd` | how many may wait at once |
//!
//! Not here: the API's methods (`pve-api`), the delays and empty bodies of refused requests (`pve-http`).

pub mod access_control;
pub mod acl;
pub mod auth_log;
pub mod check;
pub mod counters;
pub mod credentials;
mod crowd;
pub mod domains;
pub mod edit;
pub mod error;
mod helper;
pub mod ldap;
pub mod limits;
pub mod login;
pub mod openid;
pub mod pam;
pub mod password;
pub mod paths;
pub mod permissions;
pub mod pools;
pub mod privileges;
pub mod rights;
pub mod roles;
pub mod secret;
pub mod store;
pub mod tfa;
pub mod ticket;
pub mod token;
pub mod user_config;
pub mod users;

pub use access_control::AccessControl;
pub use credentials::Credentials;
pub use error::AccessError;
pub use user_config::UserConfig;
