//! What a task is, and the registry of kinds.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Worker;

/// Work that runs in a process of its own. Its fields are the order: they travel as JSON.
pub trait Task: Serialize + DeserializeOwned {
    /// Names the kind in the order; unique among all kinds of the suite. Not the worker type, which several kinds may
    /// share and one kind may vary.
    const KIND: &'static str;

    /// Does the work, synchronously. It takes its locks inside.
    ///
    /// # Errors
    /// The text of the `TASK ERROR: …` line.
    fn run(self, worker: &mut Worker) -> Result<(), TaskError>;
}

/// Why a task failed: the text of its last line.
///
/// Every error converts to it with `?`, which is why it is none itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError(String);

impl TaskError {
    /// A failure in these words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Somebody stopped the task.
    pub fn interrupted() -> Self {
        Self::new("received interrupt")
    }

    /// The words.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The words on one line: newlines as blanks, the last one cut.
    pub(crate) fn line(&self) -> String {
        let text = self.0.strip_suffix('\n').unwrap_or(&self.0);
        text.replace('\n', " ")
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

type Runner = fn(Value, &mut Worker) -> Result<(), TaskError>;

/// The kinds of task that an image can run.
#[derive(Default)]
pub struct Kinds {
    runners: BTreeMap<&'static str, Runner>,
}

impl Kinds {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind.
    pub fn register<T: Task>(&mut self) -> &mut Self {
        let before = self.runners.insert(T::KIND, run::<T>);
        debug_assert!(before.is_none(), "task kind '{}' registered twice", T::KIND);
        self
    }

    /// Runs a task of a kind from its order.
    pub(crate) fn run(&self, kind: &str, payload: Value, worker: &mut Worker) -> Result<(), TaskError> {
        match self.runners.get(kind) {
            Some(run) => run(payload, worker),
            None => Err(TaskError::new(format!("unknown kind of task '{kind}'"))),
        }
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.runners.keys()).finish()
    }
}

fn run<T: Task>(payload: Value, worker: &mut Worker) -> Result<(), TaskError> {
    let task: T = serde_json::from_value(payload)
        .map_err(|error| TaskError::new(format!("unable to read the order: {error}")))?;
    task.run(worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(TaskError::new("a\nb\n").line(), "a b");
        assert_eq!(TaskError::new("a\n\n").line(), "a ");
        let io = std::io::Error::other("it broke");
        assert_eq!(TaskError::from(io).text(), "it broke");
    }
}
