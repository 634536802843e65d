//! What holds for a run: parameter, else `/etc/vzdump.conf`, else the contract's default (reference 05 §6.1, §6.2).

use std::path::PathBuf;

use pve_contract::{id, method, property_format};
use pve_schema::ids::StorageId;
use pve_schema::property_string::{self, Properties};
use pve_storage::config::Retention;

use super::VzdumpError;
use super::given::Given;
use super::notes::{self, InvalidTemplate};

/// Where backups go when nobody says.
pub const DEFAULT_STORAGE: &str = "local";

/// What a guest does while it is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It runs on.
    Snapshot,
    /// It stands still for a moment.
    Suspend,
    /// It is shut down, and started again.
    Stop,
}

impl Mode {
    /// The word in options and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Suspend => "suspend",
            Self::Stop => "stop",
        }
    }
}

/// Where archives go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Onto a storage.
    Storage(StorageId),
    /// Into a directory.
    Directory(PathBuf),
}

/// What holds for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where archives go.
    pub target: Target,
    /// Where temporary files go, if not beside the archives.
    pub tmpdir: Option<PathBuf>,
    /// What a running guest does meanwhile.
    pub mode: Mode,
    /// `0`, `gzip`, `lzo` or `zstd`.
    pub compress: String,
    /// Threads of `pigz`; 0 is `gzip`, 1 half of the cores.
    pub pigz: u32,
    /// Threads of `zstd`; 0 is half of the cores.
    pub zstd: u32,
    /// KiB per second; 0 is without limit.
    pub bwlimit: u64,
    /// 0 to 7, or 8 for the idle class.
    pub ionice: u8,
    /// Minutes to wait for another run; 0 is not at all.
    pub lockwait: u64,
    /// Minutes for a guest to shut down.
    pub stopwait: u64,
    /// The hook script.
    pub script: Option<PathBuf>,
    /// Whether old backups go.
    pub remove: bool,
    /// Which backups are kept.
    pub retention: Retention,
    /// The template of the notes.
    pub notes_template: Option<String>,
    /// Whether archives are protected.
    pub protected: bool,
    /// How many parts of a disk are copied at the same time.
    pub max_workers: u16,
}

/// Options of two places, the explicit ones first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merged<'a> {
    pub(super) given: &'a Given,
    pub(super) conf: &'a Given,
}

impl<'a> Merged<'a> {
    /// A scalar; the contract's default if nobody gave one.
    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.set(name).or_else(|| {
            let parameter = method(id::POST_NODES_NODE_VZDUMP).parameter(name)?;
            parameter.schema.default
        })
    }

    /// A scalar that somebody gave.
    pub(super) fn set(self, name: &str) -> Option<&'a str> {
        self.given.text(name).or_else(|| self.conf.text(name))
    }

    fn flag(self, name: &str) -> bool {
        self.text(name)
            .and_then(pve_schema::check::boolean_word)
            .unwrap_or(false)
    }

    fn number<T: std::str::FromStr + Default>(self, name: &str) -> T {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// `performance` merges key by key.
    pub(super) fn performance(self, key: &str) -> Option<i64> {
        let of = |given: &Given| properties("backup-performance", given.text("performance")?)?.integer(key);
        of(self.given).or_else(|| of(self.conf)).or_else(|| {
            let format = property_format("backup-performance")?;
            format.key(key)?.schema.default?.parse().ok()
        })
    }

    /// Where archives go: what the configuration file says counts only if nobody said anything explicitly.
    ///
    /// # Errors
    /// Both were given.
    pub(super) fn target(self) -> Result<Target, VzdumpError> {
        let pair = |given: &'a Given| (given.text("storage"), given.text("dumpdir"));
        let pair = match pair(self.given) {
            (None, None) => pair(self.conf),
            explicit => explicit,
        };
        match pair {
            (Some(_), Some(_)) => Err(VzdumpError::StorageAndDirectory),
            (Some(storage), None) => Ok(Target::Storage(storage_id(storage)?)),
            (None, Some(directory)) => Ok(Target::Directory(trimmed(directory))),
            (None, None) => Ok(Target::Storage(storage_id(DEFAULT_STORAGE)?)),
        }
    }
}

