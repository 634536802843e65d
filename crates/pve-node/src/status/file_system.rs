//! How full a file system is.

use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Figures of a file system in bytes; all zero where it does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// All there is.
    pub total: u64,
    /// In use; what is kept for root does not count.
    pub used: u64,
    /// What users other than root may still take.
    pub available: u64,
}

impl FileSystem {
    /// The machine's root file system.
    pub fn root() -> Self {
        Self::of(Path::new("/"))
    }

    /// The file system of a path. It may block where the path is on a network.
    pub fn of(path: &Path) -> Self {
        let Ok(figures) = statvfs(path) else {
            return Self::default();
        };
        let bytes = |blocks: u64| blocks.saturating_mul(figures.fragment_size());
        Self {
            total: bytes(figures.blocks()),
            used: bytes(figures.blocks().saturating_sub(figures.blocks_free())),
            available: bytes(figures.blocks_available()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_file_system_has_figures() {
        let root = FileSystem::root();
        assert!(root.total >= root.used && root.total >= root.available && root.total > 0);
        assert_eq!(FileSystem::of(Path::new("/nonexistent")), FileSystem::default());
    }
}
