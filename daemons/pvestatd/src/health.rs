//! How it goes with a metric server: when it is left alone, and what is said about it.
//!
//! A server may take the figures of the node and refuse those of VMs, so each subsystem counts by itself: the server works
//! again when all of them go through. Whatever it does, its lines in the log are few.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use pve_metrics::servers::{SendError, Told};

/// The first rest after a failure: the other snapshots of the cycle are not tried, the next cycle's are.
const FIRST_REST: Duration = Duration::from_secs(8);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// The least time from one failure that is told to the next.
const SILENCE: Duration = Duration::from_secs(60);
/// Texts that are remembered as said.
const SAID: usize = 8;
/// A subsystem of which nothing came for so long is there no more.
const FORGOTTEN: Duration = Duration::from_secs(900);

/// How it goes with a server.
#[derive(Default)]
pub(crate) struct Health {
    /// Subsystems that did not go through when they were last tried, and when that was.
    failing: BTreeMap<&'static str, Instant>,
    /// What was said since it last worked.
    said: VecDeque<String>,
    /// When something was last said of a failure.
    told: Option<Instant>,
    /// The last rest.
    rest: Duration,
    /// When it ends.
    until: Option<Instant>,
}

impl Health {
    /// Whether the server is left alone at the moment.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Takes note of an attempt; what has to be said about it, if that is anything new.
    pub(crate) fn note(
        &mut self,
        id: &str,
        subsystem: &'static str,
        result: &Result<Told, SendError>,
        now: Instant,
    ) -> Option<Result<String, String>> {
        self.failing
            .retain(|_, at| now.saturating_duration_since(*at) < FORGOTTEN);
        match result {
            Err(error) => self.failed(id, subsystem, error, now).map(Err),
            Ok(told) => {
                self.failing.remove(subsystem);
                // Nothing to tell says nothing of the server.
                let works = *told != Told::Nothing && self.failing.is_empty();
                works.then(|| self.works(id)).flatten().map(Ok)
            }
        }
    }

    fn works(&mut self, id: &str) -> Option<String> {
        self.rest = Duration::ZERO;
        self.until = None;
        let was_told = !self.said.is_empty();
        self.said.clear();
        was_told.then(|| format!("metric server '{id}' works again"))
    }

    fn failed(&mut self, id: &str, subsystem: &'static str, error: &SendError, now: Instant) -> Option<String> {
        self.failing.insert(subsystem, now);
        if error.asks_for_a_pause() {
            self.rest = (self.rest * 2).clamp(FIRST_REST, LONGEST_REST);
            self.until = Some(now + self.rest);
        }
        let text = match error.is_connection() {
            true => format!("connection for plugin '{id}' failed: {error}"),
            false => format!("metrics send error '{id}': {error}"),
        };
        let is_soon = self
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < SILENCE);
        if is_soon || self.said.contains(&text) {
            return None;
        }
        self.told = Some(now);
        self.said.truncate(SAID - 1);
        self.said.push_front(text.clone());
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused() -> SendError {
        SendError::Socket {
            service: "carbon",
            host: "h".to_owned(),
            port: 1,
            reason: "Connection refused".to_owned(),
        }
    }

    fn status(code: u16) -> Result<Told, SendError> {
        Err(SendError::Status { code, reason: "No" })
    }

    #[test]
    fn only_changes_are_told() {
        let mut health = Health::default();
        let mut now = Instant::now();
        let mut note = |result: Result<Told, SendError>| {
            now += SILENCE;
            health.note("g", "node", &result, now)
        };
        assert_eq!(note(Ok(Told::All)), None);
        let refused_text = "connection for plugin 'g' failed: couldn't create carbon socket [h]:1 - Connection refused";
        assert_eq!(note(Err(refused())), Some(Err(refused_text.to_owned())));
        assert_eq!(note(Err(refused())), None);
        let unauthorized = "metrics send error 'g': 401 No";
        assert_eq!(note(status(401)), Some(Err(unauthorized.to_owned())));
        assert_eq!(note(status(401)), None);
        assert_eq!(
            note(Ok(Told::AllBut(1))),
            Some(Ok("metric server 'g' works again".to_owned()))
        );
        assert_eq!(note(Ok(Told::All)), None);
    }

