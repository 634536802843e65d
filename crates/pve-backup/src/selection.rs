//! Which guests a set of options selects (reference 05 §6.3, vectors 18.5). Pure: the guest list and the pools come in,
//! guests grouped by node come out.
//!
//! The same rules hold for a backup that starts, for a job's `included_volumes`, and for the guests that no job backs up.

use std::collections::{BTreeMap, BTreeSet};

use pve_cfs::GuestEntry;
use pve_schema::failure::ParamErrors;
use pve_schema::ids::{NodeName, VmId};
use pve_schema::{Failure, Params, list};

/// Options that cannot be together, or name what is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Parameters are at fault. Status 400.
    #[error("Parameter verification failed.")]
    Parameter(ParamErrors),
    /// A word in a list of guests that is no number.
    #[error("ERROR: strange VM ID '{0}'")]
    StrangeId(String),
    /// There is no such pool.
    #[error("pool '{0}' does not exist")]
    NoPool(String),
}

impl Failure for SelectionError {
    fn status(&self) -> u16 {
        match self {
            Self::Parameter(_) => 400,
            _ => 500,
        }
    }

    fn param_errors(&self) -> Option<&ParamErrors> {
        match self {
            Self::Parameter(errors) => Some(errors),
            _ => None,
        }
    }
}

fn parameter(name: &str, text: &str) -> SelectionError {
    SelectionError::Parameter(ParamErrors::from([(name.to_owned(), text.to_owned())]))
}

/// The options that select guests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// `vmid`: these.
    pub vmids: Option<BTreeSet<VmId>>,
    /// `all`, or `exclude` without `pool`: all that are not excluded.
    pub all: bool,
    /// `exclude`: but these.
    pub exclude: BTreeSet<VmId>,
    /// `pool`: the members of a pool.
    pub pool: Option<String>,
    /// `node`: only those of this node.
    pub node: Option<String>,
    /// `stop`: the running backup is to be stopped, which is worth a call without guests.
    pub stop: bool,
    /// Whether `exclude` was given.
    has_exclude: bool,
}

impl Choice {
    /// Reads the options of a call.
    ///
    /// # Errors
    /// [`SelectionError::StrangeId`].
    pub fn of_params(params: &Params) -> Result<Self, SelectionError> {
        Self::read(|name| params.text(name))
    }

    /// Reads options from wherever they are: a call's parameters, a job's section.
    ///
    /// # Errors
    /// [`SelectionError::StrangeId`].
    pub fn read<'a>(option: impl Fn(&str) -> Option<&'a str>) -> Result<Self, SelectionError> {
        let is_set = |name: &str| option(name).is_some_and(|text| text == "1");
        let exclude = option("exclude");
        let pool = option("pool").map(str::to_owned);
        Ok(Self {
            vmids: option("vmid").map(vmids).transpose()?,
            all: is_set("all") || (exclude.is_some() && pool.is_none()),
            has_exclude: exclude.is_some(),
            exclude: exclude.map(vmids).transpose()?.unwrap_or_default(),
            pool,
            node: option("node").map(str::to_owned),
            stop: is_set("stop"),
        })
    }

    /// Checks that guests are selected at all, and in one way.
    ///
    /// # Errors
    /// By the option that is too much, or by `vmid` if there is none.
    pub fn check(&self) -> Result<(), SelectionError> {
        if self.vmids.is_some() {
            let others = [
                ("exclude", self.has_exclude),
                ("all", self.all),
                ("pool", self.pool.is_some()),
            ];
            return match others.into_iter().find(|(_, given)| *given) {
                Some((name, _)) => Err(parameter(name, "option conflicts with option 'vmid'")),
                None => Ok(()),
            };
        }
        if self.all || self.pool.is_some() || self.stop {
            return Ok(());
        }
        Err(parameter("vmid", "property is missing"))
    }

    /// The guests that are selected.
    ///
    /// `members` gives the guests of a pool, `None` for one that does not exist.
    ///
    /// # Errors
    /// [`SelectionError::NoPool`].
    pub fn select(
        &self,
        guests: &[GuestEntry],
        members: impl Fn(&str) -> Option<BTreeSet<u64>>,
    ) -> Result<Selection, SelectionError> {
        let mut selection = Selection::default();
        let mut wanted: BTreeSet<VmId> = BTreeSet::new();
        if let Some(pool) = &self.pool {
            let members = members(pool).ok_or_else(|| SelectionError::NoPool(pool.clone()))?;
            let is_member = |guest: &&GuestEntry| members.contains(&u64::from(guest.vmid.get()));
            wanted.extend(guests.iter().filter(is_member).map(|guest| guest.vmid));
        } else if let Some(vmids) = &self.vmids {
            wanted.extend(vmids);
        } else if self.all {
            let vmids = guests.iter().map(|guest| guest.vmid);
            wanted.extend(vmids.filter(|vmid| !self.exclude.contains(vmid)));
        }
        for vmid in wanted {
            match guests.iter().find(|guest| guest.vmid == vmid) {
                None => selection.orphans.push(vmid),
                Some(guest) if self.node.as_deref().is_none_or(|node| node == guest.node.as_str()) => {
                    selection.nodes.entry(guest.node.clone()).or_default().push(vmid);
                }
                Some(_) => {}
            }
        }
        Ok(selection)
    }
}

