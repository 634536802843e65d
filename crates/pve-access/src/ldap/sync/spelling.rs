//! How the users that a directory told are spelt here. A realm without case has one user `alice` or `Alice`, never both:
//! neither could log in (reference 02 §7.2).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pve_schema::ids::UserId;

use super::found::Found;
use crate::user_config::UserConfig;

/// How the users that a directory told are spelt here.
pub(super) struct Spellings<'a> {
    /// From the directory's spelling to ours. Who is not in it is nobody that could be told apart.
    pub(super) ids: BTreeMap<&'a UserId, UserId>,
    /// Those of our users that the directory knows.
    pub(super) kept: BTreeSet<UserId>,
}

impl<'a> Spellings<'a> {
    /// As the directory told them, where case counts.
    pub(super) fn as_told(found: &'a Found) -> Self {
        Self {
            ids: found.users.keys().map(|id| (id, id.clone())).collect(),
            kept: found.users.keys().cloned().collect(),
        }
    }

    /// As our users are spelt, and new ones as the directory told them; `warn` hears of those that several fit.
    pub(super) fn as_known(found: &'a Found, config: &UserConfig, realm: &str, warn: &mut dyn FnMut(&str)) -> Self {
        let mut known: HashMap<String, Vec<&UserId>> = HashMap::new();
        for id in config.users.keys().filter(|id| id.realm() == realm) {
            known.entry(id.name().to_lowercase()).or_default().push(id);
        }
        let mut told: BTreeMap<String, Vec<&'a UserId>> = BTreeMap::new();
        for id in found.users.keys() {
            told.entry(id.name().to_lowercase()).or_default().push(id);
        }
        let mut spellings = Self {
            ids: BTreeMap::new(),
            kept: BTreeSet::new(),
        };
        for (name, told) in told {
            let ours = known.get(&name).map_or(&[][..], Vec::as_slice);
            // Whoever it is, it has not vanished.
            spellings.kept.extend(ours.iter().copied().cloned());
            match (told.as_slice(), ours) {
                ([told], []) => {
                    spellings.kept.insert((*told).clone());
                    spellings.ids.insert(told, (*told).clone());
                }
                ([told], [ours]) => {
                    spellings.ids.insert(told, (*ours).clone());
                }
                (told, _) => {
                    for id in told {
                        warn(&format!(
                            "skipping user '{id}' - there are several of that name, and the realm knows no case"
                        ));
                    }
                }
            }
        }
        spellings
    }
}
