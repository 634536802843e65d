//! Who gets which CPUs (reference 04 §12): a pure function of what is there.

use std::collections::BTreeMap;

use pve_schema::ids::VmId;

use super::CpuSet;

/// What is to be known of a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The container.
    pub vmid: VmId,
    /// The CPUs that it may use now.
    pub current: CpuSet,
    /// How many it is to have; `None` for all.
    pub cores: Option<u64>,
    /// Whether somebody said in the config which ones: then they stay.
    pub pinned: bool,
}

/// A change of a container's CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The container.
    pub vmid: VmId,
    /// What it has before the change.
    pub before: CpuSet,
    /// What it is to have.
    pub set: CpuSet,
}

/// The changes, in the order in which they are to be made. First every container gets as many CPUs as it is to have; then
/// those with fewer than all of them go to CPUs that fewer others may use.
pub fn plan(allowed: &CpuSet, containers: &[Seen]) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut counts: BTreeMap<u32, i64> = allowed.iter().map(|cpu| (cpu, 0)).collect();
    let mut balanced = Vec::new();
    for seen in containers {
        let set = sized(allowed, seen);
        if set != seen.current {
            writes.push(write(seen.vmid, &seen.current, &set));
        }
        for cpu in set.iter() {
            *counts.entry(cpu).or_insert(0) += 1;
        }
        let fewer = seen.cores.is_some_and(|cores| cores != count(allowed));
        if fewer && !seen.pinned {
            balanced.push((seen.vmid, set));
        }
    }
    for (vmid, set) in balanced {
        let moved = spread(allowed, &set, &mut counts);
        if moved != set {
            writes.push(write(vmid, &set, &moved));
        }
    }
    writes
}

fn write(vmid: VmId, before: &CpuSet, set: &CpuSet) -> Write {
    Write {
        vmid,
        before: before.clone(),
        set: set.clone(),
    }
}

fn count(set: &CpuSet) -> u64 {
    u64::try_from(set.len()).unwrap_or(u64::MAX)
}

/// As many CPUs as the container is to have: the first ones of those that it has, or some more.
fn sized(allowed: &CpuSet, seen: &Seen) -> CpuSet {
    if seen.pinned {
        return seen.current.clone();
    }
    let want = seen.cores.unwrap_or(u64::MAX).min(count(allowed));
    let want = usize::try_from(want).unwrap_or(usize::MAX);
    let others = allowed.iter().filter(|cpu| !seen.current.contains(*cpu));
    seen.current.iter().chain(others).take(want).collect()
}

/// Each CPU of the set, or one that at least two fewer may use. As upstream does it, two CPUs may go to the same one: the
/// container then has one CPU less until the next time.
fn spread(allowed: &CpuSet, original: &CpuSet, counts: &mut BTreeMap<u32, i64>) -> CpuSet {
    let of = |counts: &BTreeMap<u32, i64>, cpu: u32| counts.get(&cpu).copied().unwrap_or(0);
    let mut chosen = Vec::new();
    for cpu in original.iter() {
        let candidates = allowed.iter().filter(|candidate| !original.contains(*candidate));
        let best = candidates.fold(cpu, |best, candidate| {
            if of(counts, candidate) < of(counts, best) - 1 {
                candidate
            } else {
                best
            }
        });
        if best != cpu {
            *counts.entry(best).or_insert(0) += 1;
            *counts.entry(cpu).or_insert(0) -= 1;
        }
        chosen.push(best);
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).unwrap()
    }

    fn container(vmid: u32, current: &str, cores: Option<u64>) -> Seen {
        Seen {
            vmid: vmid.try_into().unwrap(),
            current: set(current),
            cores,
            pinned: false,
        }
    }

    fn changes(allowed: &str, containers: &[Seen]) -> Vec<(u32, String)> {
        let writes = plan(&set(allowed), containers);
        writes
            .iter()
            .map(|write| (write.vmid.get(), write.set.short()))
            .collect()
    }

    fn expected(changes: &[(u32, &str)]) -> Vec<(u32, String)> {
        changes.iter().map(|(vmid, set)| (*vmid, (*set).to_owned())).collect()
    }

    #[test]
    fn a_container_has_as_many_cpus_as_it_is_to_have() {
        for (current, cores, after) in [
            ("0-3", Some(2), Some("0-1")),
            ("2-3", Some(1), Some("2")),
            ("2", Some(3), Some("0-2")),
            ("", Some(2), Some("0-1")),
            ("1-2", Some(2), None),
            ("1", None, Some("0-3")),
            ("0-3", None, None),
            ("0-1", Some(99), Some("0-3")),
        ] {
            let after: Vec<(u32, &str)> = after.into_iter().map(|after| (100, after)).collect();
            let found = changes("0-3", &[container(100, current, cores)]);
            assert_eq!(found, expected(&after), "{current} {cores:?}");
        }
    }

    #[test]
    fn a_gain_of_one_is_never_taken() {
        let two = [container(100, "0", Some(1)), container(101, "0", Some(1))];
        assert_eq!(changes("0-3", &two), expected(&[(100, "1")]));
        // One on each of two CPUs: each other one would be no better.
        let apart = [container(100, "0", Some(1)), container(101, "1", Some(1))];
        assert_eq!(changes("0-3", &apart), []);
        // Those that may use all CPUs count, and stay: 2 against 1 is a gain of one.
        let beside = [container(100, "0", Some(1)), container(101, "0-3", None)];
        assert_eq!(changes("0-3", &beside), []);
    }

    #[test]
    fn many_on_the_same_cpus_are_spread() {
        let four: Vec<Seen> = (100..104).map(|vmid| container(vmid, "0-1", Some(2))).collect();
        // Counts of 4 4 0 0: the first one goes to 2, and again, since 1 is far fewer than 4; the second one to 3.
        assert_eq!(changes("0-3", &four), expected(&[(100, "2"), (101, "3")]));
        // The next time they get their second CPU, and all CPUs are used by two.
        let next =
            [("2", 100), ("3", 101), ("0-1", 102), ("0-1", 103)].map(|(set, vmid)| container(vmid, set, Some(2)));
        let moves = [(100, "0,2"), (101, "0,3"), (100, "1-2"), (101, "2-3"), (102, "0,3")];
        assert_eq!(changes("0-3", &next), expected(&moves));
        let widened = [container(100, "", Some(2)), container(101, "", Some(2))];
        assert_eq!(
            changes("0-3", &widened),
            expected(&[(100, "0-1"), (101, "0-1"), (100, "2-3")])
        );
    }

    #[test]
    fn pinned_containers_count_and_stay() {
        let pinned = Seen {
            pinned: true,
            ..container(100, "0", Some(1))
        };
        let other = container(101, "0", Some(1));
        assert_eq!(changes("0-3", &[pinned.clone(), other]), expected(&[(101, "1")]));
        let wide = Seen {
            cores: Some(3),
            ..pinned
        };
        assert_eq!(changes("0-3", &[wide]), []);
    }

    #[test]
    fn what_was_there_before_is_remembered() {
        let writes = plan(&set("0-3"), &[container(100, "2-3", Some(1))]);
        assert_eq!((writes.len(), writes[0].before.short()), (1, "2-3".to_owned()));
    }
}
