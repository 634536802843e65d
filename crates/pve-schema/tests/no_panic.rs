//! Parsers are total: whatever comes in, they answer.

use proptest::prelude::*;
use pve_schema::calendar::Event;
use pve_schema::format::{NamedFormat, rules};
use pve_schema::idmap::IdMap;
use pve_schema::schema::{Kind, Parameter, Schema};
use pve_schema::section_config::{SectionFile, SectionFormat, Use};
use pve_schema::simple_config::{SimpleConfig, SimpleFormat};
use pve_schema::startup::Startup;
use pve_schema::{decode, list, size, text};

static TEXT: Schema = Schema::of(Kind::String);
static FLAG: Schema = Schema::of(Kind::Boolean);
static LIST: Schema = Schema {
    items: Some(&TEXT),
    ..Schema::of(Kind::Array)
};

fn format() -> SectionFormat {
    SectionFormat::new("test.cfg")
        .option("path", &TEXT)
        .option("comment", &TEXT)
        .option("disable", &FLAG)
        .option("content", &LIST)
        .kind(
            "dir",
            &[
                ("path", Use::REQUIRED),
                ("comment", Use::OPTIONAL),
                ("disable", Use::OPTIONAL),
                ("content", Use::OPTIONAL),
            ],
        )
}

/// Lines that a section file may well hold, in any order.
fn section_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("dir: a".to_owned()),
        Just("dir: b".to_owned()),
        Just("odd: c".to_owned()),
        Just("\tpath /x".to_owned()),
        Just("\tpath /y".to_owned()),
        Just("\tcomment  b c ".to_owned()),
        Just("\tdisable".to_owned()),
        Just("\tdisable no".to_owned()),
        Just("\tcontent z".to_owned()),
        Just("\tbogus 1".to_owned()),
        Just("\t# note".to_owned()),
        Just("# note".to_owned()),
        Just("0".to_owned()),
        Just(String::new()),
        Just("  ".to_owned()),
        "[ \\t]?\\PC{0,12}",
    ];
    prop::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn section_files_read_the_same_after_writing(text in section_text()) {
        let format = format();
        let file = SectionFile::parse(&format, &text);
        let written = file.write(&format).expect("what was read can be written");
        let again = SectionFile::parse(&format, &written);
        let values = |file: &SectionFile| {
            let sections = file.sections();
            let lines = sections.map(|s| format!("{} {} {:?}", s.kind, s.id, s.iter().collect::<Vec<_>>()));
            lines.collect::<Vec<_>>()
        };
        // `disable 0` is the one thing that is not written back.
        let without_off = |lines: Vec<String>| -> Vec<String> {
            lines.into_iter().map(|line| line.replace("(\"disable\", Text(\"0\")), ", "")).collect()
        };
        prop_assert_eq!(without_off(values(&again)), without_off(values(&file)));
        prop_assert_eq!(again.write(&format).expect("read before"), written);
    }

    #[test]
    fn section_files_of_any_text_are_read(text in "\\PC*|(?s:.{0,80})") {
        let _ = SectionFile::parse(&format(), &text).write(&format());
    }

    #[test]
    fn simple_files_of_any_text_are_read(text in "(?s:.{0,80})") {
        static KEYS: [Parameter; 1] =
            [Parameter { name: "a", index_max: Some(3), in_path: false, schema: &TEXT }];
        let format = SimpleFormat { file: "x", keys: &KEYS, blank_after_description: true };
        let _ = SimpleConfig::parse(&format, &text).write(&format);
    }

    #[test]
    fn requests_of_any_text_are_decoded(text in "(?s:.{0,80})", bytes in any::<Vec<u8>>()) {
        let _ = decode::form(&text);
        let _ = decode::json(&bytes);
        let _ = text::decode(&text);
        prop_assert_eq!(text::decode(&text::encode(&text)), text);
    }

    #[test]
    fn sizes_read_the_same_after_writing(bytes in any::<u64>()) {
        prop_assert_eq!(size::parse(&size::print(bytes)), Some(bytes));
    }

    #[test]
    fn small_languages_take_any_text(text in "[0-9a-z.,:*/+=% -]{0,24}|(?s:.{0,40})") {
        static FORMAT: NamedFormat = NamedFormat::new("test", "{v}");
        let _ = (text.parse::<Event>(), text.parse::<Startup>(), IdMap::parse(&text));
        let _ = (list::split(&text), size::parse(&text));
        for rule in [
            rules::pve_fw_addr_spec,
            rules::pve_fw_dport_spec,
            rules::pve_storage_portal_dns,
            rules::pve_vlan_id_or_range,
            rules::pve_sdn_vlanrange,
            rules::pve_sdn_subnet_id,
            rules::pem_certificate_chain,
            rules::pve_command_batch,
            rules::pve_cpuset,
            rules::lxc_ip_with_ll_iface,
        ] {
            let _ = rule(&FORMAT, &text);
        }
    }
}
