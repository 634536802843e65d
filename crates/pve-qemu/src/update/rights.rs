//! Who may change which key (reference 06a §3, column Priv).

use std::collections::BTreeSet;

use pve_access::UserConfig;
use pve_guest::GuestConfig;
use pve_guest::tags::{self, TagAccess};
use pve_schema::ids::{AuthId, VmId};

use super::change::Change;
use super::error::UpdateError;
use crate::config::{Drive, DriveKey, Need, Net, Props, keys};

/// Who asks, and the rights of all. An `AccessControl` stands for its [`UserConfig`].
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Who asks.
    pub id: &'a AuthId,
    /// The rights of all.
    pub rights: &'a UserConfig,
}

impl Caller<'_> {
    /// Refuses unless the caller holds one of the privileges.
    ///
    /// # Errors
    /// Status 403, `Permission check failed (PATH, A|B)`.
    pub fn check_any(&self, path: &str, privileges: &[&str]) -> Result<(), UpdateError> {
        Ok(self.rights.require_any(self.id, path, privileges)?)
    }
}

/// What a change of a key needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// One of the privileges on a path.
    AnyOf {
        /// The path.
        path: String,
        /// The privileges.
        privileges: Vec<&'static str>,
    },
    /// `root@pam`.
    Root,
    /// `root@pam`, because the value hands out a device of the node.
    RootForDevice,
}

impl Requirement {
    fn on(path: impl Into<String>, privilege: &'static str) -> Self {
        Self::AnyOf {
            path: path.into(),
            privileges: vec![privilege],
        }
    }
}

/// What setting a key to a new value, or deleting it (`new` is none), needs. Tags have rules of their own
/// ([`check_tags`]).
pub fn required_privileges(vmid: VmId, key: &str, old: Option<&str>, new: Option<&str>) -> Vec<Requirement> {
    let Some(info) = keys::info(key) else {
        return vec![Requirement::Root];
    };
    let vm = format!("/vms/{vmid}");
    let on_vm = |privilege| Requirement::on(vm.clone(), privilege);
    let mut needs = match info.need {
        Need::Privilege(privilege) => vec![on_vm(privilege)],
        Need::Root => vec![Requirement::Root],
        Need::Internal if key == "vmstate" && new.is_none() => {
            vec![on_vm("VM.Config.Disk"), on_vm("VM.PowerMgmt")]
        }
        Need::Internal => vec![Requirement::Root],
        Need::CloudinitOrNetwork => vec![Requirement::AnyOf {
            path: vm.clone(),
            privileges: vec!["VM.Config.Cloudinit", "VM.Config.Network"],
        }],
        Need::DiskOrCdrom => drive_needs(key, old, new).into_iter().map(on_vm).collect(),
        Need::Serial => {
            let socket = [old, new].into_iter().flatten().all(|value| value == "socket");
            vec![if socket {
                on_vm("VM.Config.HWType")
            } else {
                Requirement::RootForDevice
            }]
        }
        Need::Usb => mapped(key, old, new, "/mapping/usb", on_vm("VM.Config.HWType")),
        Need::HostPci => mapped(key, old, new, "/mapping/pci", on_vm("VM.Config.HWType")),
    };
    needs.extend(extra_needs(key, old, new));
    needs
}

/// A medium needs less than a disk.
fn drive_needs(key: &str, old: Option<&str>, new: Option<&str>) -> BTreeSet<&'static str> {
    let need = |text: &str| {
        let drive = key
            .parse::<DriveKey>()
            .ok()
            .and_then(|key| Drive::parse(key, text).ok());
        if drive.is_some_and(|drive| drive.is_cdrom()) {
            "VM.Config.CDROM"
        } else {
            "VM.Config.Disk"
        }
    };
    let needs: BTreeSet<&str> = [old, new].into_iter().flatten().map(need).collect();
    if needs.is_empty() {
        BTreeSet::from(["VM.Config.Disk"])
    } else {
        needs
    }
}

/// A mapping is what an administrator has cleared; a device of the node itself is root's.
fn mapped(key: &str, old: Option<&str>, new: Option<&str>, path: &str, base: Requirement) -> Vec<Requirement> {
    let mut needs = vec![base];
    for text in [old, new].into_iter().flatten() {
        let props = Props::parse(key, text).unwrap_or_default();
        match (props.get("mapping"), props.get("host")) {
            (Some(id), _) => needs.push(Requirement::on(format!("{path}/{id}"), "Mapping.Use")),
            (None, Some(host)) if host.eq_ignore_ascii_case("spice") => {}
            _ => needs.push(Requirement::RootForDevice),
        }
    }
    needs
}

