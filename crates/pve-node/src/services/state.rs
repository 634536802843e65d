//! What is told of a service.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pve_schema::Site;
use pve_systemd::{Manager, SystemdError, Unit};
use serde_json::{Value, json};

use super::unit_name;

/// What stands for a state that nobody knows.
const UNKNOWN: &str = "unknown";
/// How long a list is good for: pages that show it ask every second (reference 09 §6.2).
const FRESH: Duration = Duration::from_secs(1);

/// A service and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The id.
    pub service: String,
    /// In words.
    pub description: String,
    /// What it is doing: `running`, `dead`, `failed`, …; how it ended, for one that runs to an end.
    pub state: String,
    /// Whether it starts by itself, and in short what it is doing; nobody knows without systemd.
    pub unit: Option<(String, String)>,
}

impl State {
    fn of(service: &str, unit: &Unit) -> Self {
        let word = |word: &str| {
            if word.is_empty() {
                UNKNOWN.to_owned()
            } else {
                word.to_owned()
            }
        };
        let ran_to_its_end = unit.sub_state == "dead" && unit.service_type == "oneshot" && !unit.result.is_empty();
        let file_state = match unit.load_state.as_str() {
            "not-found" => "not-found",
            _ => &unit.file_state,
        };
        Self {
            service: service.to_owned(),
            description: unit.description.clone(),
            state: word(if ran_to_its_end { &unit.result } else { &unit.sub_state }),
            unit: Some((word(file_state), word(&unit.active_state))),
        }
    }

    fn unknown(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            description: service.to_owned(),
            state: UNKNOWN.to_owned(),
            unit: None,
        }
    }

    /// As clients get it.
    pub fn to_json(&self) -> Value {
        let mut row = json!({
            "service": self.service,
            "name": self.service,
            "desc": self.description,
            "state": self.state,
        });
        if let (Some((file, active)), Some(fields)) = (&self.unit, row.as_object_mut()) {
            fields.insert("unit-state".to_owned(), file.as_str().into());
            fields.insert("active-state".to_owned(), active.as_str().into());
        }
        row
    }
}

/// The states of services, in their order. Without systemd, or without an answer from it, they are unknown.
pub fn states(site: &Site, services: &[&str]) -> Vec<State> {
    match ask(site, services) {
        Ok(units) => services
            .iter()
            .zip(&units)
            .map(|(service, unit)| State::of(service, unit))
            .collect(),
        Err(error) => {
            if !matches!(error, SystemdError::NotHere) {
                log::warn!("unable to get the states of services - {error}");
            }
            services.iter().map(|service| State::unknown(service)).collect()
        }
    }
}

fn ask(site: &Site, services: &[&str]) -> Result<Vec<Unit>, SystemdError> {
    let names: Vec<String> = services.iter().map(|service| unit_name(service)).collect();
    Manager::connect(site)?.units(&names)
}

/// The states of services as they were within the last second.
pub fn states_of_this_second(site: &Site, services: &[&str]) -> Vec<State> {
    static KEPT: Kept = Kept(Mutex::new(None));
    KEPT.get(|| states(site, services))
}

/// States, and when they were asked for.
struct Kept(Mutex<Option<(Instant, Vec<State>)>>);

impl Kept {
    /// Those that are kept, unless they are old. Who comes meanwhile waits for the one answer.
    fn get(&self, ask: impl FnOnce() -> Vec<State>) -> Vec<State> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((since, states)) if since.elapsed() < FRESH => states.clone(),
            _ => {
                // However long it took: who has waited for it meanwhile takes it, and does not ask again.
                let states = ask();
                kept.insert((Instant::now(), states)).1.clone()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, load, active, sub and file state, result.
    fn unit(words: [&str; 6]) -> Unit {
        let [service_type, load_state, active_state, sub_state, file_state, result] = words.map(str::to_owned);
        Unit {
            description: "Something".to_owned(),
            load_state,
            active_state,
            sub_state,
            file_state,
            service_type,
            result,
        }
    }

    #[test]
    fn what_systemd_says_becomes_three_words() {
        // Reference 09, vectors 52 to 57.
        for (properties, expected) in [
            (
                ["simple", "loaded", "active", "running", "enabled", ""],
                ["running", "enabled", "active"],
            ),
            (
                ["oneshot", "loaded", "inactive", "dead", "static", "success"],
                ["success", "static", "inactive"],
            ),
            (
                ["oneshot", "loaded", "failed", "failed", "static", "exit-code"],
                ["failed", "static", "failed"],
            ),
            (
                ["", "not-found", "inactive", "dead", "", ""],
                ["dead", "not-found", "inactive"],
            ),
            (
                ["", "masked", "inactive", "dead", "masked", ""],
                ["dead", "masked", "inactive"],
            ),
            (["", "loaded", "", "", "", ""], ["unknown", "unknown", "unknown"]),
            (
                ["simple", "loaded", "inactive", "dead", "disabled", "success"],
                ["dead", "disabled", "inactive"],
            ),
        ] {
            let row = State::of("cron", &unit(properties)).to_json();
            let [state, file, active] = expected;
            let expected = json!({
                "service": "cron", "name": "cron", "desc": "Something",
                "state": state, "unit-state": file, "active-state": active,
            });
            assert_eq!(row, expected, "{properties:?}");
        }
    }

    #[test]
    fn without_systemd_all_are_unknown() {
        let site = pve_testing::site("/nonexistent", "pve1");
        let rows: Vec<Value> = states(&site, &["cron", "sshd"]).iter().map(State::to_json).collect();
        let unknown = |id: &str| json!({ "service": id, "name": id, "desc": id, "state": "unknown" });
        assert_eq!(rows, [unknown("cron"), unknown("sshd")]);
    }

    #[test]
    fn a_list_is_asked_for_once_a_second() {
        let kept = Kept(Mutex::new(None));
        let cron = [State::unknown("cron")];
        assert_eq!(kept.get(|| cron.to_vec()), cron);
        assert_eq!(kept.get(Vec::new), cron);
        if let Some((since, _)) = kept.0.lock().unwrap().as_mut() {
            *since -= FRESH;
        }
        assert_eq!(kept.get(Vec::new), []);
    }

    #[test]
    fn an_answer_that_took_long_is_everybodys_who_waited() {
        let kept = Kept(Mutex::new(None));
        let cron = [State::unknown("cron")];
        let late = kept.get(|| {
            std::thread::sleep(FRESH);
            cron.to_vec()
        });
        assert_eq!(late, cron);
        assert_eq!(kept.get(Vec::new), cron);
    }
}
