//! The `ostype` key: which guest system the hardware is to suit.

/// The guest system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OsType {
    /// Windows, by its kernel: 5 (2000, XP, 2003), 6 (Vista, 2008), 7, 8, 10, 11.
    Windows(u8),
    /// Linux 2.4.
    L24,
    /// Linux 2.6 and later.
    L26,
    /// Solaris.
    Solaris,
    /// Anything.
    Other,
}

impl OsType {
    /// Reads the `ostype` key; what is unknown is taken for `other`.
    pub fn parse(text: &str) -> Self {
        match text {
            "wxp" | "w2k" | "w2k3" => Self::Windows(5),
            "w2k8" | "wvista" => Self::Windows(6),
            "win7" => Self::Windows(7),
            "win8" => Self::Windows(8),
            "win10" => Self::Windows(10),
            "win11" => Self::Windows(11),
            "l24" => Self::L24,
            "l26" => Self::L26,
            "solaris" => Self::Solaris,
            _ => Self::Other,
        }
    }

    /// Whether this is a Windows.
    pub fn is_windows(self) -> bool {
        matches!(self, Self::Windows(_))
    }

    /// Whether this is a Windows of at least that generation.
    pub fn windows_at_least(self, generation: u8) -> bool {
        matches!(self, Self::Windows(version) if version >= generation)
    }
}
