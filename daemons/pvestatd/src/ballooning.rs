//! Automatic ballooning (reference 04 §11): while the node has memory to spare guests get theirs back, and while it has
//! not they give some up, each in proportion to its shares.

use std::collections::{BTreeMap, BTreeSet};

use pve_cfs::{Cfs, CfsError};
use pve_node::status::Memory;
use pve_schema::Context;
use pve_schema::ids::VmId;
use serde_json::Value;

/// Per cent of the node's memory that are to be in use, unless its config says otherwise.
const DEFAULT_TARGET: u64 = 80;
/// The key in the node's config.
const TARGET: &str = "ballooning-target";
/// How far the use may be from the goal before anything is done, in bytes.
const SLACK: i64 = 10 << 20;
/// By how much a balloon changes in a cycle at most, in bytes.
const MAX_CHANGE: i64 = 100 << 20;
/// What a guest has whose config does not say.
const DEFAULT_SHARES: i64 = 1000;
/// Most shares that count, as the config's schema has it.
const MAX_SHARES: i64 = 50_000;

/// A guest whose balloon may change; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Guest {
    /// What it has now.
    balloon: i64,
    /// What it has at least.
    least: i64,
    /// What it has at most.
    most: i64,
    /// What of that is free, by its own account.
    free: i64,
    shares: i64,
}

impl Guest {
    /// A guest by its row; `None` for one whose balloon stays as it is.
    ///
    /// The balloon's size is what the guest's driver wrote, and what is free is its own account: a guest whose balloon
    /// cannot be true takes no part, else it would get memory that its neighbours had to give.
    fn of(row: &serde_json::Map<String, Value>) -> Option<Self> {
        let number = |key: &str| row.get(key).and_then(Value::as_i64);
        let is_moving = row.get("lock").and_then(Value::as_str) == Some("migrate");
        let shares = number("shares").unwrap_or(DEFAULT_SHARES);
        if is_moving || shares <= 0 {
            return None;
        }
        let most = number("maxmem")?;
        let least = number("balloon_min").filter(|size| (1..=most).contains(size))?;
        let balloon = number("balloon").filter(|size| (1..=most).contains(size))?;
        Some(Self {
            balloon,
            least,
            most,
            free: number("freemem").unwrap_or(0).clamp(0, most),
            shares: shares.min(MAX_SHARES),
        })
    }

    /// Whether it can give some away.
    fn is_rich(&self) -> bool {
        self.free > self.least / 4 && self.balloon >= self.least
    }
}

/// What the balloons of guests are to be, as far as they change; in bytes. `rows` are the guests that run.
///
/// # Errors
/// The node's config cannot be read.
pub(crate) fn plan<'a>(
    context: &Context,
    memory: &Memory,
    rows: impl Iterator<Item = (VmId, &'a serde_json::Map<String, Value>)>,
) -> Result<BTreeMap<VmId, u64>, CfsError> {
    let guests: BTreeMap<VmId, Guest> = rows.filter_map(|(vmid, row)| Some((vmid, Guest::of(row)?))).collect();
    if guests.is_empty() {
        return Ok(BTreeMap::new());
    }
    let goal = goal(memory, target(context)?);
    let wanted = Plan::new(&guests).make(goal);
    log::debug!("ballooning goal {goal}: {wanted:?}");
    let changed = wanted
        .into_iter()
        .filter(|(vmid, size)| guests.get(vmid).is_some_and(|guest| guest.balloon != *size));
    let sizes = changed.filter_map(|(vmid, size)| Some((vmid, u64::try_from(size).ok()?)));
    Ok(sizes.collect())
}

/// How much more memory guests should use; less if it is negative.
fn goal(memory: &Memory, target: u64) -> i64 {
    (memory.total as f64 * target as f64 / 100.0 - memory.used() as f64) as i64
}

/// Per cent of the node's memory that are to be in use.
fn target(context: &Context) -> Result<u64, CfsError> {
    let file = format!("nodes/{}/config", context.site.node);
    let make = |bytes: Option<&[u8]>, _: Option<pve_cfs::Stamp>| {
        parse_target(&String::from_utf8_lossy(bytes.unwrap_or_default()))
    };
    let target = Cfs::new(context).cached(&file, TARGET, make)?;
    Ok(target.unwrap_or(DEFAULT_TARGET))
}

/// The setting in the text of a node's config.
fn parse_target(text: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(TARGET)?.strip_prefix(':')?.trim().parse().ok();
    text.lines().find_map(value).filter(|target| *target <= 100)
}

/// What becomes of the guests.
struct Plan<'a> {
    guests: &'a BTreeMap<VmId, Guest>,
    sizes: BTreeMap<VmId, i64>,
}

impl<'a> Plan<'a> {
    fn new(guests: &'a BTreeMap<VmId, Guest>) -> Self {
        Self {
            guests,
            sizes: BTreeMap::new(),
        }
    }

