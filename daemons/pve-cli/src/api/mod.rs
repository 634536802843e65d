//! Command lines that call methods of the API in this process, as root (reference 03 §7).
//!
//! A tool is a table of verbs: which method each calls, and which of its parameters are words without a name. Options, their
//! types and their defaults come from the contract, so that a method that gets a handler is a verb that works.
//!
//! ```text
//! words ── verb ──▶ options ──▶ secrets ──▶ method, in-process ──▶ task's log ──▶ output
//!         verbs     arguments    password    local                  follow         ../output
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`verbs`] | the table, and finding a verb in it |
//! | [`arguments`] | words to parameters |
//! | [`usage`] | usage and help texts |
//! | [`connect`], [`remote`] | another node, and calls of its methods, for `pvesh` |
//! | [`complete`] | what a shell offers after the words so far |
//! | [`password`] | secrets that are typed or piped |
//! | [`local`] | the call itself |
//! | [`signals`] | what ends the program waits for the end of a call |
//! | [`follow`], [`follow_remote`] | the log of the task that a call started, here and on another node |
//! | [`progress`] | that something goes on |
//! | [`run`] | all of that for one command line |
//! | [`error`] | what can go wrong |

pub(crate) mod arguments;
pub(crate) mod complete;
pub(crate) mod connect;
pub(crate) mod error;
pub(crate) mod follow;
pub(crate) mod follow_remote;
pub(crate) mod local;
mod password;
mod progress;
pub(crate) mod remote;
pub(crate) mod run;
mod signals;
pub(crate) mod usage;
pub(crate) mod verbs;

pub(crate) use error::CallError;
pub(crate) use local::Local;
pub(crate) use run::main;
pub(crate) use verbs::{
    ANY, Action, Entry, FLAG, HERE, Positional, Program, Prompt, Secret, Shown, Verb, Work, for_people, is_set,
    parameter,
};
