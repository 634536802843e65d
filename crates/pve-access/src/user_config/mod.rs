//! `user.cfg`: users, tokens, groups, pools, roles and ACLs (reference 02 §4).
//!
//! [`UserConfig`] is the file as a value; [`parse`](UserConfig::parse) never fails, it warns. What a person wrote and
//! the grammar does not know – comments, unknown records, records that can never become valid – is kept in place.

mod kept;
mod model;
mod parse;
mod print;
#[cfg(test)]
mod tests;

pub use model::{AclEntry, AclMember, Group, Pool, RoleFlags, Token, User, UserConfig, is_name, is_pool_name};
