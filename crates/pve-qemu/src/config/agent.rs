//! The `agent` key: the helper inside the guest (reference 06a §3.2).

use super::error::ConfigError;
use super::props::Props;

/// How the node talks to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentPort {
    /// A port of a paravirtual serial controller.
    Virtio,
    /// A serial line.
    Isa,
}

/// The agent, as far as it is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agent {
    /// How the node talks to it.
    pub port: AgentPort,
    /// Whether disks are trimmed after they moved.
    pub fstrim_cloned_disks: bool,
    /// Whether file systems are frozen for backups.
    pub freeze_fs: bool,
}

impl Agent {
    /// Reads the `agent` key; a disabled agent has no properties.
    ///
    /// # Errors
    /// [`ConfigError::Format`]
    pub fn parse(text: &str) -> Result<Option<Self>, ConfigError> {
        let props = Props::parse("agent", text)?;
        if !props.flag("enabled").unwrap_or(false) {
            return Ok(None);
        }
        Ok(Some(Self {
            port: if props.get("type") == Some("isa") {
                AgentPort::Isa
            } else {
                AgentPort::Virtio
            },
            fstrim_cloned_disks: props.flag("fstrim_cloned_disks").unwrap_or(false),
            freeze_fs: props.flag("freeze-fs").unwrap_or(true),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disabled_agent_has_no_properties() {
        assert_eq!(Agent::parse("0,fstrim_cloned_disks=1").unwrap(), None);
        let agent = Agent::parse("enabled=1,freeze-fs-on-backup=0").unwrap().unwrap();
        assert!(!agent.freeze_fs && !agent.fstrim_cloned_disks);
        assert!(Agent::parse("1").unwrap().unwrap().freeze_fs);
    }
}
