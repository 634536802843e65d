//! What a caller wants changed: steps 1 to 6 of reference 06a §4.

use std::collections::BTreeMap;

use pve_schema::{Param, Params, list};
use serde::{Deserialize, Serialize};

use super::error::UpdateError;
use super::rights::Caller;
use crate::config::keys;

/// Parameters of the methods that are no keys of the config.
const NOT_KEYS: [&str; 9] = [
    "background_delay",
    "delete",
    "digest",
    "force",
    "import-working-storage",
    "node",
    "revert",
    "skiplock",
    "vmid",
];

/// What only root may say besides keys.
const ROOT_ONLY: &str = "Only root may use this option.";

/// The range of `cpuunits` with control groups v2, and with v1.
const CPU_UNITS_V2: (u64, u64) = (1, 10_000);
const CPU_UNITS_V1: (u64, u64) = (2, 262_144);

/// What a caller wants changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Keys with their new values.
    pub set: BTreeMap<String, String>,
    /// Keys to delete, in the order given.
    pub delete: Vec<String>,
    /// Keys whose pending change is dropped.
    pub revert: Vec<String>,
    /// What the caller believes the file's digest to be.
    pub digest: Option<String>,
    /// The config's lock is ignored.
    pub skip_lock: bool,
    /// Deleted disks are destroyed.
    pub force: bool,
}

impl Change {
    /// Reads the parameters of `PUT` and `POST …/config`.
    ///
    /// # Errors
    /// What contradicts itself, is unknown, or is root's alone.
    pub fn from_params(params: &Params, caller: &Caller<'_>, cgroup_v2: bool) -> Result<Self, UpdateError> {
        if params.has("skiplock") && !caller.id.is_root() {
            return Err(UpdateError::at("skiplock", ROOT_ONLY));
        }
        let names = |name: &str| -> Vec<String> {
            list::split(params.text(name).unwrap_or_default())
                .into_iter()
                .map(cdrom_is_ide2)
                .collect()
        };
        let mut change = Self {
            set: keys_of(params),
            delete: names("delete"),
            revert: names("revert"),
            digest: params.text("digest").map(str::to_owned),
            skip_lock: params.is_set("skiplock"),
            force: params.is_set("force"),
        };
        change.check_lines()?;
        change.check_ssh_keys()?;
        change.clamp_cpu_units(cgroup_v2);
        if change.set.is_empty() && change.delete.is_empty() && change.revert.is_empty() {
            return Err(UpdateError::Nothing);
        }
        change.rename_cdrom()?;
        change.check_reverts()?;
        change.check_deletes()?;
        Ok(change)
    }

    /// A change that only deletes: `PUT …/unlink`.
    pub fn unlink(keys: &str, force: bool) -> Self {
        Self {
            delete: list::split(keys).into_iter().map(cdrom_is_ide2).collect(),
            force,
            ..Self::default()
        }
    }

    /// All keys that the change touches.
    pub fn touched(&self) -> impl Iterator<Item = &str> {
        let names = self.delete.iter().chain(&self.revert).map(String::as_str);
        names.chain(self.set.keys().map(String::as_str))
    }

