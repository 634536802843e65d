//! Reference 02 §16, group D, and what goes beyond it.

use proptest::prelude::*;

use super::UserConfig;

/// The file that groups D and F speak of.
const CONFIG_D: &str = include_str!("../../tests/data/user-d.cfg");

/// Vector 43; the line nobody knows stays where it was, at the end of the users (reference 03, "beyond upstream").
const WRITTEN_BACK: &str = "\
user:alice@pve:1:0:Alice:O'Neil:alice@lab.example:team%3A blue:x:
token:alice@pve!ci:0:1:pipeline:
token:alice@pve!full:1893456000:0::
user:bob@pve:1:0::::::
user:carol@corp:0:1700000000::::::
user:root@pam:1:0:::root@lab.example:::
bogus line here

group:empty:::
group:ops:alice@pve,bob@pve,ghost@pve:Ops team:

pool:dev::102::
pool:prod::::
pool:prod/web:web tier:100,1000,101:local,nfs-a:

role:VMOperator:VM.Console,VM.PowerMgmt:
role:Void::

acl:1:/:@ops:PVEAuditor:
acl:1:/access/groups/ops:bob@pve:PVEUserAdmin:
acl:1:/nodes/n1:nobody@pve:PVESysAdmin:
acl:1:/pool/prod:alice@pve:PVEDatastoreUser,PVEVMAdmin:
acl:0:/storage/local:bob@pve:PVEDatastoreUser:
acl:1:/vms:alice@pve!ci:PVEVMAdmin:
acl:1:/vms:alice@pve:PVEVMUser:
acl:0:/vms/200:alice@pve:VMOperator:
acl:1:/vms/300:alice@pve:NoAccess:
";

#[test]
fn the_example_is_written_back_in_canonical_order() {
    assert_eq!(UserConfig::parse(CONFIG_D).print(), WRITTEN_BACK);
    assert_eq!(UserConfig::parse(WRITTEN_BACK).print(), WRITTEN_BACK);
}

#[test]
fn an_empty_file_holds_root() {
    let config = UserConfig::parse("");
    assert_eq!(config, UserConfig::default());
    assert_eq!(config.print(), "user:root@pam:1:0::::::\n");
}

#[test]
fn comments_stay_above_their_record() {
    let text = "\
# the boss
user:root@pam:1:0::::::
# a guest
# of long standing
user:zoe@pve:1:0::::::

# all teams
group:b:::
# the last line of the groups
";
    let mut config = UserConfig::parse(text);
    assert_eq!(config.print(), text);

    config.users.insert("anna@pve".parse().unwrap(), super::User::default());
    config.groups.insert("a".to_owned(), super::Group::default());
    let printed = config.print();
    assert!(
        printed.contains("user:anna@pve:0:0::::::\n# the boss\nuser:root@pam"),
        "{printed}"
    );
    assert!(printed.contains("group:a:::\n# all teams\ngroup:b"), "{printed}");

    config.users.remove(&"zoe@pve".parse().unwrap());
    let printed = config.print();
    assert!(
        printed.contains("user:root@pam:1:0::::::\n# a guest\n# of long standing\n\ngroup"),
        "{printed}"
    );
}

#[test]
fn broken_records_are_kept_but_mean_nothing() {
    let text = "\
user:bad:1:0::::::
user:new@pve:1:soon::::::
token:root@pam!ok:never:1::
group:in valid:root@pam::
acl:1:/vms x:root@pam:PVEAdmin:
weird record
";
    let config = UserConfig::parse(text);
    assert_eq!(config.users.len(), 1);
    assert!(config.groups.is_empty() && config.acls.is_empty());
    for line in text.lines() {
        assert!(config.print().contains(&format!("{line}\n")), "{line}");
    }
}

#[test]
fn a_dangling_token_cannot_come_back_with_its_user() {
    let config = UserConfig::parse("token:late@pve!tok:0:0::\nuser:late@pve:1:0::::::\n");
    assert!(config.users[&"late@pve".parse().unwrap()].tokens.is_empty());
    assert!(!config.print().contains("token:"));
}

