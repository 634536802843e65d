//! The options of `datacenter.cfg` that VM configs depend on (reference 06a §3.4, §3.5).

use std::collections::BTreeSet;

use pve_access::UserConfig;
use pve_cfs::{Cfs, CfsError};
use pve_contract::id;
use pve_guest::tags::{TagAccess, TagStyle, UserAllow};
use pve_schema::ids::AuthId;
use pve_schema::property_string::{self, Properties};
use pve_schema::simple_config::{SimpleConfig, SimpleFormat};
use pve_schema::{Context, list};

use crate::files;

/// The options, as they are now.
#[derive(Debug, Clone)]
pub(crate) struct Datacenter {
    options: SimpleConfig,
}

impl Datacenter {
    /// Reads the options; lines that are wrong count as absent.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(context: &Context) -> Result<Self, CfsError> {
        let format = SimpleFormat {
            file: "datacenter.cfg",
            keys: pve_contract::method(id::PUT_CLUSTER_OPTIONS).parameters,
            blank_after_description: false,
        };
        let text = Cfs::new(context).read_text(format.file)?.unwrap_or_default();
        Ok(Self {
            options: SimpleConfig::parse(&format, &text),
        })
    }

    /// The first bytes of generated hardware addresses.
    pub(crate) fn mac_prefix(&self) -> Option<&str> {
        self.options.text("mac_prefix")
    }

    /// How tags are written.
    pub(crate) fn tag_style(&self) -> TagStyle {
        let style = self.properties("tag-style");
        TagStyle {
            case_sensitive: style.is_set("case-sensitive"),
            keep_order: style.get("ordering") == Some("config"),
        }
    }

    /// Which tags a user without `Sys.Modify` may give and take.
    pub(crate) fn tag_access(&self, context: &Context, rights: &UserConfig, who: &AuthId) -> TagAccess {
        let access = self.properties("user-tag-access");
        let mut listed = tags(access.get("user-allow-list").unwrap_or_default());
        let allow = match access.get("user-allow").unwrap_or("free") {
            "none" => UserAllow::Nothing,
            "list" => UserAllow::List(listed),
            "existing" => {
                listed.extend(tags_in_sight(context, rights, who));
                UserAllow::List(listed)
            }
            _ => UserAllow::Free,
        };
        TagAccess {
            registered: tags(self.options.text("registered-tags").unwrap_or_default()),
            allow,
        }
    }

    fn properties(&self, key: &str) -> Properties {
        let format = pve_contract::property_format(&format!("cluster.options.{key}"));
        let parsed = format
            .zip(self.options.text(key))
            .and_then(|(format, text)| property_string::parse(format, text).ok());
        parsed.unwrap_or_default()
    }
}

fn tags(text: &str) -> BTreeSet<String> {
    list::split(text)
        .into_iter()
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The tags of the VMs that somebody may see.
fn tags_in_sight(context: &Context, rights: &UserConfig, who: &AuthId) -> BTreeSet<String> {
    let vmids = files::list(context).unwrap_or_default();
    vmids
        .into_iter()
        .filter(|vmid| rights.has(who, &format!("/vms/{vmid}"), &["VM.Audit"]))
        .filter_map(|vmid| files::load(context, vmid).ok())
        .flat_map(|config| tags(config.main.get("tags").unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Datacenter, TagAccess) {
        let directory = tempfile::tempdir().unwrap();
        let context = Context::new(crate::test_site(directory.path()));
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("datacenter.cfg", text.as_bytes()).unwrap();
        cfs.write("nodes/n1/qemu-server/105.conf", b"tags: seen\n").unwrap();
        let datacenter = Datacenter::read(&context).unwrap();
        let access = datacenter.tag_access(&context, &UserConfig::default(), &AuthId::root());
        (datacenter, access)
    }

    #[test]
    fn options_have_their_defaults() {
        let (datacenter, access) = read("bogus: 1\n");
        assert_eq!(
            (datacenter.mac_prefix(), datacenter.tag_style()),
            (None, TagStyle::default())
        );
        assert!(access.permits("anything"));
    }

    #[test]
    fn options_are_read() {
        let text = "mac_prefix: 02:AB\ntag-style: case-sensitive=1,ordering=config\n\
                    user-tag-access: user-allow=existing,user-allow-list=a;b\nregistered-tags: r;b\n";
        let (datacenter, access) = read(text);
        assert_eq!(datacenter.mac_prefix(), Some("02:AB"));
        let style = datacenter.tag_style();
        assert!(style.case_sensitive && style.keep_order);
        let permitted = ["a", "b", "r", "seen", "other"].map(|tag| access.permits(tag));
        assert_eq!(permitted, [true, false, false, true, false]);
    }
}
