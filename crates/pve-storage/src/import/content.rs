//! Whether a user's file is what it claims to be (reference 08 §4.4).

use std::path::Path;
use std::time::Duration;

use pve_daemon::command::{Command, Stream};

use super::ImportError;
use crate::error::StorageError;
use crate::kind::{Content, ImageFormat};
use crate::size::check_untrusted;

/// To read the names in an archive of many gigabytes.
const LIST_DEADLINE: Duration = Duration::from_secs(600);

/// Looks into a file; `target` is the name that it is to have.
pub(super) fn check(file: &Path, target: &Path, content: Content) -> Result<(), StorageError> {
    match content {
        Content::Iso => {
            check_untrusted(file, None)?;
        }
        Content::Import => {
            let name = target.file_name().unwrap_or_default().to_string_lossy();
            match ImageFormat::of_file_name(&name) {
                Some((_, format)) => {
                    check_untrusted(file, Some(format))?;
                }
                None => check_ova(file)?,
            }
        }
        _ => {}
    }
    Ok(())
}

/// An OVA archive holds the description of a guest.
fn check_ova(file: &Path) -> Result<(), StorageError> {
    let mut found = false;
    let list = Command::new("tar", LIST_DEADLINE).args(["--list", "--file"]).arg(file);
    list.run_lines(&mut |stream, name| {
        found |= stream == Stream::Stdout && name.ends_with(".ovf");
    })?;
    if found { Ok(()) } else { Err(ImportError::NoOvf.into()) }
}
