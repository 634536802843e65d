//! This node, whose methods are called in this process as root, or another one, which is asked with a token.

use std::io::{Cursor, Read};

use pve_contract::Route;
use pve_schema::ids::Upid;
use serde_json::{Map, Value};

use super::NAME;
use super::line::Line;
use crate::api::arguments::Arguments;
use crate::api::connect::{Connection, TOKEN_VARIABLE};
use crate::api::remote::{self, Remote};
use crate::api::{CallError, Local, follow, follow_remote, run};

/// Whose methods are called.
pub(super) enum Node {
    /// This one's.
    Here(Local),
    /// Another one's.
    There(Remote),
}

/// What a method answered.
pub(super) enum Answer {
    /// Data.
    Data(Value),
    /// A file instead.
    File(Box<dyn Read>),
}

impl Node {
    /// The one that a command line names.
    pub(super) fn of(line: &Line, arguments: &Arguments) -> Result<Self, CallError> {
        Self::named(&line.connection, arguments)
    }

    /// The one that options name.
    pub(super) fn named(connection: &Connection, arguments: &Arguments) -> Result<Self, CallError> {
        match connection.target(std::env::var(TOKEN_VARIABLE).ok())? {
            Some(target) => Ok(Self::There(Remote::new(target)?)),
            None => Ok(Self::Here(run::local(NAME, arguments)?)),
        }
    }

    /// Calls the method that a path led to.
    pub(super) fn call(&self, route: Route, path: &str, params: Map<String, Value>) -> Result<Answer, CallError> {
        match self {
            Self::Here(local) => {
                let reply = local.call_route(route, params)?;
                Ok(match reply.download {
                    Some(download) => Answer::File(Box::new(download.content.into_reader())),
                    None => Answer::Data(reply.data),
                })
            }
            Self::There(remote) => Ok(match remote.call(route.method, path, &params)?? {
                remote::Answer::Data(data) => Answer::Data(data),
                remote::Answer::File(bytes) => Answer::File(Box::new(Cursor::new(bytes))),
            }),
        }
    }

    /// Prints the log of the task that a call started. How it ends is in the log; that it was started is what was asked for.
    pub(super) fn follow(&self, data: &Value, quiet: bool) -> Result<(), CallError> {
        match self {
            Self::Here(local) => {
                if let Some(upid) = follow::task(local.context(), data) {
                    follow::follow(local.context(), &upid, quiet)?;
                }
            }
            Self::There(remote) => {
                if let Some(upid) = data.as_str().and_then(|text| text.parse::<Upid>().ok()) {
                    follow_remote::follow(remote, &upid, quiet)?;
                }
            }
        }
        Ok(())
    }
}
