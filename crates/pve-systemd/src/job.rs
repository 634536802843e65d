//! Orders that are jobs, and waiting for their ends.

use std::time::Duration;

use futures_util::StreamExt as _;
use zbus::message::Type;
use zbus::zvariant::{DynamicType, OwnedObjectPath};
use zbus::{MatchRule, MessageStream};

use crate::error::SystemdError;
use crate::manager::{INTERFACE, Manager, PATH};
use crate::unit::body;

/// The signal of a job's end.
const REMOVED: &str = "JobRemoved";
/// What it says to whoever listens already.
const SUBSCRIBED: &str = "org.freedesktop.systemd1.AlreadySubscribed";
/// Jobs that may end while one is waited for, before the connection is read again.
const QUEUE: usize = 1024;
/// What happens to a job that another one contradicts: it is dropped.
const MODE: &str = "replace";

/// What is to be done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start it, unless it runs.
    Start,
    /// Stop it.
    Stop,
    /// Stop it if it runs, and start it.
    Restart,
    /// If it runs, reload it, or restart it if it knows no reload.
    TryReloadOrRestart,
}

impl Verb {
    /// As `systemctl` has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::TryReloadOrRestart => "try-reload-or-restart",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
            Self::Restart => "RestartUnit",
            Self::TryReloadOrRestart => "ReloadOrTryRestartUnit",
        }
    }
}

impl Manager {
    /// Does something to a unit and waits until it is done.
    ///
    /// # Errors
    /// systemd cannot be asked, refuses, or the job does not end well within `limit`.
    pub fn run(&self, verb: Verb, unit: &str, limit: Duration) -> Result<(), SystemdError> {
        self.job(verb.method(), &(unit, MODE), unit, limit)
    }

    /// Gives an order that is answered by a job, and waits for the job's end.
    pub(crate) fn job<B>(&self, method: &str, order: &B, unit: &str, limit: Duration) -> Result<(), SystemdError>
    where
        B: serde::Serialize + DynamicType,
    {
        let result = self.wait(limit, async {
            // Before the order: a job may end before its number is known here.
            let mut ends = self.ends().await?;
            let job: OwnedObjectPath = body(&self.call(PATH, INTERFACE, method, order).await?)?;
            while let Some(message) = ends.next().await {
                let (_, ended, _, result): (u32, OwnedObjectPath, String, String) = body(&message?)?;
                if ended == job {
                    return Ok(result);
                }
            }
            Err(SystemdError::Broken("it was closed".to_owned()))
        })?;
        match result.as_str() {
            "done" | "skipped" => Ok(()),
            _ => Err(SystemdError::Job {
                unit: unit.to_owned(),
                result,
            }),
        }
    }

    /// The ends of all jobs from now on.
    async fn ends(&self) -> Result<MessageStream, SystemdError> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .interface(INTERFACE)?
            .member(REMOVED)?
            .path(PATH)?
            .build();
        let stream = MessageStream::for_match_rule(rule, &self.connection, Some(QUEUE)).await?;
        // It tells only while somebody wants to know.
        match self.call(PATH, INTERFACE, "Subscribe", &()).await {
            // The connection has waited for a job before.
            Err(SystemdError::Refused { name, .. }) if name == SUBSCRIBED => Ok(stream),
            other => other.map(|_| stream),
        }
    }
}
