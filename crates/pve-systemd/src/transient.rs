//! Units that exist only as long as they run: services that systemd starts, and scopes around processes that are there.

use std::os::fd::OwnedFd;
use std::time::Duration;

use zbus::zvariant::{Fd, OwnedObjectPath, Value};

use crate::error::SystemdError;
use crate::manager::Manager;
use crate::unit::body;

/// How systemd treats an order that contradicts a job that waits: it refuses.
const MODE: &str = "fail";
/// No limit, as systemd has it on the bus.
const INFINITY: u64 = u64::MAX;
/// What a command is, on the bus: program, arguments with the name first, whether its failure counts for nothing.
type Command<'a> = (&'a str, Vec<&'a str>, bool);
/// Units that come along with another one; never any here, but the call has room for them.
type Along<'a> = Vec<(&'a str, Vec<(&'a str, Value<'a>)>)>;

/// A setting of a unit that can change while it runs (systemd.resource-control(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    /// The share of CPU time beside its neighbours, 1 to 10000.
    CpuWeight(u64),
    /// The same with version 1 of control groups, 2 to 262144.
    CpuShares(u64),
    /// The CPU time it may take per second, in µs; none for as much as there is.
    CpuQuota(Option<u64>),
}

impl Property {
    fn on_the_bus(self) -> (&'static str, Value<'static>) {
        match self {
            Self::CpuWeight(weight) => ("CPUWeight", weight.into()),
            Self::CpuShares(shares) => ("CPUShares", shares.into()),
            Self::CpuQuota(quota) => ("CPUQuotaPerSecUSec", quota.unwrap_or(INFINITY).into()),
        }
    }
}

/// A service that systemd starts: outside of the control group and of the sandbox of whoever asks for it.
///
/// Nobody else's fate is its own: it stays when the machine begins to shut down (something may be started for that very
/// shutdown), its children outlive it, and the kernel's killer of memory hogs takes one process, not all.
#[derive(Debug)]
pub struct Service<'a> {
    /// Its name, with `.service`.
    pub name: &'a str,
    /// In words, for people.
    pub description: &'a str,
    /// The program, an absolute path.
    pub program: &'a str,
    /// Its arguments, with the program's name first.
    pub arguments: &'a [&'a str],
    /// Variables of its environment, as `NAME=value`, besides those that systemd sets.
    pub environment: &'a [&'a str],
    /// What it reads from.
    pub stdin: OwnedFd,
    /// Exit codes, besides 0, that are no failure of the service: somebody else tells of them.
    pub expected_exits: &'a [i32],
    /// What it writes to. What it writes to standard error goes to the journal.
    pub stdout: OwnedFd,
}

/// A group around a process that is there already.
#[derive(Debug)]
pub struct Scope<'a> {
    /// Its name, with `.scope`.
    pub name: &'a str,
    /// In words, for people.
    pub description: &'a str,
    /// What it is in, with `.slice`.
    pub slice: &'a str,
    /// The process that it is around; what this one starts is in it, too.
    pub pid: u32,
    /// Units that stop only after this one when the machine shuts down, and start before it.
    pub after: &'a [&'a str],
    /// Units that stop before this one does when the machine shuts down.
    pub before: &'a [&'a str],
    /// Its share and limits.
    pub properties: &'a [Property],
}

impl Manager {
    /// Has a service started. Whether its program could be executed is told by what it writes, not by this.
    ///
    /// # Errors
    /// systemd cannot be asked or refuses.
    pub fn start_service(&self, service: Service<'_>) -> Result<(), SystemdError> {
        let command: Vec<Command<'_>> = vec![(service.program, service.arguments.to_vec(), false)];
        let properties: Vec<(&str, Value<'_>)> = vec![
            ("Description", service.description.into()),
            ("Type", "exec".into()),
            ("ExecStart", Value::new(command)),
            ("Environment", Value::new(service.environment.to_vec())),
            ("StandardInputFileDescriptor", Value::Fd(Fd::from(service.stdin))),
            ("StandardOutputFileDescriptor", Value::Fd(Fd::from(service.stdout))),
            ("StandardError", "journal".into()),
            (
                "SuccessExitStatus",
                Value::new((service.expected_exits.to_vec(), Vec::<i32>::new())),
            ),
            ("KillMode", "process".into()),
            ("OOMPolicy", "continue".into()),
            ("TasksMax", INFINITY.into()),
            ("DefaultDependencies", false.into()),
            ("CollectMode", "inactive-or-failed".into()),
        ];
        let answer = self.order("StartTransientUnit", &(service.name, MODE, properties, Along::new()))?;
        body::<OwnedObjectPath>(&answer).map(drop)
    }

    /// Makes a scope and waits until the process is in it. A stop of the scope kills nobody: whoever made it knows how
    /// to stop what is inside.
    ///
    /// # Errors
    /// systemd cannot be asked, refuses, or does not do it within `limit`.
    pub fn start_scope(&self, scope: &Scope<'_>, limit: Duration) -> Result<(), SystemdError> {
        let mut properties: Vec<(&str, Value<'_>)> = vec![
            ("Description", scope.description.into()),
            ("Slice", scope.slice.into()),
            ("PIDs", Value::new(vec![scope.pid])),
            ("KillMode", "process".into()),
            ("SendSIGKILL", false.into()),
            ("TimeoutStopUSec", INFINITY.into()),
            ("After", Value::new(scope.after.to_vec())),
            ("Before", Value::new(scope.before.to_vec())),
        ];
        properties.extend(scope.properties.iter().map(|property| property.on_the_bus()));
        let order = (scope.name, MODE, properties, Along::new());
        self.job("StartTransientUnit", &order, scope.name, limit)
    }

    /// Changes settings of a unit until it stops.
    ///
    /// # Errors
    /// systemd cannot be asked or refuses; there may be no such unit.
    pub fn set_properties(&self, unit: &str, properties: &[Property]) -> Result<(), SystemdError> {
        let properties: Vec<(&str, Value<'_>)> = properties.iter().map(|property| property.on_the_bus()).collect();
        self.order("SetUnitProperties", &(unit, true, properties)).map(drop)
    }
}
