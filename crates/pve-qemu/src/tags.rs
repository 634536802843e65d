//! What `datacenter.cfg` says of tags (reference 06a §3.4, §3.5).

use std::collections::BTreeSet;

use pve_access::UserConfig;
use pve_cfs::Datacenter;
use pve_guest::tags::{TagAccess, TagStyle, UserAllow};
use pve_schema::ids::AuthId;
use pve_schema::{Context, list};

use crate::files;

/// How tags are written.
pub(crate) fn style(datacenter: &Datacenter) -> TagStyle {
    let style = datacenter.properties("tag-style");
    TagStyle {
        case_sensitive: style.is_set("case-sensitive"),
        keep_order: style.get("ordering") == Some("config"),
    }
}

/// Which tags a user without `Sys.Modify` may give and take.
pub(crate) fn access(datacenter: &Datacenter, context: &Context, rights: &UserConfig, who: &AuthId) -> TagAccess {
    let access = datacenter.properties("user-tag-access");
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
        registered: tags(datacenter.text("registered-tags").unwrap_or_default()),
        allow,
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
    use pve_cfs::Cfs;

    use super::*;

    fn read(text: &str) -> (TagStyle, TagAccess) {
        let directory = tempfile::tempdir().unwrap();
        let context = Context::new(crate::test_site(directory.path()));
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("datacenter.cfg", text.as_bytes()).unwrap();
        cfs.write("nodes/n1/qemu-server/105.conf", b"tags: seen\n").unwrap();
        let datacenter = Datacenter::read(&cfs).unwrap();
        let access = access(&datacenter, &context, &UserConfig::default(), &AuthId::root());
        (style(&datacenter), access)
    }

    #[test]
    fn options_have_their_defaults() {
        let (style, access) = read("bogus: 1\n");
        assert_eq!(style, TagStyle::default());
        assert!(access.permits("anything"));
    }

    #[test]
    fn options_are_read() {
        let text = "tag-style: case-sensitive=1,ordering=config\n\
                    user-tag-access: user-allow=existing,user-allow-list=a;b\nregistered-tags: r;b\n";
        let (style, access) = read(text);
        assert!(style.case_sensitive && style.keep_order);
        let permitted = ["a", "b", "r", "seen", "other"].map(|tag| access.permits(tag));
        assert_eq!(permitted, [true, false, false, true, false]);
    }
}
