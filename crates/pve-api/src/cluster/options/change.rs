//! Changing the options (reference 04 §8.1, §8.3).

use pve_cfs::datacenter::{self, FILE, property_format};
use pve_cfs::lock::DEFAULT_TIMEOUT;
use pve_cfs::{Cfs, LockId};
use pve_rest::ApiError;
use pve_schema::params::Param;
use pve_schema::property_string::{self, Properties};
use pve_schema::simple_config::{SimpleConfig, SimpleFormat};
use pve_schema::{Params, list};

use super::MAC_PREFIX;

/// Sets and deletes what the parameters name; what is named for both is deleted.
pub(super) fn apply(cfs: &Cfs, params: &Params) -> Result<(), ApiError> {
    cfs.with_lock(&LockId::file(FILE), DEFAULT_TIMEOUT, || {
        let text = cfs.read_text(FILE)?.unwrap_or_default();
        let text = changed(&text, params)?;
        Ok(cfs.write(FILE, text.as_bytes())?)
    })
}

/// The file's text after the change.
fn changed(text: &str, params: &Params) -> Result<String, ApiError> {
    // Written with an empty line behind the description.
    let format = SimpleFormat {
        blank_after_description: true,
        ..datacenter::format()
    };
    let mut options = datacenter::parse(text);
    for (key, value) in params.iter().filter(|(key, _)| *key != "delete") {
        options.set(key, value.clone());
    }
    for key in list::split(params.text("delete").unwrap_or_default()) {
        options.remove(key);
    }
    normalise(&mut options)?;
    Ok(options.write(&format)?)
}

/// Brings all options into the form in which they are written.
fn normalise(options: &mut SimpleConfig) -> Result<(), ApiError> {
    if let Some(insecure) = options.flag("migration_unsecure") {
        options.remove("migration_unsecure");
        if !options.has("migration") {
            set(options, "migration", if insecure { "insecure" } else { "secure" });
        }
    }
    let texts: Vec<(String, String)> = options
        .iter()
        .filter_map(|(key, value)| match value {
            Param::Text(text) => Some((key.to_owned(), text.clone())),
            Param::List(_) | Param::Map(_) => None,
        })
        .collect();
    for (key, text) in texts {
        match key.as_str() {
            "mac_prefix" if text == MAC_PREFIX => options.remove(&key),
            "console" if text == "applet" => set(options, &key, "html5"),
            "registered-tags" => set(options, &key, &sorted(&text)),
            // Kept as it was written.
            "bwlimit" => {}
            _ => {
                if let Some(format) = property_format(&key) {
                    let mut properties = property_string::parse(format, &text)?;
                    check(&key, &mut properties)?;
                    set(options, &key, &property_string::print(format, &properties)?);
                }
            }
        }
    }
    Ok(())
}

/// What the format of an option does not say.
fn check(key: &str, properties: &mut Properties) -> Result<(), ApiError> {
    if let Some(tags) = properties.get("user-allow-list").map(sorted) {
        properties.set("user-allow-list", tags);
    }
    match (properties.integer("lower"), properties.integer("upper")) {
        (Some(lower), Some(upper)) if key == "next-id" && lower > upper => Err(ApiError::plain(format!(
            "lower ({lower}) <= upper ({upper}) boundary rule broken"
        ))),
        _ => Ok(()),
    }
}

fn sorted(tags: &str) -> String {
    let mut tags: Vec<&str> = tags.split(';').filter(|tag| !tag.is_empty()).collect();
    tags.sort_unstable();
    tags.join(";")
}

fn set(options: &mut SimpleConfig, key: &str, value: &str) {
    options.set(key, Param::Text(value.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str, set: &[(&str, &str)]) -> String {
        let mut params = Params::new();
        for (key, value) in set {
            params.insert(*key, Param::Text((*value).to_owned()));
        }
        changed(text, &params).unwrap_or_else(|error| error.reason().to_owned())
    }

    /// Reference 04 §20, vectors 46 to 49.
    #[test]
    fn the_file_is_written_in_one_form() {
        assert_eq!(change("", &[]), "\n");
        let file = "#Hello%3A world\n# second line\nmigration: insecure,network=10.0.0.0/24\n\
                    next-id: lower=200,upper=300\nregistered-tags: zeta;alpha\nconsole: applet\n";
        let written = "#Hello%3A world\n# second line\n\nconsole: html5\nmigration: insecure,network=10.0.0.0/24\n\
                       next-id: lower=200,upper=300\nregistered-tags: alpha;zeta\n";
        assert_eq!(change(file, &[]), written);
        assert_eq!(change(written, &[]), written);
        assert_eq!(
            change("", &[("next-id", "lower=500,upper=200")]),
            "lower (500) <= upper (200) boundary rule broken"
        );
    }

    #[test]
    fn options_are_set_and_deleted() {
        for (file, set, expected) in [
            ("", &[("mac_prefix", "BC:24:11")][..], "\n"),
            ("", &[("mac_prefix", "02:aa")], "\nmac_prefix: 02:aa\n"),
            ("", &[("description", "a\nb: c")], "#a\n#b%3A c\n\n"),
            ("#a\n", &[("delete", "description")], "\n"),
            ("", &[("migration_unsecure", "1")], "\nmigration: insecure\n"),
            (
                "migration: secure\n",
                &[("migration_unsecure", "1")],
                "\nmigration: secure\n",
            ),
            (
                "",
                &[("migration", "network=10.0.0.0/8,type=secure")],
                "\nmigration: secure,network=10.0.0.0/8\n",
            ),
            (
                "console: vv\nkeyboard: de\n",
                &[("console", "html5"), ("delete", "console")],
                "\nkeyboard: de\n",
            ),
            (
                "",
                &[("user-tag-access", "user-allow-list=b;a,user-allow=list")],
                "\nuser-tag-access: user-allow=list,user-allow-list=a;b\n",
            ),
            ("", &[("bwlimit", "move=1,clone=2")], "\nbwlimit: move=1,clone=2\n"),
        ] {
            assert_eq!(change(file, set), expected, "{file} {set:?}");
        }
    }
}
