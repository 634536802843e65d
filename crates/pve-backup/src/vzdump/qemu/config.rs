//! The config file that goes into an archive (reference 05 §8). Text in, text out: what nobody here understands stays.

/// Keys that are left out.
const DROPPED: [&str; 2] = ["lock", "parent"];

/// What goes into the archive, and what is to be said about what does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Archived {
    pub(crate) text: String,
    /// Lines for the log.
    pub(crate) notes: Vec<String>,
}

/// One line of the map of disks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapped<'a> {
    pub(crate) key: &'a str,
    pub(crate) device: &'a str,
    /// The volume's storage; empty for a path.
    pub(crate) storage: &'a str,
    /// The volume's format; empty if nobody can tell.
    pub(crate) format: &'a str,
}

/// Makes the archive's config file of the current one.
pub(crate) fn archived<'a>(current: &str, map: impl IntoIterator<Item = Mapped<'a>>) -> Archived {
    let mut archived = Archived::default();
    let mut lines = current.lines();
    for line in lines.by_ref() {
        if line.starts_with('[') {
            note_section(line, &mut archived.notes);
            break;
        }
        if line.starts_with("#vzdump#") || line.starts_with("#qmdump#") {
            continue;
        }
        if let Some((key, value)) = line.split_once(':') {
            if is_unused(key) {
                let note = format!("skip unused drive '{}' (not included into backup)", value.trim());
                archived.notes.push(note);
                continue;
            }
            if DROPPED.contains(&key) {
                continue;
            }
        }
        archived.text.push_str(line);
        archived.text.push('\n');
    }
    for line in lines.filter(|line| line.starts_with('[')) {
        note_section(line, &mut archived.notes);
    }
    for Mapped {
        key,
        device,
        storage,
        format,
    } in map
    {
        archived
            .text
            .push_str(&format!("#qmdump#map:{key}:{device}:{storage}:{format}:\n"));
    }
    archived
}

fn is_unused(key: &str) -> bool {
    let number = key.strip_prefix("unused").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Says once per kind that a section does not go along.
fn note_section(header: &str, notes: &mut Vec<String>) {
    let header = header.trim_end().to_ascii_lowercase();
    let what = if header == "[pending]" {
        "pending configuration changes"
    } else if header.starts_with("[special:") {
        "special config section"
    } else {
        "snapshots"
    };
    let note = format!("{what} found (not included into backup)");
    if !notes.contains(&note) {
        notes.push(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_describes_the_guest_goes_along() {
        let current = "#a note%3A\n#qmdump#map:scsi9:x:y:z:\n#vzdump#old\nlock: backup\nmemory: 32\nparent: one\n\
            scsi0: st:d,size=1G\nunused0: st:old\nwhat: ever\n[PENDING]\nmemory: 64\n\n[one]\nlock: x\n[two]\n[special:cloudinit]\n";
        let map = Mapped {
            key: "scsi0",
            device: "drive-scsi0",
            storage: "st",
            format: "raw",
        };
        let archived = archived(current, [map]);
        assert_eq!(
            archived.text,
            "#a note%3A\nmemory: 32\nscsi0: st:d,size=1G\nwhat: ever\n#qmdump#map:scsi0:drive-scsi0:st:raw:\n"
        );
        let expected = [
            "skip unused drive 'st:old' (not included into backup)",
            "pending configuration changes found (not included into backup)",
            "snapshots found (not included into backup)",
            "special config section found (not included into backup)",
        ];
        assert_eq!(archived.notes, expected);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_archived(text in "(\\PC{0,20}\n|\\[[a-zA-Z:]{0,9}\\]\n|unused[0-9]{0,2}: x\n){0,10}") {
            let _ = archived(&text, []);
        }
    }
}
