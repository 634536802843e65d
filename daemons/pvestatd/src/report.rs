//! Saying once what went wrong: a storage that is away for a night must not fill the log.

use std::collections::BTreeMap;

use crate::errands::Outcome;

/// What was said of each errand.
#[derive(Debug, Default)]
pub(crate) struct Report {
    failing: BTreeMap<String, String>,
}

impl Report {
    /// Logs what changed since the cycle before.
    pub(crate) fn log(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match self.change(outcome) {
                Some(Err(text)) => log::error!("{text}"),
                Some(Ok(text)) => log::info!("{text}"),
                None => {}
            }
        }
        // What is not looked at any more has no state.
        self.failing
            .retain(|name, _| outcomes.iter().any(|outcome| outcome.name == *name));
    }

    fn change(&mut self, outcome: &Outcome) -> Option<Result<String, String>> {
        let name = &outcome.name;
        match &outcome.result {
            Err(error) if self.failing.get(name) != Some(error) => {
                self.failing.insert(name.clone(), error.clone());
                Some(Err(format!("{name} error: {error}")))
            }
            Err(_) => None,
            Ok(()) => self.failing.remove(name).map(|_| Ok(format!("{name} works again"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let mut report = Report::default();
        let mut say = |result: Result<(), &str>| {
            report.change(&Outcome {
                name: "node status update".to_owned(),
                result: result.map_err(str::to_owned),
            })
        };
        assert_eq!(say(Ok(())), None);
        assert_eq!(say(Err("a")), Some(Err("node status update error: a".to_owned())));
        assert_eq!(say(Err("a")), None);
        assert_eq!(say(Err("b")), Some(Err("node status update error: b".to_owned())));
        assert_eq!(say(Ok(())), Some(Ok("node status update works again".to_owned())));
        assert_eq!(say(Ok(())), None);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut report = Report::default();
        report.log(&[Outcome {
            name: "x".to_owned(),
            result: Err("a".to_owned()),
        }]);
        assert_eq!(report.failing.len(), 1);
        report.log(&[]);
        assert!(report.failing.is_empty());
    }
}