    /// A cycle every ten seconds, of which the server takes the node and not the VMs: by refusing them, or by hanging.
    #[test]
    fn one_that_takes_a_part_of_each_cycle_does_not_work() {
        for (failure, rest) in [(status(400), 0), (Err(refused()), 300)] {
            let mut health = Health::default();
            let mut now = Instant::now();
            let mut said = Vec::new();
            let mut cycle = |health: &mut Health, results: [(&'static str, &Result<Told, SendError>); 4]| {
                now += SECOND * 10;
                for (subsystem, result) in results {
                    if !health.rests(now) {
                        said.extend(health.note("i", subsystem, result, now));
                    }
                }
            };
            let (good, none) = (Ok(Told::All), Ok(Told::Nothing));
            for _ in 0..200 {
                let results = [("node", &good), ("qemu", &failure), ("lxc", &none), ("storage", &good)];
                cycle(&mut health, results);
            }
            assert_eq!(health.rest.as_secs(), rest);
            for _ in 0..40 {
                cycle(
                    &mut health,
                    [("node", &good), ("qemu", &good), ("lxc", &none), ("storage", &good)],
                );
            }
            assert_eq!(health.rest.as_secs(), 0);
            assert_eq!(said.len(), 2, "{said:?}");
            assert_eq!(said[1], Ok("metric server 'i' works again".to_owned()));
        }
    }

    #[test]
    fn whatever_a_server_does_its_lines_are_few() {
        let patterns: [&[Result<Told, SendError>]; 3] = [
            &[status(401), status(403)],
            &[status(401), Ok(Told::All)],
            &[status(401), Ok(Told::All), status(403), Ok(Told::All), status(404)],
        ];
        for pattern in patterns {
            let mut health = Health::default();
            let start = Instant::now();
            let notes = (0..600).zip(pattern.iter().cycle());
            let lines = notes.filter(|(second, result)| {
                let news = health.note("i", "node", result, start + SECOND * *second);
                news.is_some()
            });
            let lines = lines.count();
            assert!((2..=20).contains(&lines), "{lines} in ten minutes");
        }
    }

    #[test]
    fn what_is_there_no_more_keeps_no_server_from_working() {
        let mut health = Health::default();
        let now = Instant::now();
        assert!(health.note("i", "lxc", &status(400), now).is_some());
        assert_eq!(health.note("i", "node", &Ok(Told::All), now + SECOND), None);
        let works = Some(Ok("metric server 'i' works again".to_owned()));
        assert_eq!(health.note("i", "node", &Ok(Told::All), now + FORGOTTEN), works);
    }

    #[test]
    fn rests_grow_and_end() {
        let mut health = Health::default();
        let mut now = Instant::now();
        let mut rests = Vec::new();
        for _ in 0..8 {
            assert!(!health.rests(now));
            health.note("g", "node", &Err(refused()), now);
            let rest = health.until.unwrap() - now;
            rests.push(rest.as_secs());
            assert!(health.rests(now + rest / 2));
            now += rest;
        }
        assert_eq!(rests, [8, 16, 32, 64, 128, 256, 300, 300]);
        health.note("g", "node", &Ok(Told::All), now);
        assert!(!health.rests(now));
        health.note("g", "node", &Err(refused()), now);
        assert_eq!(health.rest, FIRST_REST, "a new failure starts anew");
    }

    #[test]
    fn one_that_refuses_is_asked_again_at_once() {
        for (code, rests) in [
            (400, false),
            (401, false),
            (404, false),
            (429, true),
            (500, true),
            (503, true),
        ] {
            let mut health = Health::default();
            let now = Instant::now();
            health.note("i", "node", &status(code), now);
            assert_eq!(health.rests(now), rests, "{code}");
        }
    }
}
