//! What can be done to a service, as tasks.

use std::time::Duration;

use pve_schema::Site;
use pve_systemd::{Manager, SystemdError, Verb};
use pve_task::{Kinds, Task, TaskError, Worker};
use serde::{Deserialize, Serialize};

use super::unit_name;

/// How long a service may take: units have limits of their own, 90 s unless they say otherwise, for each step.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Without these nobody could start anything any more.
const ESSENTIAL: [&str; 3] = ["pveproxy", "pvedaemon", "pve-cluster"];

/// What can be done to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Start it.
    Start,
    /// Stop it, unless it is essential.
    Stop,
    /// Stop and start it.
    Restart,
    /// Have it read its settings again, or restart it if it cannot.
    Reload,
}

impl Command {
    /// The type of its tasks.
    pub fn worker_type(self) -> &'static str {
        match self {
            Self::Start => "srvstart",
            Self::Stop => "srvstop",
            Self::Restart => "srvrestart",
            Self::Reload => "srvreload",
        }
    }

    fn verb(self) -> Verb {
        match self {
            Self::Start => Verb::Start,
            Self::Stop => Verb::Stop,
            Self::Restart => Verb::Restart,
            Self::Reload => Verb::TryReloadOrRestart,
        }
    }

    /// How the system log has it.
    fn gerund(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Stop => "stopping",
            Self::Restart => "re-starting",
            Self::Reload => "reloading",
        }
    }
}

/// Why something was not done to a service. The words are those of the command that upstream runs: clients match on
/// them.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    /// Not even tried.
    #[error("invalid service cmd '{0} stop': refusing to stop essential service!")]
    Essential(String),
    /// systemd does not do it.
    #[error("command 'systemctl {} {service}' failed: exit code {}", .verb.word(), .source.exit_code())]
    Systemd {
        /// What was wanted.
        verb: Verb,
        /// Of which service.
        service: String,
        /// What it says.
        source: SystemdError,
    },
}

/// `srvstart`, `srvstop`, `srvrestart`, `srvreload`
#[derive(Debug, Serialize, Deserialize)]
pub struct Handle {
    /// The service's id.
    pub service: String,
    /// What is to be done to it.
    pub command: Command,
}

impl Task for Handle {
    const KIND: &'static str = "node-service";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let Self { service, command } = self;
        log::info!("{} service {service}: {}", command.gerund(), worker.upid);
        let verb = command.verb();
        check(verb, &service)?;
        let unit = unit_name(&service);
        run(&worker.context.site, verb, &unit).map_err(|source| {
            for line in words(verb, &unit, &source) {
                worker.log(line);
            }
            ServiceError::Systemd { verb, service, source }
        })?;
        Ok(())
    }
}

/// Adds the kinds of task of this file.
pub fn register_tasks(kinds: &mut Kinds) {
    kinds.register::<Handle>();
}

fn check(verb: Verb, service: &str) -> Result<(), ServiceError> {
    if verb == Verb::Stop && ESSENTIAL.contains(&service) {
        return Err(ServiceError::Essential(service.to_owned()));
    }
    Ok(())
}

fn run(site: &Site, verb: Verb, unit: &str) -> Result<(), SystemdError> {
    Manager::connect(site)?.run(verb, unit, LIMIT)
}

/// What `systemctl` says of a failure.
fn words(verb: Verb, unit: &str, error: &SystemdError) -> Vec<String> {
    match error {
        SystemdError::Refused { message, .. } => vec![format!("Failed to {} {unit}: {message}", verb.word())],
        SystemdError::Job { .. } => vec![
            error.to_string(),
            format!("See \"systemctl status {unit}\" and \"journalctl -xeu {unit}\" for details."),
        ],
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_systemctls() {
        // Reference 09, vector 59.
        for (command, verb, worker_type) in [
            (Command::Start, "start", "srvstart"),
            (Command::Stop, "stop", "srvstop"),
            (Command::Restart, "restart", "srvrestart"),
            (Command::Reload, "try-reload-or-restart", "srvreload"),
        ] {
            assert_eq!((command.verb().word(), command.worker_type()), (verb, worker_type));
        }
    }

    #[test]
    fn essential_services_are_not_stopped() {
        // Reference 09, vector 58.
        for service in ESSENTIAL {
            let refusal = check(Verb::Stop, service).unwrap_err().to_string();
            let text = format!("invalid service cmd '{service} stop': refusing to stop essential service!");
            assert_eq!(refusal, text);
            assert!(check(Verb::Restart, service).is_ok());
        }
        assert!(check(Verb::Stop, "pvestatd").is_ok());
    }

    #[test]
    fn a_failure_reads_as_systemctls() {
        let source = SystemdError::Refused {
            name: "org.freedesktop.systemd1.NoSuchUnit".to_owned(),
            message: "Unit corosync.service not found.".to_owned(),
        };
        let said = words(Verb::Start, "corosync.service", &source);
        assert_eq!(
            said,
            ["Failed to start corosync.service: Unit corosync.service not found."]
        );
        let error = ServiceError::Systemd {
            verb: Verb::Start,
            service: "corosync".to_owned(),
            source,
        };
        assert_eq!(
            error.to_string(),
            "command 'systemctl start corosync' failed: exit code 5"
        );
    }

    #[test]
    fn without_systemd_nothing_is_done() {
        let site = pve_testing::site("/nonexistent", "pve1");
        let source = run(&site, Verb::Restart, "cron.service").unwrap_err();
        let error = ServiceError::Systemd {
            verb: Verb::Restart,
            service: "cron".to_owned(),
            source,
        };
        assert_eq!(
            error.to_string(),
            "command 'systemctl restart cron' failed: exit code 1"
        );
    }
}