fn storage_id(text: &str) -> Result<StorageId, VzdumpError> {
    let id: Result<StorageId, _> = text.parse();
    id.map_err(|error| VzdumpError::parameter("storage", &error.to_string()))
}

/// A path without slashes at its end.
fn trimmed(path: &str) -> PathBuf {
    match path.trim_end_matches('/') {
        "" => PathBuf::from("/"),
        path => PathBuf::from(path),
    }
}

pub(super) fn properties(format: &str, text: &str) -> Option<Properties> {
    property_string::parse(property_format(format)?, text).ok()
}

/// The storage that a `fleecing` option names.
pub fn fleecing_storage(text: &str) -> Option<String> {
    properties("backup-fleecing", text)?.get("storage").map(str::to_owned)
}

/// Whether a `fleecing` option is on.
pub(super) fn is_fleecing(text: &str) -> bool {
    properties("backup-fleecing", text).is_some_and(|fleecing| fleecing.is_set("enabled"))
}

/// Checks a template of notes, for the parameter `notes-template`.
///
/// # Errors
/// Told by that parameter.
pub fn check_notes_template(template: &str) -> Result<(), VzdumpError> {
    notes::check(template)
        .map_err(|error: InvalidTemplate| VzdumpError::parameter("notes-template", &error.to_string()))
}

impl Options {
    /// Merges what was given with the configuration file. `storage_retention` is asked for the retention that a storage
    /// is configured with.
    ///
    /// # Errors
    /// Options that cannot be together.
    pub fn merge(
        given: &Given,
        conf: &Given,
        storage_retention: impl FnOnce(&StorageId) -> Option<Retention>,
    ) -> Result<Self, VzdumpError> {
        let merged = Merged { given, conf };
        let target = merged.target()?;
        let retention = match given.text("prune-backups") {
            Some(text) => retention(text)?,
            None => {
                let of_storage = match &target {
                    Target::Storage(storage) => storage_retention(storage),
                    Target::Directory(_) => None,
                };
                match of_storage {
                    Some(retention) => retention,
                    None => conf
                        .text("prune-backups")
                        .map(retention)
                        .transpose()?
                        .unwrap_or(Retention::ALL),
                }
            }
        };
        let on_storage = matches!(target, Target::Storage(_));
        let compress = match merged.text("compress") {
            Some("1") => "lzo",
            Some(word) => word,
            None => "0",
        };
        Ok(Self {
            target,
            tmpdir: merged.text("tmpdir").map(trimmed),
            mode: match merged.text("mode") {
                Some("stop") => Mode::Stop,
                Some("suspend") => Mode::Suspend,
                _ => Mode::Snapshot,
            },
            compress: compress.to_owned(),
            pigz: merged.number("pigz"),
            zstd: merged.text("zstd").and_then(|text| text.parse().ok()).unwrap_or(1),
            bwlimit: merged.number("bwlimit"),
            ionice: merged.number("ionice"),
            lockwait: merged.number("lockwait"),
            stopwait: merged.number("stopwait"),
            script: merged.text("script").map(PathBuf::from),
            // What keeps everything removes nothing.
            remove: merged.flag("remove") && !retention.all,
            retention,
            notes_template: merged.text("notes-template").filter(|_| on_storage).map(str::to_owned),
            protected: on_storage && merged.flag("protected"),
            max_workers: merged
                .performance("max-workers")
                .and_then(|count| u16::try_from(count).ok())
                .unwrap_or(16),
        })
    }
}

fn retention(text: &str) -> Result<Retention, VzdumpError> {
    text.parse()
        .map_err(|error: pve_storage::config::retention::InvalidRetention| {
            VzdumpError::parameter("prune-backups", &error.to_string())
        })
}