/// What a few keys need besides.
fn extra_needs(key: &str, old: Option<&str>, new: Option<&str>) -> Vec<Requirement> {
    let mapping = |kind: &str, id: &str| Requirement::on(format!("/mapping/{kind}/{id}"), "Mapping.Use");
    let props = |text: &str| Props::parse(key, text).unwrap_or_default();
    let both = || [old, new].into_iter().flatten();
    match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "startup" => vec![Requirement::on("/", "Sys.Modify")],
        "net" => both().flat_map(bridge_needs).collect(),
        "cpu" => {
            let custom = |text| {
                props(text)
                    .get("cputype")
                    .and_then(|kind| Some(kind.strip_prefix("custom-")?.to_owned()))
            };
            both().filter_map(custom).map(|name| mapping("cpu", &name)).collect()
        }
        "virtiofs" => both()
            .filter_map(|text| Some(mapping("dir", props(text).get("dirid")?)))
            .collect(),
        "rng" if both().any(|text| props(text).get("source") == Some("/dev/hwrng")) => {
            vec![Requirement::on("/mapping/hwrng", "Mapping.Use")]
        }
        "vmstatestorage" => {
            let space = |id: &str| Requirement::on(format!("/storage/{id}"), "Datastore.AllocateSpace");
            new.map(space).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Plugging into a bridge; into a VLAN of it, that VLAN is enough.
fn bridge_needs(text: &str) -> Vec<Requirement> {
    let Ok(net) = Net::parse(text) else { return Vec::new() };
    let Some(bridge) = net.bridge() else { return Vec::new() };
    let zone = format!("/sdn/zones/localnetwork/{bridge}");
    let tags: Vec<&str> = net
        .options
        .get("tag")
        .into_iter()
        .chain(
            net.options
                .get("trunks")
                .unwrap_or_default()
                .split(';')
                .filter(|tag| !tag.is_empty()),
        )
        .collect();
    if tags.is_empty() {
        return vec![Requirement::on(zone, "SDN.Use")];
    }
    tags.iter()
        .map(|tag| Requirement::on(format!("{zone}/{tag}"), "SDN.Use"))
        .collect()
}

/// Refuses unless the caller may make the change.
///
/// # Errors
/// The first thing that is missing.
pub(crate) fn check_change(
    caller: &Caller<'_>,
    vmid: VmId,
    config: &GuestConfig,
    change: &Change,
    tag_access: &TagAccess,
) -> Result<(), UpdateError> {
    if caller.id.is_root() {
        return Ok(());
    }
    for key in change.touched() {
        let old = config.effective_value(key);
        let new = change.set.get(key).map(String::as_str);
        check_key(caller, vmid, key, old, new)?;
    }
    let touches_tags = change.touched().any(|key| key == "tags");
    if touches_tags {
        let new = change.set.get("tags").map(String::as_str).unwrap_or_default();
        check_tags(caller, config.main.get("tags").unwrap_or_default(), new, tag_access)?;
    }
    Ok(())
}

/// Refuses unless the caller may set or delete one key.
///
/// # Errors
/// What is missing.
pub(crate) fn check_key(
    caller: &Caller<'_>,
    vmid: VmId,
    key: &str,
    old: Option<&str>,
    new: Option<&str>,
) -> Result<(), UpdateError> {
    for requirement in required_privileges(vmid, key, old, new) {
        match requirement {
            _ if caller.id.is_root() => {}
            Requirement::AnyOf { path, privileges } => caller.check_any(&path, &privileges)?,
            Requirement::Root => return Err(UpdateError::RootOnly(key.to_owned())),
            Requirement::RootForDevice => return Err(UpdateError::RootOnlyDevice(key.to_owned())),
        }
    }
    Ok(())
}

/// Refuses unless the caller may give or take the tags that change.
///
/// # Errors
/// [`UpdateError::Permission`] with upstream's words.
pub(crate) fn check_tags(caller: &Caller<'_>, old: &str, new: &str, access: &TagAccess) -> Result<(), UpdateError> {
    if caller.rights.has(caller.id, "/", &["Sys.Modify"]) {
        return Ok(());
    }
    match tags::changed(old, new).into_iter().find(|tag| !access.permits(tag)) {
        Some(tag) => Err(UpdateError::Permission(format!(
            "/, Sys.Modify for modifying tag '{tag}'"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(key: &str, old: Option<&str>, new: Option<&str>) -> String {
        let show = |requirement: Requirement| match requirement {
            Requirement::AnyOf { path, privileges } => format!("{path}:{}", privileges.join("|")),
            Requirement::Root => "root".to_owned(),
            Requirement::RootForDevice => "root for devices".to_owned(),
        };
        let all = required_privileges(105.try_into().unwrap(), key, old, new);
        all.into_iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_need_what_the_table_says() {
        let cases: [(&str, Option<&str>, Option<&str>, &str); 14] = [
            ("cores", None, Some("2"), "/vms/105:VM.Config.CPU"),
            ("args", None, Some("-S"), "root"),
            (
                "ciuser",
                None,
                Some("a"),
                "/vms/105:VM.Config.Cloudinit|VM.Config.Network",
            ),
            ("ide2", None, Some("none,media=cdrom"), "/vms/105:VM.Config.CDROM"),
            (
                "ide2",
                Some("l-x:d"),
                Some("none,media=cdrom"),
                "/vms/105:VM.Config.CDROM /vms/105:VM.Config.Disk",
            ),
            ("scsi0", None, Some("l-x:8"), "/vms/105:VM.Config.Disk"),
            ("serial0", None, Some("socket"), "/vms/105:VM.Config.HWType"),
            ("serial0", None, Some("/dev/ttyS0"), "root for devices"),
            ("usb0", None, Some("spice"), "/vms/105:VM.Config.HWType"),
            (
                "usb0",
                None,
                Some("mapping=m1"),
                "/vms/105:VM.Config.HWType /mapping/usb/m1:Mapping.Use",
            ),
            (
                "usb0",
                None,
                Some("host=1234:5678"),
                "/vms/105:VM.Config.HWType root for devices",
            ),
            (
                "startup",
                None,
                Some("order=1"),
                "/vms/105:VM.Config.Options /:Sys.Modify",
            ),
            (
                "net0",
                None,
                Some("virtio,bridge=vmbr0,tag=5"),
                "/vms/105:VM.Config.Network /sdn/zones/localnetwork/vmbr0/5:SDN.Use",
            ),
            (
                "vmstate",
                Some("l-x:s"),
                None,
                "/vms/105:VM.Config.Disk /vms/105:VM.PowerMgmt",
            ),
        ];
        for (key, old, new, expected) in cases {
            assert_eq!(needs(key, old, new), expected, "{key}");
        }
    }

    #[test]
    fn a_missing_privilege_is_named() {
        let rights = UserConfig::parse("user:user@pve:1:0:::::\nacl:1:/vms/106:user@pve:PVEVMAdmin:\n");
        let id: AuthId = "user@pve".parse().unwrap();
        let caller = Caller {
            id: &id,
            rights: &rights,
        };
        let check = |vmid: u32, key| check_key(&caller, vmid.try_into().unwrap(), key, None, Some("1"));
        assert!(check(106, "cores").is_ok());
        let refused = |vmid, key| check(vmid, key).unwrap_err().to_string();
        assert_eq!(
            refused(105, "cores"),
            "Permission check failed (/vms/105, VM.Config.CPU)"
        );
        assert_eq!(refused(106, "affinity"), "only root can set 'affinity' config");
    }

    #[test]
    fn changed_tags_are_checked_one_by_one() {
        let rights = UserConfig::parse("user:user@pve:1:0:::::\n");
        let id: AuthId = "user@pve".parse().unwrap();
        let caller = Caller {
            id: &id,
            rights: &rights,
        };
        let access = TagAccess {
            registered: BTreeSet::from(["prod".to_owned()]),
            allow: pve_guest::tags::UserAllow::Free,
        };
        assert!(check_tags(&caller, "prod", "prod;lab", &access).is_ok());
        let error = check_tags(&caller, "prod", "lab", &access).unwrap_err().to_string();
        assert_eq!(
            error,
            "Permission check failed (/, Sys.Modify for modifying tag 'prod')"
        );
    }
}
