//! `pveum` as an administrator calls it, on a root of its own without any daemon. Needs root, like the tool.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_pve-cli");

/// A root directory with an empty `/etc/pve`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.path("etc/pve/priv")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg0("/usr/bin/pveum").arg("--root").arg(self.0.path());
        command.args(words).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    fn run(&self, words: &str) -> Output {
        self.command(&words.split_whitespace().collect::<Vec<_>>())
            .output()
            .unwrap()
    }

    fn good(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words}: {output:?}");
        assert!(output.stderr.is_empty(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a call that fails says.
    fn bad(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(255), "{words}: {output:?}");
        assert!(output.stdout.is_empty(), "{words}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A call with something on standard input.
    fn piped(&self, words: &str, input: &str) -> Output {
        let mut command = self.command(&words.split_whitespace().collect::<Vec<_>>());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may say no before it has read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

#[test]
fn users_groups_and_roles_are_made_changed_and_listed() {
    let place = Place::new();
    assert_eq!(place.good("group add ops --comment Operators"), "");
    assert_eq!(place.good("group add empty"), "");
    assert_eq!(
        place.good("user add alice@pve --groups ops --groups empty -firstname=Alice"),
        ""
    );
    assert_eq!(place.good("useradd bob@pve -enable no --expire 1893456000"), "");
    let expected = "\
+---------+-----------+-----------+
| groupid | comment   | users     |
+=========+===========+===========+
| empty   |           | alice@pve |
+---------+-----------+-----------+
| ops     | Operators | alice@pve |
+---------+-----------+-----------+
";
    assert_eq!(place.good("group list"), expected);
    // Verbs and options may be shortened.
    assert_eq!(
        place.good("gr li --nob --nohead 1"),
        "empty             alice@pve\nops     Operators alice@pve\n"
    );
    assert_eq!(
        place.good("user list --output-format json --enabled 0"),
        "[{\"enable\":0,\"expire\":1893456000,\"realm-type\":\"pve\",\"userid\":\"bob@pve\"}]\n"
    );
    place.good("usermod bob@pve --enable --groups ops --append");
    let pretty = "\
[
   {
      \"comment\" : \"Operators\",
      \"groupid\" : \"ops\",
      \"users\" : \"alice@pve,bob@pve\"
   }
]
";
    place.good("groupdel empty");
    assert_eq!(place.good("group list --output-format=json-pretty"), pretty);
    place.good("role add Watch --privs VM.Audit --privs Sys.Audit");
    place.good("role modify Watch --privs VM.Console --append 1");
    let yaml = place.good("role list --output-format yaml");
    assert!(yaml.starts_with("---\n- privs: "), "{yaml}");
    assert!(
        yaml.contains("- privs: Sys.Audit,VM.Audit,VM.Console\n  roleid: Watch\n  special: 0\n"),
        "{yaml}"
    );
    place.good("roledel Watch");
    place.good("userdel bob@pve");
    assert_eq!(place.good("group list --quiet"), "");
    let config = place.file("etc/pve/user.cfg");
    assert!(
        config.contains("user:alice@pve:1:0:Alice:") && !config.contains("bob"),
        "{config}"
    );
    assert!(config.contains("group:ops:alice@pve:Operators:"), "{config}");
}

#[test]
fn rights_are_given_shown_and_taken() {
    let place = Place::new();
    place.good("user add alice@pve");
    place.good("acl modify /vms --roles PVETemplateUser --users alice@pve");
    place.good("aclmod /vms/100 --roles PVESDNUser --users alice@pve --propagate 0");
    let expected = "\
path     roleid          type ugid      propagate
/vms     PVETemplateUser user alice@pve 1
/vms/100 PVESDNUser      user alice@pve 0
";
    assert_eq!(place.good("acl list --noborder"), expected);
    let expected = "\
+----------+--------------+
| ACL path | Permissions  |
+==========+==============+
| /vms     | VM.Audit (*) |
|          | VM.Clone (*) |
+----------+--------------+
| /vms/100 | SDN.Audit    |
|          | SDN.Use      |
+----------+--------------+
Permissions marked with '(*)' have the 'propagate' flag set.
";
    assert_eq!(place.good("user permissions alice@pve"), expected);
    assert_eq!(
        place.good("user permissions alice@pve --path /vms --output-format json"),
        "{\"/vms\":{\"VM.Audit\":1,\"VM.Clone\":1}}\n"
    );
    // Root's own, without a name.
    assert!(place.good("user permissions").contains("Permissions.Modify (*)"));
    place.good("user token add alice@pve ci --privsep 1");
    place.good("acl modify /vms --roles PVEAuditor --tokens alice@pve!ci");
    let token = place.good("user token permissions alice@pve ci --noborder --noheader");
    assert_eq!(token, "/vms     VM.Audit (*)\n/vms/100 SDN.Audit\n");
    place.good("acl delete /vms --roles PVETemplateUser --users alice@pve");
    assert!(!place.good("acl list").contains("PVETemplateUser"));
    assert_eq!(
        place.bad("acl delete /vms --users alice@pve"),
        "400 Parameter verification failed.\nroles: property is missing and it is not optional\n\
         pveum acl delete <path> --roles <string> [OPTIONS]\n"
    );
}

#[test]
fn tokens_realms_and_pools_have_verbs() {
    let place = Place::new();
    place.good("user add alice@pve");
    let made = place.good("user token add alice@pve ci --comment pipeline --privsep 0 --output-format json");
    let secret = made.split('"').find(|text| text.len() == 36).unwrap().to_owned();
    assert!(place.file("etc/pve/priv/token.cfg").contains(&secret));
    place.good("user token modify alice@pve ci --expire 1893456000");
    let expected = "tokenid comment  expire     privsep\nci      pipeline 1893456000 0\n";
    assert_eq!(place.good("user token list alice@pve --noborder"), expected);
    place.good("user token remove alice@pve ci");
    assert_eq!(place.good("user token list alice@pve"), "");
    assert!(!place.file("etc/pve/priv/token.cfg").contains(&secret));

    place.good("realm add corp --type ldap --server1 192.0.2.1 --base_dn dc=x --user_attr uid --password=bind-secret");
    assert_eq!(place.file("etc/pve/priv/realm/corp.pw"), "bind-secret");
    let piped = place.piped("realm modify corp --password", "other-secret\n");
    assert!(piped.status.success(), "{piped:?}");
    assert_eq!(place.file("etc/pve/priv/realm/corp.pw"), "other-secret");
    place.good("realm modify corp --comment Head-office");
    let list = place.good("realm list --noborder --noheader");
    assert!(list.starts_with("corp  ldap Head-office"), "{list}");
    place.good("realm delete corp");

    place.good("pool add team --comment Team");
    place.good("pool add team/web");
    place.good("pool modify team --comment Squad");
    let pools = place.good("pool list --output-format json");
    assert_eq!(
        pools,
        "[{\"comment\":\"Squad\",\"poolid\":\"team\"},{\"poolid\":\"team/web\"}]\n"
    );
    let refused = place.bad("pool delete team");
    assert_eq!(
        refused,
        "delete pool failed: pool 'team' is not empty (contains pool 'team/web')\n"
    );
    place.good("pool delete team/web");
    place.good("pool delete team");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_usage() {
    let place = Place::new();
    let add = "pveum user add <userid> [OPTIONS]\n";
    for (words, expected) in [
        ("user add", format!("400 not enough arguments\n{add}")),
        ("user add a@pve b@pve", format!("400 too many arguments\n{add}")),
        ("user add a@pve -- --comment", format!("400 too many arguments\n{add}")),
        ("user add a@pve --colour red", format!("Unknown option: colour\n400 unable to parse option\n{add}")),
        ("user add a@pve --userid b@pve", format!("Unknown option: userid\n400 unable to parse option\n{add}")),
        ("user add a@pve --comment", format!("Option comment requires an argument\n400 unable to parse option\n{add}")),
        ("user add a@pve --e 1", format!("Option e is ambiguous (email, enable, expire)\n400 unable to parse option\n{add}")),
        ("user add a@pve --enable maybe", format!("400 unable to parse boolean option\n{add}")),
        ("user add a@pve --output-format xml", format!("400 Parameter verification failed.\noutput-format: value 'xml' does not have a value in the enumeration 'text, json, json-pretty, yaml'\n{add}")),
        ("user add nobody --expire soon", format!("400 Parameter verification failed.\nexpire: type check ('integer') failed - got 'soon'\nuserid: invalid format - value 'nobody' does not look like a valid user name\n{add}")),
        ("user add a@pve --groups none", "create user failed: no such group 'none'\n".to_owned()),
        ("user delete a@pve/b", "400 Parameter verification failed.\nuserid: invalid format - value 'a@pve/b' does not look like a valid user name\npveum user delete <userid> [OPTIONS]\n".to_owned()),
        ("user token permissions root@pam none", "no such token 'none' for user 'root@pam'\n".to_owned()),
        ("user tfa delete root@pam --id none", "no such entry\n".to_owned()),
        ("user tfa delete nobody@pve", "no such user ('nobody@pve')\n".to_owned()),
    ] {
        assert_eq!(place.bad(words), expected, "{words}");
    }
    for (words, first) in [
        ("", "ERROR: no command specified"),
        ("user token", "ERROR: no command specified"),
        ("fly", "ERROR: unknown command 'pveum fly'"),
        ("user fly", "ERROR: unknown command 'pveum user fly'"),
        ("r list", "ERROR: unknown command 'pveum r'"),
        ("help user fly", "ERROR: unknown command 'pveum user fly'"),
    ] {
        let text = place.bad(words);
        assert_eq!(text.lines().next(), Some(first), "{words}");
        assert!(text.contains("\nUSAGE: pveum "), "{words}: {text}");
    }
    assert!(!place.path("etc/pve/user.cfg").exists());
    let nowhere = Command::new(BINARY)
        .args(["pveum", "--root", "/no/such", "acl", "list"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(nowhere.stderr).unwrap(),
        "unable to use root directory '/no/such' - No such file or directory\n"
    );
}

#[test]
fn a_value_may_look_like_an_option() {
    let place = Place::new();
    place.good("group add g --comment --none");
    place.good("group add h --comment=a=b");
    let list = place.good("group list --noborder --noheader");
    assert_eq!(list, "g       --none  \nh       a=b     \n");
}

#[test]
fn passwords_come_by_a_pipe() {
    let place = Place::new();
    let made = place.piped("user add alice@pve --password", "S3cret!pw\n");
    assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
    assert!(place.file("etc/pve/priv/shadow.cfg").starts_with("alice:$"));
    let before = place.file("etc/pve/priv/shadow.cfg");
    let changed = place.piped("passwd alice@pve", "An0ther!pw\nAn0ther!pw\n");
    assert!(changed.status.success(), "{changed:?}");
    assert_ne!(place.file("etc/pve/priv/shadow.cfg"), before);
    for (input, expected) in [
        ("one-password\nanother-password\n", "Passwords do not match!\n"),
        ("", "no password given\n"),
        (
            "short\n",
            "400 Parameter verification failed.\npassword: value must be at least 8 characters long\npveum passwd <userid> [OPTIONS]\n",
        ),
    ] {
        let refused = place.piped("passwd alice@pve", input);
        assert_eq!(refused.status.code(), Some(255));
        assert_eq!(String::from_utf8(refused.stderr).unwrap(), expected, "{input}");
    }
    let unknown = place.piped("passwd nobody@pve", "S3cret!pw\n");
    assert_eq!(
        String::from_utf8(unknown.stderr).unwrap(),
        "no such user ('nobody@pve')\n"
    );
}

#[test]
fn secrets_of_realms_come_by_a_pipe_or_in_the_line() {
    let place = Place::new();
    let domains = || place.file("etc/pve/domains.cfg");
    // A key may begin with a dash.
    place.good(
        "realm add sso --type openid --issuer-url https://id.invalid --client-id pve --client-key -a-key --comment x",
    );
    assert!(domains().contains("\tclient-key -a-key\n"), "{}", domains());
    let piped = place.piped("realm modify sso --client-key --comment y", "piped-key\n");
    assert!(piped.status.success(), "{piped:?}");
    assert!(
        domains().contains("\tclient-key piped-key\n") && domains().contains("comment y"),
        "{}",
        domains()
    );
    // Several: a line each, in the order of their options.
    let add = "realm add corp --type ldap --server1 192.0.2.1 --base_dn dc=x --user_attr uid --tfa --password";
    let short = place.piped(add, "type=oath\n");
    assert_eq!(String::from_utf8(short.stderr).unwrap(), "no password given\n");
    let long = place.piped(add, "type=oath\nbind-secret\nbind-secret\n");
    assert_eq!(
        String::from_utf8(long.stderr).unwrap(),
        "several secrets are asked for: there must be one line for each\n"
    );
    assert!(!domains().contains("corp"));
    let piped = place.piped(add, "type=oath,digits=8\nbind-secret\n");
    assert!(piped.status.success(), "{piped:?}");
    assert!(domains().contains("\ttfa type=oath,digits=8\n"), "{}", domains());
    assert_eq!(place.file("etc/pve/priv/realm/corp.pw"), "bind-secret");
}

#[test]
fn keys_of_old_are_second_factors_that_can_be_deleted() {
    let place = Place::new();
    let users = "user:old@pve:1:0:::::GEZDGNBVGY3TQOJQ:\n";
    fs::write(place.path("etc/pve/user.cfg"), users).unwrap();
    assert_eq!(place.good("user tfa delete old@pve"), "");
    assert!(!place.file("etc/pve/user.cfg").contains("GEZDGNBVGY3TQOJQ"));
    assert_eq!(
        place.bad("user tfa delete old@pve"),
        "user 'old@pve' has no second factors\n"
    );
}

#[test]
fn help_tells_what_a_verb_takes() {
    let place = Place::new();
    let expected = "\
USAGE: pveum user token add <userid> <tokenid> [OPTIONS]

  Make an API token and print its secret, this once

  <userid> <string>
  <tokenid> <string>
  --comment <string>
  --expire <integer> (0 - N)
  --privsep <boolean> (default = 1)
";
    for words in [
        "help user token add",
        "user token add --help",
        "user token add x -h",
        "help us tok add",
    ] {
        assert_eq!(place.good(words), expected, "{words}");
    }
    assert!(
        place
            .good("help realm add")
            .contains("  --mode <ldap | ldaps | ldap+starttls> (default = ldap)\n")
    );
    let acl = "USAGE: pveum acl <COMMAND> [ARGS] [OPTIONS]\n\n       \
               pveum acl delete <path> --roles <string> [OPTIONS]\n       \
               pveum acl list [OPTIONS]\n       \
               pveum acl modify <path> --roles <string> [OPTIONS]\n";
    assert_eq!(place.good("help acl"), acl);
    assert_eq!(place.good("acl --help"), acl);
    let whole = place.good("--help");
    assert!(
        whole.contains("usermod    = user modify\n") && whole.contains("--output-format"),
        "{whole}"
    );
    assert_eq!(place.good("help --verbose"), whole);
    let version = Command::new(BINARY).args(["pveum", "--version"]).output().unwrap();
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        format!("pveum {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn only_root_may() {
    let place = Place::new();
    // Where everybody may run it.
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = place.path("pveum");
    if fs::hard_link(BINARY, &copy).is_err() {
        // Another process copies: what this one has open for writing is inherited by whatever another test starts at that
        // moment, and cannot be executed until that is gone.
        assert!(Command::new("cp").arg(BINARY).arg(&copy).status().unwrap().success());
    }
    let call = |words: &[&str]| Command::new(&copy).args(words).uid(65534).gid(65534).output().unwrap();
    let refused = call(&["user", "list"]);
    assert_eq!(refused.status.code(), Some(255));
    assert_eq!(String::from_utf8(refused.stderr).unwrap(), "please run as root\n");
    assert!(call(&["help"]).status.success());
}

/// What bash offers for a line.
fn bash(tools: &Path, line: &str) -> Vec<String> {
    let script = Command::new(BINARY)
        .args(["completion", "pveum", "bash"])
        .output()
        .unwrap();
    let script = String::from_utf8(script.stdout).unwrap();
    let program = format!(
        "{script}\nCOMP_LINE=$1 COMP_POINT=${{#1}}\n_pveum\n[ ${{#COMPREPLY[@]}} = 0 ] || printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &program, "bash", line])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn shells_complete_verbs_options_and_what_there_is() {
    let place = Place::new();
    for words in [
        "group add ops",
        "group add oracle",
        "user add alice@pve",
        "user add albert@pve",
    ] {
        place.good(words);
    }
    symlink(BINARY, place.path("pveum")).unwrap();
    let root = place.0.path().display().to_string();
    let offered = |line: &str| bash(place.0.path(), &format!("pveum --root {root} {line}"));
    for (line, expected) in [
        ("", "acl group help passwd pool realm role ticket user"),
        ("user t", "tfa token"),
        ("user token ", "add delete list modify permissions"),
        ("help user tok", "token"),
        ("user add x@pve --e", "--email --enable --expire"),
        ("user list --enabled ", "0 1"),
        ("user list --enabled --no", "--noborder --noheader"),
        ("user list --output-format j", "json json-pretty"),
        ("user modify a", "albert@pve alice@pve"),
        // Bash replaces what is behind the last @ or =.
        ("user modify alice@p", "pve"),
        ("user modify alice@pve --groups o", "ops oracle"),
        ("user modify alice@pve --groups ops,or", "ops,oracle"),
        ("acl modify / --roles PVEVM", "PVEVMAdmin PVEVMUser"),
        ("role add x --privs Pool.", "Pool.Allocate Pool.Audit"),
        ("realm add x --type p", "pam pve"),
        ("realm delete p", "pam pve"),
        ("fly ", ""),
    ] {
        assert_eq!(offered(line).join(" "), expected, "{line}");
    }
    for shell in ["fish", "zsh"] {
        let script = Command::new(BINARY)
            .args(["completion", "pveum", shell])
            .output()
            .unwrap();
        assert!(
            String::from_utf8(script.stdout).unwrap().contains("pveum __complete"),
            "{shell}"
        );
    }
}