/// Selected guests, each group sorted by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that exist, by the node that has them.
    pub nodes: BTreeMap<NodeName, Vec<VmId>>,
    /// Numbers that no guest of the cluster has. They are attempted on this node, and fail there for all to see.
    pub orphans: Vec<VmId>,
}

impl Selection {
    /// The guests of a node, without orphans.
    pub fn on(&self, node: &NodeName) -> &[VmId] {
        self.nodes.get(node).map_or(&[], Vec::as_slice)
    }

    /// What is attempted on a node: its guests and the orphans, sorted by number.
    pub fn attempted_on(&self, node: &NodeName) -> Vec<VmId> {
        let mut attempted: Vec<VmId> = self.on(node).iter().chain(&self.orphans).copied().collect();
        attempted.sort_unstable();
        attempted
    }

    /// What other nodes are to do.
    pub fn elsewhere(&self, node: &NodeName) -> Vec<VmId> {
        let others = self.nodes.iter().filter(|(name, _)| *name != node);
        let mut skipped: Vec<VmId> = others.flat_map(|(_, vmids)| vmids).copied().collect();
        skipped.sort_unstable();
        skipped
    }

    /// Whether a number is selected, be there such a guest or not.
    pub fn contains(&self, vmid: VmId) -> bool {
        self.orphans.contains(&vmid) || self.nodes.values().any(|vmids| vmids.contains(&vmid))
    }
}

/// A list of guests: leading zeros count for nothing, and neither does 0.
fn vmids(text: &str) -> Result<BTreeSet<VmId>, SelectionError> {
    let mut vmids = BTreeSet::new();
    for word in list::split(text) {
        let strange = || SelectionError::StrangeId(word.to_owned());
        if !word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(strange());
        }
        match word.trim_start_matches('0') {
            "" => {}
            digits => {
                vmids.insert(digits.parse().map_err(|_| strange())?);
            }
        }
    }
    Ok(vmids)
}

#[cfg(test)]
mod tests {
    use pve_cfs::GuestKind;
    use pve_schema::Param;

    use super::*;

    fn cluster() -> Vec<GuestEntry> {
        let guest = |vmid: u32, node: &str, kind| GuestEntry {
            vmid: vmid.try_into().unwrap(),
            node: node.parse().unwrap(),
            kind,
        };
        vec![
            guest(100, "node1", GuestKind::Qemu),
            guest(101, "node1", GuestKind::Qemu),
            guest(112, "node1", GuestKind::Lxc),
            guest(113, "node1", GuestKind::Lxc),
            guest(200, "node2", GuestKind::Qemu),
            guest(201, "node2", GuestKind::Qemu),
            guest(212, "node2", GuestKind::Lxc),
            guest(213, "node2", GuestKind::Lxc),
        ]
    }

