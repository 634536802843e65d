//! Writing a config file: keys in byte order, sections in the order main, pending, special, snapshots
//! (reference 06a §2).

use std::fmt::Write as _;

use pve_cfs::GuestKind;
use pve_schema::text;

use crate::config::{ENVIRONMENT, ENVIRONMENT_LINE, GuestConfig, SectionName, pending_header};
use crate::section::{ForeignLine, Section};

pub(crate) fn print(config: &GuestConfig) -> String {
    let mut printer = Printer {
        config,
        out: String::new(),
        printed_foreign: vec![false; config.foreign.len()],
    };
    printer.section(&SectionName::Main, &config.main, None);
    if !config.pending.is_blank() || !config.pending_deletes.is_empty() {
        let deletes = (!config.pending_deletes.is_empty()).then(|| config.pending_deletes.to_string());
        printer.section(&SectionName::Pending, &config.pending, deletes);
    }
    for (name, section) in &config.special {
        if !section.is_blank() {
            printer.section(&SectionName::Special(name.clone()), section, None);
        }
    }
    for (name, section) in &config.snapshots {
        printer.section(&SectionName::Snapshot(name.clone()), section, None);
    }
    printer.foreign_sections(None);
    printer.out
}

struct Printer<'a> {
    config: &'a GuestConfig,
    out: String,
    printed_foreign: Vec<bool>,
}

impl Printer<'_> {
    fn section(&mut self, name: &SectionName, section: &Section, deletes: Option<String>) {
        match name {
            SectionName::Main => {}
            SectionName::Pending => self.line(&format!("\n[{}]", pending_header(self.config.kind))),
            SectionName::Special(name) => self.line(&format!("\n[special:{name}]")),
            SectionName::Snapshot(name) => self.line(&format!("\n[{name}]")),
        }
        if let Some(text) = section.get("description") {
            self.description(text, *name == SectionName::Pending);
        }
        self.keys(section, deletes);
        self.foreign_sections(Some(name));
    }

    fn description(&mut self, text: &str, pending: bool) {
        if text.is_empty() && !pending {
            return;
        }
        // A container's ends with its last line's end.
        let text = match self.config.kind {
            GuestKind::Qemu => text,
            GuestKind::Lxc => text.strip_suffix('\n').unwrap_or(text),
        };
        for line in text.split('\n') {
            let encoded = text::encode(line);
            self.line(&format!("#{encoded}"));
        }
    }

    fn keys(&mut self, section: &Section, deletes: Option<String>) {
        let mut lines: Vec<(&str, &str)> = section.iter().filter(|(key, _)| !self.is_printed_apart(key)).collect();
        if let Some(list) = &deletes {
            let place = lines.partition_point(|(key, _)| *key < "delete");
            lines.insert(place, ("delete", list));
        }
        let mut foreign = section.foreign.iter().peekable();
        for (key, value) in lines {
            self.foreign_before(&mut foreign, Some(key));
            let _ = writeln!(self.out, "{key}: {value}");
        }
        self.foreign_before(&mut foreign, None);
        self.handed_on(section);
    }

    fn is_printed_apart(&self, key: &str) -> bool {
        key == "description" || (key == ENVIRONMENT && self.config.kind == GuestKind::Lxc)
    }

    /// What a container hands on: its environment, a line per variable, and pairs as they are.
    fn handed_on(&mut self, section: &Section) {
        if self.config.kind == GuestKind::Lxc {
            let variables = section.get(ENVIRONMENT).into_iter().flat_map(|all| all.split('\0'));
            for variable in variables {
                self.line(&format!("{ENVIRONMENT_LINE}: {variable}"));
            }
        }
        for (key, value) in &section.raw {
            self.line(&format!("{key}: {value}"));
        }
    }

    /// The lines that are none of ours and stood behind a key that sorts before this one.
    fn foreign_before<'a>(
        &mut self,
        foreign: &mut std::iter::Peekable<impl Iterator<Item = &'a ForeignLine>>,
        key: Option<&str>,
    ) {
        while let Some(line) = foreign.next_if(|line| key.is_none_or(|key| line.after.as_str() < key)) {
            self.line(&line.text);
        }
    }

    /// The sections that are none of ours and stood behind this one; `None` for those whose place is gone.
    fn foreign_sections(&mut self, after: Option<&SectionName>) {
        let config = self.config;
        for (index, foreign) in config.foreign.iter().enumerate() {
            let here = after.is_none_or(|name| foreign.after == *name);
            let Some(printed) = self.printed_foreign.get_mut(index) else {
                continue;
            };
            if here && !std::mem::replace(printed, true) {
                self.out.push('\n');
                for line in &foreign.lines {
                    self.line(line);
                }
            }
        }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }
}