#[test]
fn a_second_record_of_a_user_replaces_the_first() {
    let text = "user:a@pve:1:0:A:::::\ntoken:a@pve!tok:0:1::\ngroup:g:a@pve::\nacl:1:/:a@pve!tok:Administrator:\n\
        user:a@pve:0:0::::::\n";
    let config = UserConfig::parse(text);
    assert!(config.acls.is_empty(), "{:?}", config.acls);
    let user = &config.users[&"a@pve".parse().unwrap()];
    assert!(!user.enable && user.tokens.is_empty() && user.firstname.is_none());
    assert!(config.groups["g"].members.is_empty());
}

#[test]
fn an_empty_mail_address_is_present_when_a_later_field_is() {
    let config = UserConfig::parse("user:a@pve:1:0::::note:\nuser:b@pve:1:0::::::\n");
    assert_eq!(config.users[&"a@pve".parse().unwrap()].email.as_deref(), Some(""));
    assert_eq!(config.users[&"b@pve".parse().unwrap()].email, None);
}

#[test]
fn the_last_acl_record_decides_on_the_flag() {
    let config = UserConfig::parse("acl:1:/vms:a@pve:PVEAuditor:\nacl:0:vms/:a@pve:PVEAuditor:\n");
    assert_eq!(
        config.print(),
        "user:root@pam:1:0::::::\n\nacl:0:/vms:a@pve:PVEAuditor:\n"
    );
}

/// What was read once must be read as the same from what was written.
#[test]
fn texts_come_back_as_they_were() {
    for text in ["0", " ", "  a  b ", " 0", "00", "a:b%c\n"] {
        let mut config = UserConfig::default();
        config.groups.entry("g".to_owned()).or_default().comment = Some(text.to_owned());
        assert_eq!(UserConfig::parse(&config.print()), config, "{text:?}");
    }
}

#[test]
fn nobody_becomes_a_member_by_a_separator_in_another_ones_name() {
    let mut config = UserConfig::parse("user:admin@pve:1:0::::::\nuser:x,admin@pve:1:0::::::\ngroup:g::\n");
    for other in ["x,admin@pve", "x;admin@pve", "x\0admin@pve"] {
        let id: pve_schema::ids::UserId = other.parse().unwrap();
        config.groups.get_mut("g").unwrap().members.insert(id.clone());
        let member = super::AclMember::Subject(pve_schema::ids::AuthId::User(id));
        config.grant(&crate::paths::AclPath::root(), &member, "Administrator", true);
    }
    let again = UserConfig::parse(&config.print());
    assert!(again.groups["g"].members.is_empty() && again.acls.is_empty());
    assert!(again.users.contains_key(&"x,admin@pve".parse().unwrap()));
    // Nor by a list that NUL divides.
    let divided = UserConfig::parse("user:admin@pve:1:0::::::\ngroup:g:x,admin@pve\0admin@pve:\n");
    assert_eq!(divided.groups["g"].members.len(), 1);
}

#[test]
fn lines_without_a_record_in_their_section_go_to_the_one_before() {
    for text in [
        "group:g:::\n# of a role\nrole:PVEAdmin:\n\n# of an ACL\nacl:1:/:ghost:PVEAdmin:\n",
        "# lonely\nacl:1:/:root@pam:PVEAdmin:\n",
        "junk\r",
        "junk\r\r\nuser:a@pve:1:0::::::\r\n",
    ] {
        let once = UserConfig::parse(text).print();
        assert_eq!(UserConfig::parse(&once).print(), once, "{text:?}");
    }
}

proptest! {
    #[test]
    fn reading_never_panics_and_writing_is_stable(
        text in "((user|token|group|pool|role|acl|#)(:[a-z@!/,%0-9. ]{0,8}){0,9}|[ -~é\t]{0,20}|)(\n((user|token|group|pool|role|acl)(:(a@pve|a@pve!tok|@g|g|/vms|1|0|PVEAdmin|R|100|VM.Audit)){0,9}|)){0,12}"
    ) {
        let once = UserConfig::parse(&text).print();
        prop_assert_eq!(&UserConfig::parse(&once).print(), &once);
    }

    #[test]
    fn reading_junk_never_panics(text in "\\PC*") {
        let _ = UserConfig::parse(&text).print();
    }
}
