//! A node's own options, `/etc/pve/nodes/NODE/config` (reference 09 §9): reading, changing, and the rules about the
//! names that certificates are ordered for. What an option does is the affair of whoever asks for it.

use std::collections::BTreeMap;
use std::time::Duration;

use pve_cfs::{Cfs, CfsError, FileLock};
use pve_contract::id;
use pve_schema::digest::{self, Modified};
use pve_schema::ids::NodeName;
use pve_schema::params::Param;
use pve_schema::property_string::{self, Properties};
use pve_schema::schema::{Format, find_parameter};
use pve_schema::section_config::Header;
use pve_schema::simple_config::{Newline, SimpleConfig, SimpleFormat};
use pve_schema::{Context, Failure, Params, list};

/// Guards changes, on this node alone.
const LOCK: &str = "/var/lock/pvenode.lock";
/// How long a change waits for another one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The plugins that prove that a domain is this node's.
const PLUGINS: &str = "priv/acme/plugins.cfg";
/// The plugin that is there without being configured.
const STANDALONE: &str = "standalone";
/// The most names of certificates that are looked at one by one: `acmedomain0` to `acmedomain5`.
const LAST_DOMAIN: u8 = 5;

/// Parameters of the method that are no options.
const NO_OPTIONS: [&str; 3] = ["delete", "digest", "node"];

/// Why options could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// Somebody else changed the file meanwhile.
    #[error(transparent)]
    Modified(#[from] Modified),
    /// A value cannot stand in the file.
    #[error(transparent)]
    Newline(#[from] Newline),
    /// A property string breaks its rules.
    #[error("{key}: {reason}")]
    Properties {
        /// The option.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A name stands twice.
    #[error("duplicate domain '{domain}' in ACME config properties '{key}' and '{before}'")]
    DuplicateDomain {
        /// The name.
        domain: String,
        /// Where it stands.
        key: String,
        /// Where it stood before.
        before: String,
    },
    /// A plugin is not configured.
    #[error("plugin '{plugin}' for domain '{domain}' not found!")]
    NoPlugin {
        /// The plugin.
        plugin: String,
        /// The name it is to prove.
        domain: String,
    },
}

impl Failure for ConfigError {}

/// The options of a node.
#[derive(Debug, Clone, Default)]
pub struct NodeConfig {
    options: SimpleConfig,
    exists: bool,
}

/// How the file is laid out: its keys are the parameters of the method that sets them.
fn format() -> SimpleFormat {
    SimpleFormat {
        file: "config",
        keys: pve_contract::method(id::PUT_NODES_NODE_CONFIG).parameters,
        blank_after_description: false,
    }
}

/// The file of a node, below `/etc/pve`.
fn file(node: &NodeName) -> String {
    format!("nodes/{node}/config")
}

impl NodeConfig {
    /// Reads the options of a node. What is wrong in the file goes to the log and counts as absent, and so does a
    /// missing file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(cfs: &Cfs, node: &NodeName) -> Result<Self, CfsError> {
        let bytes = cfs.read(&file(node))?.unwrap_or_default();
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    fn parse(text: &str) -> Self {
        let mut options = SimpleConfig::parse(&format(), text);
        for name in NO_OPTIONS {
            if options.has(name) {
                options
                    .warnings
                    .push(format!("parse error in 'config' - '{name}': unknown property type"));
                options.remove(name);
            }
        }
        for warning in &options.warnings {
            log::warn!("{warning}");
        }
        Self {
            options,
            // Upstream takes an empty file for none.
            exists: !text.is_empty(),
        }
    }

    /// Whether there is such a file, and something in it.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// The description; empty if there is none.
    pub fn description(&self) -> &str {
        &self.options.description
    }

    /// The digest of the file.
    pub fn digest(&self) -> &str {
        &self.options.digest
    }

    /// An option as it is written.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.options.text(key)
    }

    /// All options as they are written, without the description.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().filter_map(|(key, value)| match value {
            Param::Text(text) => Some((key, text.as_str())),
            Param::List(_) | Param::Map(_) => None,
        })
    }

    /// An option that is a property string; empty when it is not set.
    pub fn properties(&self, key: &str) -> Properties {
        parse_properties(key, self.text(key)).unwrap_or_default()
    }

    /// How long the node waits at its boot before it starts guests.
    pub fn startall_delay(&self) -> Duration {
        let seconds = self.text("startall-onboot-delay").and_then(|text| text.parse().ok());
        Duration::from_secs(seconds.unwrap_or(0))
    }

    /// Looks whether the names of certificates are in order.
    fn check_domains(&self, cfs: &Cfs) -> Result<(), ConfigError> {
        let plugins = plugins(cfs)?;
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let mut note = |domain: &str, key: &str| match seen.insert(domain.to_ascii_lowercase(), key.to_owned()) {
            None => Ok(domain.to_ascii_lowercase()),
            Some(before) => Err(ConfigError::DuplicateDomain {
                domain: domain.to_ascii_lowercase(),
                key: key.to_owned(),
                before,
            }),
        };
        let account = self.checked_properties("acme")?;
        for domain in list::split(account.get("domains").unwrap_or_default()) {
            note(domain, "acme")?;
        }
        for number in 0..=LAST_DOMAIN {
            let key = format!("acmedomain{number}");
            let properties = self.checked_properties(&key)?;
            let Some(domain) = properties.get("domain") else {
                continue;
            };
            let domain = note(domain, &key)?;
            let plugin = properties.get("plugin").unwrap_or(STANDALONE);
            if plugin != STANDALONE && !plugins.iter().any(|known| known == plugin) {
                let plugin = plugin.to_owned();
                return Err(ConfigError::NoPlugin { plugin, domain });
            }
        }
        Ok(())
    }

    fn checked_properties(&self, key: &str) -> Result<Properties, ConfigError> {
        parse_properties(key, self.text(key)).map_err(|reason| ConfigError::Properties {
            key: key.to_owned(),
            reason,
        })
    }
}

