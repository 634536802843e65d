//! Saying once what went wrong: a storage that is away for a night must not fill the log.
//!
//! What is told is each change of a step as a whole, and of each object that a step looks at.

use std::collections::{BTreeMap, BTreeSet};

use log::Level;

use crate::errands::{Fault, Outcome, Seen};

/// Most lines of one step in one cycle: where a disk is full it is so for all guests.
const MAX_LINES: usize = 20;

/// What was said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: BTreeMap<String, Failing>,
}

/// What was said of one errand.
#[derive(Debug, Default)]
struct Failing {
    whole: Option<String>,
    /// The errors of each that has any.
    objects: BTreeMap<String, BTreeSet<String>>,
}

/// A line of the log.
type Line = (Level, String);

impl Report {
    /// Logs what changed since the cycle before.
    pub(crate) fn log(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            for (level, text) in self.change(outcome) {
                log::log!(level, "{text}");
            }
        }
        // What is not looked at any more has no state.
        self.steps
            .retain(|name, _| outcomes.iter().any(|outcome| outcome.name == *name));
    }

    fn change(&mut self, outcome: &Outcome) -> Vec<Line> {
        let name = &outcome.name;
        let failing = self.steps.entry(name.clone()).or_default();
        match &outcome.result {
            // Of its objects nothing is known now.
            Err(error) if failing.whole.as_ref() != Some(error) => {
                failing.whole = Some(error.clone());
                vec![(Level::Error, format!("{name} error: {error}"))]
            }
            Err(_) => Vec::new(),
            Ok(seen) => {
                let whole = failing
                    .whole
                    .take()
                    .map(|_| (Level::Info, format!("{name} works again")));
                let mut lines: Vec<Line> = whole.into_iter().chain(failing.objects(name, seen)).collect();
                if lines.len() > MAX_LINES {
                    let rest = lines.split_off(MAX_LINES);
                    let level = rest.iter().map(|(level, _)| *level).min().unwrap_or(Level::Info);
                    lines.push((
                        level,
                        format!("{name}: {} more objects changed their state", rest.len()),
                    ));
                }
                lines
            }
        }
    }
}

impl Failing {
    /// What changed of an errand's objects.
    fn objects(&mut self, name: &str, seen: &Seen) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut now: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut worse = BTreeSet::new();
        for Fault { object, error, level } in &seen.faults {
            let is_new = now.entry(object.clone()).or_default().insert(error.clone());
            if is_new && self.objects.get(object).is_none_or(|said| !said.contains(error)) {
                worse.insert(object);
                lines.push((*level, format!("{name} of {object} error: {error}")));
            }
        }
        // A new error takes the place of the old one: nothing is to be said of that.
        let partly = now.iter().filter(|(object, _)| !worse.contains(object));
        for (object, errors) in partly {
            let over = self
                .objects
                .get(object)
                .into_iter()
                .flat_map(|said| said.difference(errors));
            lines.extend(over.map(|error| (Level::Info, format!("{name} of {object} no longer: {error}"))));
        }
        let is_sound = |object: &String| seen.sound.as_ref().is_none_or(|sound| sound.contains(object));
        let repaired = self
            .objects
            .keys()
            .filter(|object| !now.contains_key(*object) && is_sound(object));
        lines.extend(repaired.map(|object| (Level::Info, format!("{name} of {object} works again"))));
        self.objects = now;
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "qemu status update";

    fn say(report: &mut Report, result: Result<Seen, &str>) -> Vec<String> {
        let outcome = Outcome {
            name: NAME.to_owned(),
            result: result.map_err(str::to_owned),
        };
        let lines = report.change(&outcome);
        lines
            .into_iter()
            .map(|(level, text)| format!("{level} {text}"))
            .collect()
    }

