//! What can go wrong, and what `systemctl` would end with.

use std::io;
use std::time::Duration;

use pve_schema::{Failure, errno_text};

/// Names of D-Bus errors begin so when systemd makes them.
const SYSTEMD: &str = "org.freedesktop.systemd1.";
/// And so when they are the bus's own.
const BUS: &str = "org.freedesktop.DBus.Error.";

/// What can go wrong between this process and systemd.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// systemd does not run here.
    #[error("System has not been booted with systemd as init system (PID 1). Can't operate.")]
    NotHere,
    /// The bus cannot be had.
    #[error("Failed to connect to bus: {0}")]
    Connect(String),
    /// What the connection needs of the kernel cannot be had.
    #[error("Failed to connect to bus: {}", errno_text(.0))]
    Resources(io::Error),
    /// It says no.
    #[error("{message}")]
    Refused {
        /// The error's name.
        name: String,
        /// Its words, for people.
        message: String,
    },
    /// The connection broke, or what came was not what was asked for.
    #[error("connection to systemd failed: {0}")]
    Broken(String),
    /// A job ended otherwise than done.
    #[error("Job for {unit} {}.", job_words(.result))]
    Job {
        /// Whose.
        unit: String,
        /// As systemd names it: `failed`, `timeout`, `canceled`.
        result: String,
    },
    /// It did not answer.
    #[error("got no answer from systemd within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl Failure for SystemdError {}

impl SystemdError {
    /// Whether systemd knows of no such unit.
    pub fn is_no_such_unit(&self) -> bool {
        matches!(self, Self::Refused { name, .. } if name.strip_prefix(SYSTEMD) == Some("NoSuchUnit"))
    }

    /// What `systemctl start` and its like end with (systemctl(1), exit status; the codes of LSB init scripts).
    pub fn exit_code(&self) -> i32 {
        let Self::Refused { name, .. } = self else { return 1 };
        let known = name.strip_prefix(SYSTEMD).or_else(|| name.strip_prefix(BUS));
        match known.unwrap_or_default() {
            "JobTypeNotApplicable" | "NotSupported" => 3,
            "AccessDenied" | "OnlyByDependency" | "NoIsolation" | "TransactionIsDestructive" => 4,
            "NoSuchUnit" => 5,
            "LoadFailed" => 6,
            _ => 1,
        }
    }
}

/// What is said of a job that ended so.
fn job_words(result: &str) -> &'static str {
    match result {
        "timeout" => "timed out",
        "canceled" => "canceled",
        "dependency" => "failed because a dependency failed",
        "invalid" => "is not applicable",
        "assert" => "failed an assertion",
        "unsupported" => "is not supported",
        "collected" => "was garbage collected",
        "once" => "was started once already and cannot be started again",
        _ => "failed",
    }
}

impl From<zbus::Error> for SystemdError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => Self::Refused {
                message: message.unwrap_or_else(|| name.to_string()),
                name: name.to_string(),
            },
            other => Self::Broken(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_systemctls_exit_code() {
        for (name, code) in [
            ("org.freedesktop.systemd1.NoSuchUnit", 5),
            ("org.freedesktop.systemd1.UnitMasked", 1),
            ("org.freedesktop.systemd1.OnlyByDependency", 4),
            ("org.freedesktop.systemd1.TransactionIsDestructive", 4),
            ("org.freedesktop.DBus.Error.AccessDenied", 4),
            ("org.freedesktop.DBus.Error.NotSupported", 3),
            ("org.freedesktop.systemd1.JobTypeNotApplicable", 3),
            ("org.freedesktop.systemd1.LoadFailed", 6),
            ("org.example.NoSuchUnit", 1),
        ] {
            let refused = SystemdError::Refused {
                name: name.to_owned(),
                message: "no".to_owned(),
            };
            assert_eq!(refused.exit_code(), code, "{name}");
            assert_eq!(refused.is_no_such_unit(), code == 5, "{name}");
        }
        assert_eq!(SystemdError::NotHere.exit_code(), 1);
    }

    #[test]
    fn a_job_that_failed_says_how() {
        for (result, text) in [
            ("failed", "Job for cron.service failed."),
            ("timeout", "Job for cron.service timed out."),
            ("dependency", "Job for cron.service failed because a dependency failed."),
        ] {
            let error = SystemdError::Job {
                unit: "cron.service".to_owned(),
                result: result.to_owned(),
            };
            assert_eq!((error.to_string().as_str(), error.exit_code()), (text, 1));
        }
    }
}
