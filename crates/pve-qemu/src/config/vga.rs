//! The `vga` key: what the guest shows its picture on.

use super::error::ConfigError;
use super::props::Props;

/// A display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vga {
    /// The type, if the config names one.
    pub kind: Option<String>,
    /// Its memory in MiB.
    pub memory: Option<u64>,
    /// Whether VNC clients share their clipboard with the guest.
    pub vnc_clipboard: bool,
}

impl Vga {
    /// Reads the `vga` key.
    ///
    /// # Errors
    /// [`ConfigError::Format`]
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let props = Props::parse("vga", text)?;
        Ok(Self {
            kind: props.get("type").map(str::to_owned),
            memory: props.integer("memory"),
            vnc_clipboard: props.get("clipboard") == Some("vnc"),
        })
    }

    /// No `vga` key.
    pub fn unset() -> Self {
        Self {
            kind: None,
            memory: None,
            vnc_clipboard: false,
        }
    }

    /// Whether the console is a serial line.
    pub fn is_serial(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind.starts_with("serial"))
    }

    /// The number of the serial line that is the console.
    pub fn serial(&self) -> Option<u8> {
        self.kind.as_deref()?.strip_prefix("serial")?.parse().ok()
    }

    /// Whether there is no picture at all.
    pub fn is_headless(&self) -> bool {
        self.is_serial() || self.kind.as_deref() == Some("none")
    }

    /// The number of QXL displays.
    pub fn qxl_heads(&self) -> Option<u8> {
        match self.kind.as_deref()?.strip_prefix("qxl")? {
            "" => Some(1),
            number => number.parse().ok(),
        }
    }

    /// Whether a SPICE server belongs to it.
    pub fn has_spice(&self) -> bool {
        self.qxl_heads().is_some() || self.kind.as_deref().is_some_and(|kind| kind.starts_with("virtio"))
    }
}