    fn params(pairs: &[(&str, &str)]) -> Params {
        let text = |text: &str| Param::Text(text.to_owned());
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), text(value)))
            .collect()
    }

    fn select(pairs: &[(&str, &str)]) -> Result<String, SelectionError> {
        let choice = Choice::of_params(&params(pairs))?;
        choice.check()?;
        let members = |pool: &str| (pool == "p").then(|| BTreeSet::from([100, 101, 200, 201]));
        let selection = choice.select(&cluster(), members)?;
        let join = |vmids: &[VmId]| vmids.iter().map(VmId::to_string).collect::<Vec<_>>().join(",");
        let on = |node: &str| join(selection.on(&node.parse().unwrap()));
        Ok(format!("{}/{}/{}", on("node1"), on("node2"), join(&selection.orphans)))
    }

    /// Reference 05, vectors S1 to S8.
    #[test]
    fn guests_are_selected_by_the_vectors() {
        let vectors: [(&[(&str, &str)], &str); 8] = [
            (&[("all", "1")], "100,101,112,113/200,201,212,213/"),
            (&[("all", "1"), ("node", "node2")], "/200,201,212,213/"),
            (
                &[("all", "1"), ("exclude", "100, 102, 200, 202")],
                "101,112,113/201,212,213/",
            ),
            (&[("pool", "p"), ("node", "node2")], "/200,201/"),
            (&[("vmid", "100, 201, 212, 7654")], "100/201,212/7654"),
            (&[("vmid", "201,212"), ("node", "node1")], "//"),
            (&[("exclude", "101")], "100,112,113/200,201,212,213/"),
            // With a pool the exclusion counts for nothing.
            (&[("pool", "p"), ("exclude", "100")], "100,101/200,201/"),
        ];
        for (options, expected) in vectors {
            assert_eq!(select(options).unwrap(), expected, "{options:?}");
        }
    }

    #[test]
    fn options_that_exclude_each_other_are_told_by_name() {
        let conflict = |name: &str| parameter(name, "option conflicts with option 'vmid'");
        let vectors: [(&[(&str, &str)], SelectionError); 7] = [
            (&[("vmid", "100"), ("all", "1")], conflict("all")),
            (&[("vmid", "100"), ("exclude", "101")], conflict("exclude")),
            (&[("vmid", "100"), ("pool", "p")], conflict("pool")),
            (&[], parameter("vmid", "property is missing")),
            (&[("all", "0")], parameter("vmid", "property is missing")),
            (&[("pool", "q")], SelectionError::NoPool("q".to_owned())),
            (&[("vmid", "100,x1")], SelectionError::StrangeId("x1".to_owned())),
        ];
        for (options, expected) in vectors {
            assert_eq!(select(options).unwrap_err(), expected, "{options:?}");
        }
        assert_eq!(select(&[("stop", "1")]).unwrap(), "//");
        assert_eq!(select(&[("vmid", "0100,0,00")]).unwrap(), "100//");
    }

    #[test]
    fn orphans_are_attempted_here_and_guests_of_others_are_not() {
        let choice = Choice::of_params(&params(&[("vmid", "213,777,100,200")])).unwrap();
        let selection = choice.select(&cluster(), |_| None).unwrap();
        let numbers = |vmids: Vec<VmId>| vmids.into_iter().map(VmId::get).collect::<Vec<_>>();
        let here = "node1".parse().unwrap();
        assert_eq!(numbers(selection.attempted_on(&here)), [100, 777]);
        assert_eq!(numbers(selection.elsewhere(&here)), [200, 213]);
        assert!(selection.contains(777.try_into().unwrap()) && !selection.contains(101.try_into().unwrap()));
    }
}