    /// Brings the use of memory nearer to the goal: at first by those who need it most, or can spare it.
    fn make(mut self, goal: i64) -> BTreeMap<VmId, i64> {
        let (rich, pressed): (Vec<_>, Vec<_>) = self.guests.keys().partition(|vmid| self.is_rich(**vmid));
        let all: Vec<&VmId> = self.guests.keys().collect();
        if goal > SLACK {
            let rest = self.change(&pressed, goal);
            if rest >= goal {
                self.change(&all, rest);
            }
        } else if goal < -SLACK {
            let rest = self.change(&rich, goal);
            if rest <= goal {
                self.change(&all, rest);
            }
        }
        self.sizes
    }

    fn is_rich(&self, vmid: VmId) -> bool {
        self.guests.get(&vmid).is_some_and(Guest::is_rich)
    }

    /// Gives bytes to some guests, or takes them; the outcome is what is left to give or take.
    fn change(&mut self, list: &[&VmId], bytes: i64) -> i64 {
        let guests: BTreeMap<VmId, Guest> = list
            .iter()
            .filter_map(|vmid| Some((**vmid, *self.guests.get(vmid)?)))
            .collect();
        let mut done = BTreeSet::new();
        let mut rest = bytes;
        loop {
            let open: Vec<(VmId, Guest)> = guests
                .iter()
                .filter(|(vmid, _)| !done.contains(*vmid))
                .map(|(vmid, guest)| (*vmid, *guest))
                .collect();
            let round = self.round(&open, bytes, rest, &mut done);
            rest = rest.saturating_sub(round.changed);
            if rest == 0 || round.moved == 0 {
                return rest;
            }
        }
    }

    /// Shares out once what is above the least sizes.
    fn round(&mut self, open: &[(VmId, Guest)], bytes: i64, rest: i64, done: &mut BTreeSet<VmId>) -> Round {
        let mut round = Round::default();
        let above: i64 = open
            .iter()
            .map(|(vmid, guest)| self.size(*vmid, guest).saturating_sub(guest.least))
            .fold(0, i64::saturating_add);
        let weight: i64 = open.iter().map(|(_, guest)| guest.shares).fold(0, i64::saturating_add);
        let each = above.saturating_add(rest) as f64 / weight as f64;
        for (vmid, guest) in open {
            let wanted = guest.least.saturating_add((each * guest.shares as f64) as i64);
            let possible = wanted.min(guest.most).max(guest.least);
            let size = if bytes > 0 && possible > guest.balloon {
                possible.min(guest.balloon.saturating_add(MAX_CHANGE))
            } else if possible < guest.balloon {
                possible.max(guest.balloon.saturating_sub(MAX_CHANGE))
            } else {
                done.insert(*vmid);
                continue;
            };
            let before = self.size(*vmid, guest);
            self.sizes.insert(*vmid, size);
            if size != before {
                round.changed = round.changed.saturating_add(size.saturating_sub(before));
                round.moved = round
                    .moved
                    .saturating_add(size.saturating_sub(guest.balloon).saturating_abs());
            }
        }
        round
    }

    /// What a guest has by the plan so far.
    fn size(&self, vmid: VmId, guest: &Guest) -> i64 {
        self.sizes.get(&vmid).copied().unwrap_or(guest.balloon)
    }
}

/// What one round did.
#[derive(Default)]
struct Round {
    /// Bytes given.
    changed: i64,
    /// How far balloons that moved are from what they are now.
    moved: i64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MIB: i64 = 1 << 20;
    const GIB: i64 = 1 << 30;

    fn planned(guests: &[(u32, Guest)], goal: i64) -> Vec<(u32, i64)> {
        let guests: BTreeMap<VmId, Guest> = guests
            .iter()
            .map(|(vmid, guest)| (VmId::try_from(*vmid).unwrap(), *guest))
            .collect();
        let plan = Plan::new(&guests).make(goal);
        let changed = plan.into_iter().filter(|(vmid, size)| guests[vmid].balloon != *size);
        changed.map(|(vmid, size)| (vmid.get(), size)).collect()
    }

    fn guest(most: i64, balloon: i64, least: i64, free: i64) -> Guest {
        Guest {
            balloon,
            least,
            most,
            free,
            shares: 1000,
        }
    }

