//! KVM or TCG: by rule, not by hope (reference 06a §7.12).
//!
//! A `/dev/kvm` that opens proves little: para-virtual backends open it and hang their guests. So `auto` believes it
//! only where the processor shows hardware virtualisation, and says so when it does not.

use std::str::FromStr;

use pve_schema::Failure;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// The node's `ACCEL` setting in `/etc/default/pvedaemon`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Setting {
    /// KVM where it can be trusted.
    #[default]
    Auto,
    /// KVM, or refuse.
    Kvm,
    /// Never KVM.
    Tcg,
}

/// A text that is no setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ACCEL must be auto, kvm or tcg, not '{0}'")]
pub struct InvalidSetting(String);

impl FromStr for Setting {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            other => Err(InvalidSetting(other.to_owned())),
        }
    }
}

/// What is known of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvmFacts {
    /// `/dev/kvm` opens and answers the version query.
    pub device_opens: bool,
    /// The processor's flags show `vmx` or `svm`.
    pub hardware: bool,
}

/// What a guest is to run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What runs the guest.
    pub accel: Accel,
    /// Set when the guest asked for KVM and does not get it: a line for the task log.
    pub note: Option<String>,
}

/// KVM was asked for and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("KVM virtualisation configured, but not available. Either disable in VM configuration or enable in BIOS.")]
pub struct KvmUnavailable;

impl Failure for KvmUnavailable {}

/// Decides what a guest runs with; `kvm` is the guest's `kvm` key.
///
/// # Errors
/// [`KvmUnavailable`], only with [`Setting::Kvm`].
pub fn decide(setting: Setting, kvm: bool, facts: KvmFacts) -> Result<Decision, KvmUnavailable> {
    let plain = |accel| Ok(Decision { accel, note: None });
    if !kvm {
        return plain(Accel::Tcg);
    }
    let reason = match setting {
        Setting::Kvm if facts.device_opens => return plain(Accel::Kvm),
        Setting::Kvm => return Err(KvmUnavailable),
        Setting::Auto if facts.device_opens && facts.hardware => return plain(Accel::Kvm),
        Setting::Auto if facts.device_opens => "the processor shows no hardware virtualisation",
        Setting::Auto => "/dev/kvm is not usable",
        Setting::Tcg => "ACCEL=tcg is set for this node",
    };
    Ok(Decision {
        accel: Accel::Tcg,
        note: Some(format!("running without KVM: {reason}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_used_only_where_it_can_be_trusted() {
        let facts = |device_opens, hardware| KvmFacts { device_opens, hardware };
        let cases = [
            (Setting::Auto, true, facts(true, true), Some((Accel::Kvm, false))),
            (Setting::Auto, true, facts(true, false), Some((Accel::Tcg, true))),
            (Setting::Auto, true, facts(false, true), Some((Accel::Tcg, true))),
            (Setting::Auto, false, facts(true, true), Some((Accel::Tcg, false))),
            (Setting::Kvm, true, facts(true, false), Some((Accel::Kvm, false))),
            (Setting::Kvm, true, facts(false, true), None),
            (Setting::Kvm, false, facts(false, false), Some((Accel::Tcg, false))),
            (Setting::Tcg, true, facts(true, true), Some((Accel::Tcg, true))),
        ];
        for (setting, kvm, facts, expected) in cases {
            let decided = decide(setting, kvm, facts)
                .ok()
                .map(|decision| (decision.accel, decision.note.is_some()));
            assert_eq!(decided, expected, "{setting:?} kvm={kvm} {facts:?}");
        }
        assert!("maybe".parse::<Setting>().is_err());
    }
}