    fn faults(faults: &[(&str, &str)], sound: Option<&[&str]>) -> Result<Seen, &'static str> {
        Ok(Seen {
            faults: faults.iter().map(|(object, error)| Fault::new(object, error)).collect(),
            sound: sound.map(|sound| sound.iter().map(|object| (*object).to_owned()).collect()),
        })
    }

    #[test]
    fn only_changes_are_told() {
        let report = &mut Report::default();
        let fine = || Ok(Seen::default());
        let none: [&str; 0] = [];
        assert_eq!(say(report, fine()), none);
        assert_eq!(say(report, Err("a")), ["ERROR qemu status update error: a"]);
        assert_eq!(say(report, Err("a")), none);
        assert_eq!(say(report, Err("b")), ["ERROR qemu status update error: b"]);
        assert_eq!(say(report, fine()), ["INFO qemu status update works again"]);
        assert_eq!(say(report, fine()), none);
    }

    #[test]
    fn each_object_has_a_state_of_its_own() {
        let report = &mut Report::default();
        let none: [&str; 0] = [];
        let both = || faults(&[("100", "a"), ("101", "a")], None);
        assert_eq!(
            say(report, both()),
            [
                "ERROR qemu status update of 100 error: a",
                "ERROR qemu status update of 101 error: a"
            ]
        );
        assert_eq!(say(report, both()), none);
        assert_eq!(
            say(report, faults(&[("100", "b"), ("102", "a")], None)),
            [
                "ERROR qemu status update of 100 error: b",
                "ERROR qemu status update of 102 error: a",
                "INFO qemu status update of 101 works again"
            ]
        );
        // While the step hangs nothing is known of its objects, and nothing is said of them afterwards.
        assert_eq!(say(report, Err("x")).len(), 1);
        assert_eq!(
            say(report, faults(&[("100", "b"), ("102", "a")], None)),
            ["INFO qemu status update works again"]
        );
        // A machine that was destroyed does not work again; one that answers does.
        assert_eq!(
            say(report, faults(&[], Some(&["102", "103"]))),
            ["INFO qemu status update of 102 works again"]
        );
    }

    #[test]
    fn a_fault_may_be_worth_a_warning_and_an_object_may_have_two() {
        let report = &mut Report::default();
        let seen = || Seen {
            faults: vec![Fault::warning(100, "a"), Fault::new(100, "b")],
            sound: None,
        };
        assert_eq!(
            say(report, Ok(seen())),
            [
                "WARN qemu status update of 100 error: a",
                "ERROR qemu status update of 100 error: b"
            ]
        );
        assert!(say(report, Ok(seen())).is_empty());
        assert_eq!(
            say(report, Ok(Seen::default())),
            ["INFO qemu status update of 100 works again"]
        );
    }

    #[test]
    fn of_two_faults_each_has_its_own_begin_and_end() {
        let report = &mut Report::default();
        let none: [&str; 0] = [];
        assert_eq!(
            say(report, faults(&[("100", "disk full"), ("100", "away")], None)).len(),
            2
        );
        assert_eq!(
            say(report, faults(&[("100", "disk full")], None)),
            ["INFO qemu status update of 100 no longer: away"]
        );
        assert_eq!(say(report, faults(&[("100", "disk full")], None)), none);
        // Part of what was said before, and yet another error.
        assert_eq!(
            say(report, faults(&[("100", "disk full"), ("100", "disk")], None)),
            ["ERROR qemu status update of 100 error: disk"]
        );
    }

    #[test]
    fn what_is_wrong_with_all_does_not_flood_the_log() {
        let report = &mut Report::default();
        let all: Vec<String> = (100..1100).map(|vmid| vmid.to_string()).collect();
        let all: Vec<(&str, &str)> = all.iter().map(|vmid| (vmid.as_str(), "full")).collect();
        let lines = say(report, faults(&all, None));
        assert_eq!(lines.len(), MAX_LINES + 1);
        assert_eq!(
            lines.last().unwrap(),
            "ERROR qemu status update: 980 more objects changed their state"
        );
        assert!(say(report, faults(&all, None)).is_empty());
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut report = Report::default();
        report.log(&[Outcome {
            name: "x".to_owned(),
            result: Err("a".to_owned()),
        }]);
        assert_eq!(report.steps.len(), 1);
        report.log(&[]);
        assert!(report.steps.is_empty());
    }
}
