//! `/etc/vzdump.conf`: what holds on this node when nobody says otherwise (reference 05 §6.2).
//!
//! Reading never fails because of what is inside: what does not fit is passed over with a warning.

use std::fs;
use std::io;

use pve_contract::{id, method};
use pve_schema::Context;
use pve_schema::simple_config::{SimpleConfig, SimpleFormat};

use super::given::{Given, Setting, setting, shell_words};

/// Where it is, below the site's root.
const FILE: &str = "/etc/vzdump.conf";

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    /// The options.
    pub options: Given,
    /// What was passed over, and why.
    pub warnings: Vec<String>,
}

impl Conf {
    /// Reads the file of this node; a missing one says nothing, and neither does one that cannot be read, but for a
    /// warning.
    pub fn load(context: &Context) -> Self {
        match fs::read(context.site.path(FILE)) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => Self {
                options: Given::default(),
                warnings: vec![format!("unable to read '{FILE}' - {}", pve_schema::errno_text(&error))],
            },
        }
    }

    /// Reads the file's content.
    pub fn parse(text: &str) -> Self {
        let format = SimpleFormat {
            file: FILE,
            keys: method(id::POST_NODES_NODE_VZDUMP).parameters,
            blank_after_description: false,
        };
        let file = SimpleConfig::parse(&format, text);
        let mut options: Given = file
            .iter()
            .map(|(name, value)| (name.to_owned(), setting(value)))
            .collect();
        let mut warnings = file.warnings;
        if options.has("exclude-path") {
            let words = options.list("exclude-path").into_iter().flat_map(shell_words).collect();
            options.set("exclude-path", Setting::List(words));
        }
        if options.has("storage") && options.has("dumpdir") {
            warnings.push(format!(
                "both 'storage' and 'dumpdir' defined in '{FILE}' - ignoring 'dumpdir'"
            ));
            options.remove("dumpdir");
        }
        Self { options, warnings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_the_rest_is_warned_about() {
        let text = "# a comment\n\n  mode: stop \nremove: off\nbwlimit: many\nstorage: st\ndumpdir: /dump\n\
            exclude-path: /a '/b c'\nexclude-path: *.o\nnonsense\nwhat: ever\nmailto: a@b; c@d\nnotes-template: x\n";
        let conf = Conf::parse(text);
        assert_eq!(conf.options.text("mode"), Some("stop"));
        assert_eq!(conf.options.text("remove"), Some("0"));
        assert_eq!(conf.options.text("notes-template"), Some("x"));
        assert_eq!(conf.options.list("exclude-path"), ["/a", "/b c", "*.o"]);
        assert!(!conf.options.has("dumpdir") && !conf.options.has("bwlimit"));
        let warnings = conf.warnings.join("\n");
        for expected in [
            "parse error in '/etc/vzdump.conf' - 'bwlimit': ",
            "ignore config line: nonsense",
            "parse error in '/etc/vzdump.conf' - 'what': ",
            "ignoring 'dumpdir'",
        ] {
            assert!(warnings.contains(expected), "{warnings}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "([a-z-]{0,12}: ?\\PC{0,12}\n|\\PC{0,20}\n){0,8}") {
            let _ = Conf::parse(&text);
        }
    }
}