#[cfg(test)]
mod tests {
    use super::super::conf::Conf;
    use super::super::given::Setting;
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Given {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Setting::Text((*value).to_owned())))
            .collect()
    }

    fn merge(pairs: &[(&str, &str)], conf: &str, storage: Option<&str>) -> Options {
        let of_storage = |_: &StorageId| storage.map(|text| text.parse().unwrap());
        Options::merge(&given(pairs), &Conf::parse(conf).options, of_storage).unwrap()
    }

    /// Reference 05, vectors R15 to R20.
    #[test]
    fn retention_comes_from_parameter_storage_and_file_in_that_order() {
        let kept = |options: &Options| (options.retention.to_string(), options.remove);
        let last = "prune-backups: keep-last=7\n";
        let cases = [
            (merge(&[], last, Some("keep-hourly=24")), ("keep-hourly=24", true)),
            (
                merge(&[("prune-backups", "keep-last=10")], "", Some("keep-all=1")),
                ("keep-last=10", true),
            ),
            (
                merge(&[("prune-backups", "keep-all=1")], "", Some("keep-last=10")),
                ("keep-all=1", false),
            ),
            (merge(&[], last, None), ("keep-last=7", true)),
            (merge(&[], "", None), ("keep-all=1", false)),
            (
                merge(&[("prune-backups", "keep-hourly=0,keep-monthly=0")], "", None),
                ("keep-all=1", false),
            ),
            (
                merge(&[("prune-backups", "keep-all=0,keep-last=10")], "", None),
                ("keep-last=10", true),
            ),
            (merge(&[("remove", "0")], last, None), ("keep-last=7", false)),
            (
                merge(&[("dumpdir", "/dump")], last, Some("keep-hourly=24")),
                ("keep-last=7", true),
            ),
        ];
        for (at, (options, (retention, remove))) in cases.iter().enumerate() {
            assert_eq!(kept(options), ((*retention).to_owned(), *remove), "{at}");
        }
        let both = given(&[("prune-backups", "keep-all=1,keep-last=2")]);
        let error = Options::merge(&both, &Given::default(), |_| None).unwrap_err();
        let errors = pve_schema::Failure::param_errors(&error).unwrap();
        assert_eq!(
            errors["prune-backups"],
            "keep-all cannot be set together with other options."
        );
    }

    #[test]
    fn the_target_of_the_file_counts_if_nobody_names_one() {
        let storage = |id: &str| Target::Storage(id.parse().unwrap());
        let directory = |path: &str| Target::Directory(path.into());
        let target = |pairs: &[(&str, &str)], conf| merge(pairs, conf, None).target;
        assert_eq!(target(&[], ""), storage("local"));
        assert_eq!(target(&[], "storage: st\n"), storage("st"));
        assert_eq!(target(&[("dumpdir", "/d//")], "storage: st\n"), directory("/d"));
        assert_eq!(target(&[("storage", "x1")], "dumpdir: /d\n"), storage("x1"));
        let both = given(&[("storage", "st"), ("dumpdir", "/d")]);
        let error = Options::merge(&both, &Given::default(), |_| None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot use options 'storage' and 'dumpdir' at the same time"
        );
    }

    #[test]
    fn options_merge_and_performance_does_key_by_key() {
        let options = merge(
            &[
                ("mode", "stop"),
                ("performance", "pbs-entries-max=5"),
                ("compress", "1"),
            ],
            "mode: suspend\nbwlimit: 77\nperformance: max-workers=3\nnotes-template: x\nprotected: yes\n",
            None,
        );
        assert_eq!(
            (options.mode, options.bwlimit, options.max_workers),
            (Mode::Stop, 77, 3)
        );
        assert_eq!(
            (options.compress.as_str(), options.lockwait, options.ionice),
            ("lzo", 180, 7)
        );
        assert!(options.protected && options.notes_template.is_some());
        let directory = merge(&[("dumpdir", "/d")], "notes-template: x\nprotected: yes\n", None);
        assert!(!directory.protected && directory.notes_template.is_none());
    }
}
