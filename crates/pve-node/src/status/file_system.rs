//! How full a file system is.

use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Figures of a file system, as statvfs(3) tells them in bytes and files; all zero where it does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// All there is.
    pub total: u64,
    /// In use; what is kept for root does not count.
    pub used: u64,
    /// What root may still take.
    pub free: u64,
    /// What users other than root may still take.
    pub available: u64,
    /// Files that it can hold; zero where it does not count them.
    pub files: u64,
    /// Files that root may still make.
    pub files_free: u64,
    /// Files that others may still make.
    pub files_available: u64,
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
            free: bytes(figures.blocks_free()),
            available: bytes(figures.blocks_available()),
            files: figures.files(),
            files_free: figures.files_free(),
            files_available: figures.files_available(),
        }
    }

    /// What users other than root see as the whole: without what is kept for root.
    pub fn user_total(&self) -> u64 {
        without_reserve(self.total, self.free, self.available)
    }

    /// The same of files.
    pub fn user_files(&self) -> u64 {
        without_reserve(self.files, self.files_free, self.files_available)
    }

    /// Files that are there.
    pub fn files_used(&self) -> u64 {
        self.files.saturating_sub(self.files_free)
    }

    /// Per cent in use of what users see as the whole.
    pub fn percent(&self) -> u64 {
        percent(self.total, self.free, self.available)
    }

    /// The same of files.
    pub fn files_percent(&self) -> u64 {
        percent(self.files, self.files_free, self.files_available)
    }
}

fn without_reserve(total: u64, free: u64, available: u64) -> u64 {
    total.saturating_sub(free.saturating_sub(available))
}

/// Per cent, rounded half up (reference 04 §14.1). Without a reserve for root both of its formulas are the same.
fn percent(total: u64, free: u64, available: u64) -> u64 {
    let whole = u128::from(without_reserve(total, free, available));
    let used = whole.saturating_sub(u128::from(available.min(free)));
    (200 * used + whole)
        .checked_div(2 * whole)
        .and_then(|percent| u64::try_from(percent).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_file_system_has_figures() {
        let root = FileSystem::root();
        assert!(root.total >= root.used && root.total >= root.available && root.total > 0);
        assert_eq!(root.total, root.used + root.free);
        assert_eq!(FileSystem::of(Path::new("/nonexistent")), FileSystem::default());
    }

    #[test]
    fn per_cent_are_of_what_users_see_and_rounded() {
        // total, free, available, per cent
        for (total, free, available, expected) in [
            (1000, 500, 500, 50),
            // 50 are kept for root: 500 of 950 are taken, 52.6 per cent.
            (1000, 500, 450, 53),
            (1000, 995, 995, 1),
            (1000, 996, 996, 0),
            (1000, 0, 0, 100),
            (0, 0, 0, 0),
            (u64::MAX, 0, 0, 100),
        ] {
            assert_eq!(percent(total, free, available), expected, "{total} {free} {available}");
        }
        let reserved = FileSystem {
            total: 1000,
            used: 500,
            free: 500,
            available: 450,
            files: 10,
            files_free: 4,
            files_available: 4,
        };
        assert_eq!((reserved.user_total(), reserved.percent()), (950, 53));
        let files = (reserved.user_files(), reserved.files_used(), reserved.files_percent());
        assert_eq!(files, (10, 6, 60));
    }
}
