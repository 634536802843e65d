//! The rules for changing a backup job (reference 05 §4.1, §4.3).

use pve_schema::failure::ParamErrors;
use pve_schema::ids::VmId;
use pve_schema::section_config::Section;
use pve_schema::{Failure, list};

use crate::jobs_cfg::{JobKind, JobsCfg};

/// All days, as a start time without days and with all of them mean the same.
const EVERY_DAY: &str = "mon,tue,wed,thu,fri,sat,sun";

/// A job that cannot be. Status 400, by parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Parameter verification failed.")]
pub struct ParameterError(ParamErrors);

impl ParameterError {
    fn new(name: &str, text: &str) -> Self {
        Self(ParamErrors::from([(name.to_owned(), text.to_owned())]))
    }
}

impl Failure for ParameterError {
    fn status(&self) -> u16 {
        400
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        Some(&self.0)
    }
}

/// The schedule that a client meant: its own, or the one of the older pair `starttime` and `dow`. `None` if it sent
/// neither.
///
/// # Errors
/// It sent both.
pub fn schedule(
    schedule: Option<&str>,
    starttime: Option<&str>,
    dow: Option<&str>,
) -> Result<Option<String>, ParameterError> {
    match (schedule, starttime) {
        (Some(_), Some(_)) => Err(ParameterError::new(
            "starttime",
            "'starttime' and 'schedule' cannot both be set",
        )),
        (schedule, None) => Ok(schedule.map(str::to_owned)),
        (None, Some(starttime)) => Ok(Some(match dow.map(list::split).map(|days| days.join(",")) {
            Some(days) if days != EVERY_DAY && !days.is_empty() => format!("{days} {starttime}"),
            _ => starttime.to_owned(),
        })),
    }
}

/// The schedule of a new job.
///
/// # Errors
/// The client sent both ways to tell it, or neither.
pub fn required_schedule(
    schedule_sent: Option<&str>,
    starttime: Option<&str>,
    dow: Option<&str>,
) -> Result<String, ParameterError> {
    let schedule = schedule(schedule_sent, starttime, dow)?;
    schedule.ok_or_else(|| ParameterError::new("schedule", "neither 'starttime' nor 'schedule' were set"))
}

/// Which guests a job selects is told in one of three ways; what was sent last wins over what the job had. `sent` tells
/// whether an option was in the request.
///
/// # Errors
/// No way is left: [`check_selection`].
pub fn settle_selection(section: &mut Section, sent: impl Fn(&str) -> bool) -> Result<(), ParameterError> {
    if section.get("exclude").is_some() && section.get("pool").is_none() {
        section.set("all", true);
    }
    let dropped: &[&str] = if sent("vmid") {
        &["all", "exclude", "pool"]
    } else if sent("all") {
        &["vmid", "pool"]
    } else if section.get("pool").is_some() {
        &["vmid", "all", "exclude"]
    } else {
        &[]
    };
    for key in dropped {
        section.remove(key);
    }
    check_selection(section)
}

/// Checks that a job selects guests at all, and in one way (reference 05 §6.3).
///
/// # Errors
/// By the option that is too much, or by `vmid` if there is none.
pub fn check_selection(section: &Section) -> Result<(), ParameterError> {
    if section.get("vmid").is_some() {
        let other = ["all", "exclude", "pool"].into_iter().find(|key| match *key {
            "all" => section.is_set("all"),
            key => section.get(key).is_some(),
        });
        return match other {
            Some(key) => Err(ParameterError::new(key, "option conflicts with option 'vmid'")),
            None => Ok(()),
        };
    }
    if section.is_set("all") || section.get("pool").is_some() || section.is_set("stop") {
        return Ok(());
    }
    Err(ParameterError::new("vmid", "property is missing"))
}

impl JobsCfg {
    /// Takes a guest that is gone out of all backup jobs; a job that has no guest left goes too. `false` if that
    /// changes nothing.
    pub fn remove_guest(&mut self, vmid: VmId) -> bool {
        let mut is_changed = false;
        let mut empty = Vec::new();
        for section in self.file.sections_mut() {
            if section.kind != JobKind::Vzdump.as_str() {
                continue;
            }
            for key in ["vmid", "exclude"] {
                let Some(rest) = section.text(key).and_then(|ids| without(ids, vmid)) else {
                    continue;
                };
                is_changed = true;
                if !rest.is_empty() {
                    section.set(key, rest);
                } else if key == "exclude" {
                    section.remove(key);
                } else {
                    empty.push(section.id.clone());
                }
            }
        }
        for id in empty {
            self.file.remove(&id);
        }
        is_changed
    }
}

/// A list without a guest; `None` if that is not in it.
fn without(ids: &str, vmid: VmId) -> Option<String> {
    let all = list::split(ids);
    let is_other = |id: &&&str| id.parse() != Ok(vmid.get());
    let rest: Vec<&str> = all.iter().filter(is_other).copied().collect();
    (rest.len() < all.len()).then(|| rest.join(","))
}