    /// The change as a line for the cluster log: `-key value …`, passwords hidden.
    pub fn summary(&self) -> String {
        let mut words = self.set.clone();
        for (name, list) in [("delete", &self.delete), ("revert", &self.revert)] {
            if !list.is_empty() {
                words.insert(name.to_owned(), list.join(","));
            }
        }
        if self.force {
            words.insert("force".to_owned(), "1".to_owned());
        }
        let word = |(key, value): (&String, &String)| {
            let shown = if key == "cipassword" { "<hidden>" } else { value };
            format!("-{key} {shown}")
        };
        words.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// A value is one line of the file: what follows a line break would be another key, set without its privilege.
    /// Passwords are hashed and descriptions encoded before they are stored.
    fn check_lines(&self) -> Result<(), UpdateError> {
        let is_broken = |(key, value): &(&String, &String)| {
            !["cipassword", "description"].contains(&key.as_str()) && value.contains(['\n', '\r'])
        };
        match self.set.iter().find(is_broken) {
            Some((key, _)) => Err(UpdateError::at(key, "value must not contain line breaks")),
            None => Ok(()),
        }
    }

    fn check_ssh_keys(&self) -> Result<(), UpdateError> {
        let Some(encoded) = self.set.get("sshkeys") else {
            return Ok(());
        };
        let text = pve_schema::text::decode(encoded);
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        if lines.all(is_ssh_key) {
            Ok(())
        } else {
            Err(UpdateError::SshKeys)
        }
    }

    fn clamp_cpu_units(&mut self, cgroup_v2: bool) {
        if let Some(units) = self.set.get_mut("cpuunits")
            && let Ok(number) = units.parse::<u64>()
        {
            let (least, most) = if cgroup_v2 { CPU_UNITS_V2 } else { CPU_UNITS_V1 };
            *units = number.clamp(least, most).to_string();
        }
    }

    fn rename_cdrom(&mut self) -> Result<(), UpdateError> {
        let Some(mut value) = self.set.remove("cdrom") else {
            return Ok(());
        };
        if self.set.contains_key("ide2") {
            return Err(UpdateError::at("cdrom", "option ide2 conflicts with cdrom"));
        }
        if !value.contains("media=") {
            value.push_str(",media=cdrom");
        }
        self.set.insert("ide2".to_owned(), value);
        Ok(())
    }

    fn check_reverts(&self) -> Result<(), UpdateError> {
        for key in &self.revert {
            if !keys::is_known(key) {
                return Err(UpdateError::at("revert", format!("unknown option '{key}'")));
            }
            if self.set.contains_key(key) {
                let text = format!("you can't use '-{key}' and -revert {key} at the same time");
                return Err(UpdateError::at("delete", text));
            }
        }
        Ok(())
    }

    fn check_deletes(&self) -> Result<(), UpdateError> {
        for key in &self.delete {
            if self.set.contains_key(key) {
                return Err(UpdateError::SetAndDelete(key.clone()));
            }
            if !keys::is_known(key) {
                return Err(UpdateError::at("delete", format!("unknown option '{key}'")));
            }
        }
        Ok(())
    }
}

/// The keys of the config among the parameters.
pub fn keys_of(params: &Params) -> BTreeMap<String, String> {
    params
        .iter()
        .filter(|(name, _)| !NOT_KEYS.contains(name))
        .filter(|(name, _)| keys::is_known(name))
        .filter_map(|(name, value)| match value {
            Param::Text(text) => Some((name.to_owned(), text.clone())),
            _ => None,
        })
        .collect()
}

fn cdrom_is_ide2(key: &str) -> String {
    if key == "cdrom" { "ide2" } else { key }.to_owned()
}

/// `[options] type base64 [comment]`
fn is_ssh_key(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_type = |word: &str| {
        ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"]
            .iter()
            .any(|prefix| word.starts_with(prefix))
    };
    words.windows(2).any(|pair| match pair {
        [kind, key] => is_type(kind) && key.starts_with("AAAA") && key.bytes().all(is_base64),
        _ => false,
    })
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use pve_schema::Failure;
    use pve_schema::ids::AuthId;

    use super::*;

    type Given<'a> = &'a [(&'a str, &'a str)];

    fn change(parameters: Given<'_>, user: &str) -> Result<Change, UpdateError> {
        let id: AuthId = user.parse().unwrap();
        let rights = pve_access::UserConfig::parse("");
        let caller = Caller {
            id: &id,
            rights: &rights,
        };
        let params = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Param::Text((*value).to_owned())));
        Change::from_params(&params.collect(), &caller, true)
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let cases: [(Given<'_>, &str, &str); 10] = [
            (&[("vmid", "105")], "", "no options specified"),
            (
                &[("skiplock", "1"), ("cores", "2")],
                "skiplock",
                "Only root may use this option.",
            ),
            (&[("revert", "nosuch")], "revert", "unknown option 'nosuch'"),
            (
                &[("revert", "cores"), ("cores", "2")],
                "delete",
                "you can't use '-cores' and -revert cores at the same time",
            ),
            (
                &[("delete", "cores"), ("cores", "2")],
                "",
                "you can't use '-cores' and -delete cores at the same time",
            ),
            (
                &[("delete", "cdrom"), ("ide2", "none")],
                "",
                "you can't use '-ide2' and -delete ide2 at the same time",
            ),
            (&[("delete", "scsi31")], "delete", "unknown option 'scsi31'"),
            (&[("sshkeys", "no%20key")], "", "SSH public key validation error"),
            (
                &[("ciuser", "a\nargs: -S")],
                "ciuser",
                "value must not contain line breaks",
            ),
            (
                &[("searchdomain", "a\rargs: -S")],
                "searchdomain",
                "value must not contain line breaks",
            ),
        ];
        for (parameters, at, expected) in cases {
            let error = change(parameters, "user@pve").unwrap_err();
            let text = match error.param_errors() {
                Some(errors) => errors[at].clone(),
                None => error.to_string(),
            };
            assert_eq!(
                (text.as_str(), error.status()),
                (expected, if at.is_empty() { 500 } else { 400 })
            );
        }
    }

    #[test]
    fn old_names_and_ranges_are_brought_into_form() {
        let parameters = [
            ("cdrom", "local:iso/a.iso"),
            ("cpuunits", "20000"),
            ("delete", "net1, cdrom"),
        ];
        let error = change(&parameters, "root@pam").unwrap_err();
        assert_eq!(
            error.to_string(),
            "you can't use '-ide2' and -delete ide2 at the same time"
        );
        let change = change(&parameters[..2], "root@pam").unwrap();
        assert_eq!(change.set["ide2"], "local:iso/a.iso,media=cdrom");
        assert_eq!(change.set["cpuunits"], "10000");
    }

    #[test]
    fn the_summary_hides_passwords() {
        let key = "ssh-ed25519%20AAAAC3Nz%20me";
        let change = change(&[("sshkeys", key), ("cipassword", "x"), ("delete", "net1")], "root@pam").unwrap();
        assert_eq!(
            change.summary(),
            format!("-cipassword <hidden> -delete net1 -sshkeys {key}")
        );
    }
}