    /// Reference 04 §20, vectors 18–26.
    #[test]
    fn balloons_follow_the_vectors() {
        let small = guest(2 * GIB, GIB, GIB, 0);
        let a = [(100, Guest { shares: 2000, ..small }), (101, small)];
        let b = [
            (100, guest(4 * GIB, 4 * GIB, GIB, 2 * GIB)),
            (101, guest(4 * GIB, 4 * GIB, GIB, 10 * MIB)),
        ];
        let c = [
            (200, guest(2 * GIB, GIB, 512 * MIB, 600 * MIB)),
            (201, guest(2 * GIB, GIB, 512 * MIB, 10 * MIB)),
        ];
        let d = [(200, guest(1100 * MIB, 1050 * MIB, 512 * MIB, 10 * MIB))];
        type Case<'a> = (&'a str, &'a [(u32, Guest)], i64, &'a [(u32, i64)]);
        let cases: [Case<'_>; 9] = [
            ("18", &a, 5 * MIB, &[]),
            ("19", &a, 90 * MIB, &[(100, 1_136_656_384), (101, 1_105_199_104)]),
            ("20", &a, 150 * MIB, &[(100, 1_178_599_424), (101, 1_126_170_624)]),
            ("21", &a, 270 * MIB, &[(100, 1_178_599_424), (101, 1_168_113_664)]),
            ("22", &a, -50 * MIB, &[]),
            ("23", &b, -50 * MIB, &[(100, 4_242_538_496)]),
            ("24", &b, -3 * GIB, &[(100, 4_190_109_696)]),
            ("25", &c, 60 * MIB, &[(201, 1_136_656_384)]),
            ("26", &d, 400 * MIB, &[(200, 1_153_433_600)]),
        ];
        // Not of the table: what pressed guests cannot take is not given to the rich while they took some.
        let e = [c[0], (201, guest(1050 * MIB, GIB, 512 * MIB, 10 * MIB))];
        let cases = cases
            .into_iter()
            .chain([("none", &e[..], 400 * MIB, &[(201, 1_101_004_800)][..])]);
        for (vector, guests, goal, expected) in cases {
            assert_eq!(planned(guests, goal), expected, "vector {vector}");
        }
    }

    /// Reference 04 §20, vector 27, and what else keeps its balloon.
    #[test]
    fn some_guests_are_left_alone() {
        let row = json!({ "balloon": GIB, "balloon_min": 512 * MIB, "maxmem": 2 * GIB, "freemem": 5, "shares": 7 });
        let guest = |change: Value| {
            let mut row = row.as_object().unwrap().clone();
            row.extend(change.as_object().unwrap().clone());
            Guest::of(&row)
        };
        let expected = Guest {
            balloon: GIB,
            least: 512 * MIB,
            most: 2 * GIB,
            free: 5,
            shares: 7,
        };
        assert_eq!(guest(json!({})), Some(expected));
        assert_eq!(guest(json!({ "lock": "backup" })), Some(expected));
        for left_alone in [
            json!({"shares": 0}),
            json!({"lock": "migrate"}),
            json!({"balloon": 0}),
            json!({"balloon_min": 0}),
            json!({"balloon_min": 3 * GIB}),
            json!({"shares": -5}),
            json!({"maxmem": null}),
        ] {
            assert_eq!(guest(left_alone.clone()), None, "{left_alone}");
        }
        assert_eq!(planned(&[], 500 * MIB), []);
    }

    /// A balloon's size is what the guest's driver wrote, in 32 bits of pages: one that lies gets nothing by it.
    #[test]
    fn a_guest_that_lies_about_its_balloon_changes_no_neighbour() {
        let honest = json!({ "balloon": 2 * GIB, "balloon_min": GIB, "maxmem": 4 * GIB, "freemem": GIB });
        let liar =
            |balloon: Value| json!({ "balloon": balloon, "balloon_min": GIB, "maxmem": 4 * GIB, "freemem": GIB });
        let among = |balloon: Option<Value>| {
            let rows = [
                (100, Some(honest.clone())),
                (101, Some(honest.clone())),
                (102, balloon.map(liar)),
            ];
            let guests: Vec<(u32, Guest)> = rows
                .iter()
                .filter_map(|(vmid, row)| Some((*vmid, Guest::of(row.as_ref()?.as_object().unwrap())?)))
                .collect();
            [-200 * MIB, 200 * MIB].map(|goal| planned(&guests, goal))
        };
        let without = among(None);
        assert_eq!(without[0], [(100, 1948 * MIB), (101, 1948 * MIB)]);
        for lie in [
            json!(-(1_i64 << 44)),
            json!(1_i64 << 44),
            json!(4 * GIB + 1),
            json!(i64::MIN),
            json!(i64::MAX),
            json!(u64::MAX),
            json!("1"),
        ] {
            assert_eq!(among(Some(lie.clone())), without, "{lie}");
        }
        let boasts = json!({ "balloon": 2 * GIB, "balloon_min": GIB, "maxmem": 4 * GIB, "freemem": i64::MAX,
            "shares": i64::MAX });
        let guest = Guest::of(boasts.as_object().unwrap()).unwrap();
        assert_eq!((guest.free, guest.shares), (4 * GIB, MAX_SHARES));
    }

    #[test]
    fn the_goal_is_what_is_missing_to_the_target() {
        let memory = Memory {
            total: 1001,
            available: 601,
            ..Memory::default()
        };
        assert_eq!(goal(&memory, 80), 400);
        assert_eq!(goal(&memory, 0), -400);
        assert_eq!(goal(&memory, 100), 601);
        let cases = [
            ("description: x\nballooning-target: 55\n", Some(55)),
            ("ballooning-target:0", Some(0)),
            ("ballooning-target: 101\n", None),
            ("ballooning-targets: 5\nballooning-target: x\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_target(text), expected, "{text}");
        }
    }
}
