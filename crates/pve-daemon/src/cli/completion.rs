//! What a shell offers after a daemon's name. `NAME completion SHELL` prints it; a package puts it where the shell looks.

use super::parse::{OPTIONS, VERBS};

/// Options that only `start` takes.
const OF_START: [&str; 2] = ["debug", "foreground"];

/// A completion script for a shell: bash, fish or zsh.
pub(super) fn script(name: &str, shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash(name)),
        "fish" => Some(fish(name)),
        "zsh" => Some(zsh(name)),
        _ => None,
    }
}

fn verbs() -> String {
    VERBS.iter().map(|(verb, _)| *verb).collect::<Vec<_>>().join(" ")
}

fn fish(name: &str) -> String {
    let mut text =
        format!("# Completion of {name} for fish, made by '{name} completion fish'.\ncomplete -c {name} -f\n");
    text.push_str(&format!(
        "complete -c {name} -n __fish_use_subcommand -a '{}'\n",
        verbs()
    ));
    for option in OPTIONS {
        let only = if OF_START.contains(&option) {
            " -n '__fish_seen_subcommand_from start'"
        } else {
            ""
        };
        let value = if option == "root" {
            " -x -a '(__fish_complete_directories)'"
        } else {
            ""
        };
        text.push_str(&format!("complete -c {name}{only} -l {option}{value}\n"));
    }
    text
}

fn zsh(name: &str) -> String {
    let option = |option: &&str| match *option {
        "root" => "'--root=[below which directory]:directory:_files -/'".to_owned(),
        other => format!("'--{other}'"),
    };
    let options = OPTIONS.iter().map(option).collect::<Vec<_>>().join(" ");
    format!(
        "#compdef {name}\n# Completion of {name} for zsh, made by '{name} completion zsh'.\n\
         _arguments '1:verb:({})' {options}\n",
        verbs()
    )
}

/// A completion script for bash.
fn bash(name: &str) -> String {
    let options = |wanted: &dyn Fn(&str) -> bool| {
        let chosen = OPTIONS.iter().filter(|option| wanted(option));
        chosen.map(|option| format!("--{option}")).collect::<Vec<_>>().join(" ")
    };
    let verbs = verbs();
    let common = options(&|option| !OF_START.contains(&option));
    let all = options(&|_| true);
    format!(
        r#"# Completion of {name} for bash, made by '{name} completion bash'.
_{name}() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" verb="${{COMP_WORDS[1]}}"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{verbs}" -- "$word"))
    elif [ "$before" = --root ]; then
        COMPREPLY=($(compgen -d -- "$word"))
    elif [ "$verb" = help ]; then
        COMPREPLY=($(compgen -W "{verbs} --verbose" -- "$word"))
    elif [ "$verb" = start ]; then
        COMPREPLY=($(compgen -W "{all}" -- "$word"))
    else
        COMPREPLY=($(compgen -W "{common}" -- "$word"))
    fi
}}
complete -F _{name} {name}
"#
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What bash offers for these words, the last of which is being typed.
    fn offered(words: &[&str]) -> String {
        let words = words.join("' '");
        let script = format!(
            "{}\nCOMP_WORDS=('{words}'); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _pveproxy; echo ${{COMPREPLY[*]}}",
            bash("pveproxy")
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    #[test]
    fn other_shells_get_all_verbs_and_options() {
        for shell in ["fish", "zsh"] {
            let script = script("pveproxy", shell).unwrap();
            for (word, _) in VERBS {
                assert!(script.contains(word), "{shell}: {word}");
            }
            for word in OPTIONS {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        assert_eq!(script("pveproxy", "csh"), None);
    }

    #[test]
    fn bash_offers_verbs_and_options() {
        for (words, expected) in [
            (&["pveproxy", ""][..], "check help restart start status stop"),
            (&["pveproxy", "sta"], "start status"),
            (&["pveproxy", "ch"], "check"),
            (&["pveproxy", "start", "--f"], "--foreground"),
            (&["pveproxy", "stop", "--"], "--address --instance --node --root"),
            (&["pveproxy", "check", "--root", "/us"], "/usr"),
            (&["pveproxy", "help", "r"], "restart"),
        ] {
            assert_eq!(offered(words), expected, "{words:?}");
        }
    }
}