fn parse_properties(key: &str, text: Option<&str>) -> Result<Properties, String> {
    let parameter = find_parameter(format().keys, key);
    match (parameter.and_then(|parameter| parameter.schema.format), text) {
        (Some(Format::Properties(format)), Some(text)) => {
            property_string::parse(format, text).map_err(|error| error.to_string())
        }
        _ => Ok(Properties::default()),
    }
}

/// The names of the plugins that are configured.
fn plugins(cfs: &Cfs) -> Result<Vec<String>, CfsError> {
    let text = cfs.read(PLUGINS)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let headers = text.lines().filter(|line| !line.starts_with(char::is_whitespace));
    Ok(headers.filter_map(Header::parse).map(|header| header.id).collect())
}

/// Sets what the parameters name, then deletes what they name for that, in this node's file.
///
/// # Errors
/// [`ConfigError`]; nothing is written then.
pub fn change(context: &Context, params: &Params) -> Result<(), ConfigError> {
    let cfs = Cfs::new(context);
    let _lock = FileLock::exclusive(&context.site.path(LOCK), LOCK_TIMEOUT)?;
    let mut config = NodeConfig::read(&cfs, &context.site.node)?;
    digest::check(params.text("digest"), config.digest())?;
    for (key, value) in params.iter().filter(|(key, _)| !NO_OPTIONS.contains(key)) {
        config.options.set(key, value.clone());
    }
    for key in list::split(params.text("delete").unwrap_or_default()) {
        config.options.remove(key);
    }
    config.check_domains(&cfs)?;
    let text = config.options.write(&format())?;
    Ok(cfs.write(&file(&context.site.node), text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        _root: tempfile::TempDir,
        context: Context,
        cfs: Cfs,
    }

    impl Lab {
        fn new(file: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            let context = pve_testing::context(root.path(), "n1");
            let cfs = Cfs::new(&context);
            cfs.ensure_tree().unwrap();
            cfs.write("nodes/n1/config", file.as_bytes()).unwrap();
            Self {
                _root: root,
                context,
                cfs,
            }
        }

        fn change(&self, params: &[(&str, &str)]) -> Result<String, String> {
            let text = |(key, value): &(&str, &str)| ((*key).to_owned(), Param::Text((*value).to_owned()));
            let params: Params = params.iter().map(text).collect();
            change(&self.context, &params).map_err(|error| error.to_string())?;
            Ok(self.cfs.read_text("nodes/n1/config").unwrap().unwrap())
        }

        fn read(&self) -> NodeConfig {
            NodeConfig::read(&self.cfs, &self.context.site.node).unwrap()
        }
    }

    /// Reference 09, vector 64. What `acme` says of a plugin needs that plugin.
    #[test]
    fn a_file_is_read_and_written() {
        let file = "# hello %3A\n#wörld 50%25\nacme: account=le,domains=a.example;B.example\n\
            acmedomain0: c.example,plugin=cf,alias=d.example\n\
            wakeonlan: 02:00:00:aa:bb:cc,broadcast-address=192.0.2.255\nstartall-onboot-delay: 20\n";
        let lab = Lab::new(file);
        let config = lab.read();
        assert_eq!(config.description(), " hello :\nwörld 50%\n");
        assert_eq!(config.text("startall-onboot-delay"), Some("20"));
        assert_eq!(config.startall_delay(), Duration::from_secs(20));
        assert_eq!(
            lab.change(&[]).unwrap_err(),
            "plugin 'cf' for domain 'c.example' not found!"
        );
        lab.cfs
            .write(PLUGINS, b"standalone: standalone\n\ndns: cf\n\tapi cf\n")
            .unwrap();
        assert_eq!(
            lab.change(&[]).unwrap(),
            "# hello %3A\n#w%C3%B6rld 50%25\nacme: account=le,domains=a.example;B.example\n\
            acmedomain0: c.example,plugin=cf,alias=d.example\nstartall-onboot-delay: 20\n\
            wakeonlan: 02:00:00:aa:bb:cc,broadcast-address=192.0.2.255\n"
        );
    }

    /// Reference 09, vectors 65 and 66; but what does not fit stays in the file, for whoever wrote it.
    #[test]
    fn what_does_not_fit_counts_as_absent() {
        let lab = Lab::new("ballooning-target: 101\nfoo: bar\nstartall-onboot-delay: 5\ndigest: x\n");
        let config = lab.read();
        assert_eq!((config.text("ballooning-target"), config.text("digest")), (None, None));
        assert_eq!((config.description(), config.exists()), ("", true));
        assert_eq!(
            lab.change(&[("ballooning-target", "70")]).unwrap(),
            "ballooning-target: 70\nfoo: bar\nstartall-onboot-delay: 5\n"
        );
        assert!(!Lab::new("").read().exists());
        assert_eq!(
            Lab::new("startall-onboot-delay: 301\n").read().startall_delay(),
            Duration::ZERO
        );
    }

    /// Reference 09, vector 67.
    #[test]
    fn a_name_of_a_certificate_stands_once() {
        let lab = Lab::new("acme: domains=A.example;b.example\n");
        for (params, expected) in [
            (
                &[("acmedomain2", "A.example")][..],
                "duplicate domain 'a.example' in ACME config properties 'acmedomain2' and 'acme'",
            ),
            (
                &[("acmedomain0", "c.example,plugin=zz")],
                "plugin 'zz' for domain 'c.example' not found!",
            ),
            (
                &[("acmedomain0", "c.example"), ("acmedomain5", "C.example")],
                "duplicate domain 'c.example' in ACME config properties 'acmedomain5' and 'acmedomain0'",
            ),
            (
                &[("acme", "domains=d.example;d.example")],
                "duplicate domain 'd.example' in ACME config properties 'acme' and 'acme'",
            ),
        ] {
            assert_eq!(lab.change(params).unwrap_err(), expected);
        }
        let alias = lab.change(&[("acmedomain2", "x.example,alias=_x.b.example")]).unwrap();
        assert!(alias.contains("acmedomain2: x.example,alias=_x.b.example\n"));
        let deleted = lab.change(&[("acmedomain2", "A.example"), ("delete", "acme,acmedomain2")]);
        assert_eq!(deleted.unwrap(), "", "what is deleted is not looked at");
    }

    #[test]
    fn a_change_is_refused_when_somebody_else_was_faster() {
        let lab = Lab::new("#a\n");
        let stale = lab.change(&[("digest", "0000"), ("description", "b")]).unwrap_err();
        assert!(stale.contains("file changed by other user"), "{stale}");
        let digest = lab.read().digest().to_owned();
        let set = lab.change(&[("digest", &digest), ("description", "b: c")]);
        assert_eq!(set.unwrap(), "#b%3A c\n");
    }
}
