//! Parsers of single values: names, sizes, times, lists.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use jiff::tz::TimeZone;
use pve_guest::tags::{self, TagStyle};
use pve_jobs::calendar::{Event, Field, next_event};
use pve_qemu::accel;
use pve_schema::idmap::IdMap;
use pve_schema::ids::{AuthId, NodeName, StorageId, TokenId, Upid, UserId, VmId, VolumeId};
use pve_schema::startup::Startup;
use pve_schema::{list, shell, size, text};
use pve_storage::archive::ArchiveInfo;
use pve_storage::bandwidth::Limits;
use pve_storage::config::Retention;
use pve_storage::import::Algorithm;
use pve_storage::upload::{normalise_file_name, upload_name};
use pve_storage::volume::{parse_image_file_name, parse_volume_name};
use pve_storage::{Content, StorageKind};

use crate::{choice, text as text_of};

/// Whoever is named in a text is named so again.
fn again<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let printed = value.to_string();
    assert_eq!(printed.parse::<T>().expect("our own text"), value, "{text:?}");
    assert!(!printed.contains('\n') || text.contains('\n'));
}

/// Names of users, tokens, nodes, guests, storages, volumes and tasks: the first byte chooses.
pub fn identifiers(data: &[u8]) {
    let Some((kind, rest)) = choice(data) else { return };
    let text = text_of(rest);
    match kind % 8 {
        0 => again::<UserId>(&text),
        1 => again::<TokenId>(&text),
        2 => again::<AuthId>(&text),
        3 => again::<NodeName>(&text),
        4 => again::<VmId>(&text),
        5 => again::<StorageId>(&text),
        6 => again::<VolumeId>(&text),
        _ => again::<Upid>(&text),
    }
}

/// Names of volumes, archives and files that users bring: the first byte chooses the kind of storage or content.
pub fn volume_names(data: &[u8]) {
    let Some((kind, rest)) = choice(data) else { return };
    let name = text_of(rest);
    if let Ok(volume) = parse_volume_name(StorageKind::ALL[kind % StorageKind::ALL.len()], &name) {
        assert!(!volume.name.is_empty());
    }
    let _ = parse_image_file_name(&name);
    if let Ok(archive) = ArchiveInfo::of_listed(&name) {
        assert!(!name.contains('/'), "{name:?}");
        let _ = (
            archive.time.and_then(|time| time.unix_seconds()),
            archive.decompressor(),
        );
    }
    let harmless = normalise_file_name(&name);
    assert!(
        harmless
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    );
    for content in [Content::Iso, Content::Vztmpl, Content::Import] {
        if let Ok(stored) = upload_name(content, &name) {
            assert!(stored == harmless && !stored.is_empty() && stored != "." && stored != "..");
        }
    }
}

/// When a job is due.
pub fn calendar_event(data: &[u8]) {
    let Ok(event) = text_of(data).parse::<Event>() else {
        return;
    };
    let limits: [(&Field, u16); 6] = [
        (&event.year, 2200),
        (&event.month, 13),
        (&event.day, 32),
        (&event.hour, 24),
        (&event.minute, 60),
        (&event.second, 60),
    ];
    for (field, limit) in limits {
        if let Field::Values(values) = field {
            assert!(!values.is_empty() && values.iter().all(|value| *value < limit));
        }
    }
    let mut now = 1_700_000_000;
    for _ in 0..3 {
        let Some(next) = next_event(&event, &TimeZone::UTC, now) else {
            return;
        };
        assert!(next > now);
        now = next;
    }
}

/// Small values of options and parameters: the first byte chooses.
pub fn option_values(data: &[u8]) {
    let Some((kind, rest)) = choice(data) else { return };
    let text = text_of(rest);
    match kind % 10 {
        0 => {
            if let Some(bytes) = size::parse(&text) {
                assert_eq!(size::parse(&size::print(bytes)), Some(bytes));
            }
        }
        1 => drop(text.parse::<Startup>()),
        2 => drop(IdMap::parse(&text)),
        3 => again::<Retention>(&text),
        4 => drop(text.parse::<Limits>()),
        5 => drop(text.parse::<accel::Setting>()),
        6 => drop(Algorithm::parse(&text)),
        7 => assert!(list::split(&text).len() <= text.len() + 1),
        8 => {
            // A text is escaped so that it comes back, and in one line.
            let encoded = text::encode(&text);
            assert!(text::decode(&encoded) == text && !encoded.contains(['\n', '\r', ':']));
            let _ = shell::quote(&text);
        }
        // A tag with a NUL is refused before.
        _ if text.contains('\0') => {}
        _ => {
            let once = tags::normalise(&text, TagStyle::default());
            assert_eq!(tags::normalise(&once, TagStyle::default()), once);
        }
    }
}
