//! What a shell offers after a daemon's name. `NAME completion bash` prints it; a package puts it where the shell looks.

use super::parse::{OPTIONS, VERBS};

/// Options that only `start` takes.
const OF_START: [&str; 2] = ["debug", "foreground"];

/// A completion script for bash.
pub(super) fn bash(name: &str) -> String {
    let verbs: Vec<&str> = VERBS.iter().map(|(verb, _)| *verb).collect();
    let options = |wanted: &dyn Fn(&str) -> bool| {
        let chosen = OPTIONS.iter().filter(|option| wanted(option));
        chosen.map(|option| format!("--{option}")).collect::<Vec<_>>().join(" ")
    };
    let verbs = verbs.join(" ");
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
