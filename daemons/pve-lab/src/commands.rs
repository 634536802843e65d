//! What the sub-commands do.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::CommandFactory as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pve_schema::{Context, Site, text};
use serde_json::json;

use crate::accounts::{self, FIRST_USER};
use crate::cli::{
    Cli, Command, DEFAULT_ROOT, GuestsAtEnd, PasswdOptions, StartOptions, StatusOptions, TicketFormat, TicketOptions,
    Which,
};
use crate::error::LabError;
use crate::output::{COLUMN, say};
use crate::supervisor::{DAEMONS, Supervisor};
use crate::{guests, root, tree};

/// `status` of a lab that does not run: as `systemctl status` and the LSB have it.
const NOT_RUNNING: u8 = 3;
/// How long `stop` waits: guests, then the daemons.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// Does what the command line says.
pub(crate) fn run(cli: &Cli) -> Result<ExitCode, LabError> {
    match &cli.command {
        Command::Start(options) => start(options),
        Command::Stop(which) => stop(which),
        Command::Status(options) => status(options),
        Command::Passwd(options) => passwd(options),
        Command::Ticket(options) => ticket(options),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "pve-lab", &mut script);
            print(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            write_man_page(&mut page).map_err(LabError::file("write", "standard output"))?;
            print(&page)
        }
    }
}

/// Writes what was asked for. Whoever has read enough of it (`| head`) is no error.
fn print(text: &[u8]) -> Result<ExitCode, LabError> {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(LabError::file("write", "standard output")(error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// What the command line's description has no place for.
const ENVIRONMENT_AND_FILES: &str = r".SH EXIT STATUS
0 on success, 1 if something failed, 2 for a command line that makes no sense, 3 from \fBstatus\fR for a lab that does
not run.
.SH ENVIRONMENT
.TP
PVE_LAB_ROOT
The lab's directory, where \fB\-\-root\fR does not name one.
.TP
NO_COLOR
If set, what \fBstart\fR shows is not coloured.
.SH FILES
.TP
ROOT/pve\-lab.conf
The lab's address, mark and node name, kept from its first start on.
.TP
ROOT/etc/default, ROOT/etc/pve, ROOT/var/log
Settings, configuration and logs, as an installed system has them below /.
";

/// Writes the man page: the program, then each sub-command. `clap_mangen` would make a page of each.
pub(crate) fn write_man_page(out: &mut dyn io::Write) -> io::Result<()> {
    let without_help = |command: clap::Command| command.disable_help_flag(true).disable_version_flag(true);
    let mut command = Cli::command()
        .disable_help_subcommand(true)
        .mut_subcommands(without_help);
    command.build();
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let page = clap_mangen::Man::new(command.clone()).manual("pve-lab").date("");
    page.render_title(out)?;
    page.render_name_section(out)?;
    writeln!(out, ".SH SYNOPSIS\n\\fBpve\\-lab\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]")?;
    page.render_description_section(out)?;
    writeln!(out, ".SH COMMANDS")?;
    for sub in command.get_subcommands() {
        let usage = sub.clone().render_usage().to_string();
        writeln!(out, ".SS {}", escape(usage.trim_start_matches("Usage: ")))?;
        let about = sub
            .get_long_about()
            .or(sub.get_about())
            .map(ToString::to_string)
            .unwrap_or_default();
        writeln!(out, "{}", escape(&about).replace("\n\n", "\n.PP\n"))?;
        let mut options = Vec::new();
        clap_mangen::Man::new(sub.clone()).render_options_section(&mut options)?;
        out.write_all(
            String::from_utf8_lossy(&options)
                .replace(".SH OPTIONS\n", "")
                .as_bytes(),
        )?;
    }
    out.write_all(ENVIRONMENT_AND_FILES.as_bytes())?;
    write!(
        out,
        ".SH EXAMPLES\n.nf\n{}\n.fi\n",
        escape(examples.trim_start_matches("EXAMPLES\n"))
    )?;
    let others = "pvedaemon(8), pveproxy(8), pvescheduler(8), pvestatd(8), qmeventd(8), spiceproxy(8), vma(1)";
    writeln!(out, ".SH SEE ALSO\n{others}")
}

/// A text with nothing in it that roff would act on.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

fn start(options: &StartOptions) -> Result<ExitCode, LabError> {
    let served = root::take(options)?;
    let context = Context::new(served.site.clone());
    let what = if served.is_new {
        "making a new lab in"
    } else {
        "starting the lab in"
    };
    say(&format!("{what} {}", served.site.root.display()));
    tree::prepare(&context)?;
    let mut supervisor = Supervisor::new(served.site.clone(), options.workers)?;
    let outcome = serve(&context, &mut supervisor, options.guests);
    supervisor.stop();
    outcome?;
    say("stopped");
    Ok(ExitCode::SUCCESS)
}

/// From the first daemon's start until somebody asks for the end.
fn serve(context: &Context, supervisor: &mut Supervisor, guests: GuestsAtEnd) -> Result<(), LabError> {
    if supervisor.start()? {
        // Not before all is well: a password that scrolls away above an error is lost.
        let password = accounts::create_first_user(context)?;
        greet(&context.site, password.as_deref(), guests);
        supervisor.run();
        say("stopping");
        if guests == GuestsAtEnd::Stop {
            end_guests(context, supervisor);
        }
    }
    Ok(())
}

fn end_guests(context: &Context, supervisor: &Supervisor) {
    let pvedaemon = SocketAddr::new(context.site.address, 85);
    if let Err(error) = guests::stop_all(context, pvedaemon, || supervisor.take_signals()) {
        say(&format!("unable to stop guests: {error}"));
    }
}

fn url(site: &Site) -> String {
    format!("https://{}", SocketAddr::new(site.address, 8006))
}

/// A command for this lab, as its user can paste it.
fn command(site: &Site, words: &str) -> String {
    if site.root == Path::new(DEFAULT_ROOT) {
        format!("pve-lab {words}")
    } else {
        format!("pve-lab {words} --root {}", site.root.display())
    }
}

/// What a user needs to know once the lab runs.
fn greet(site: &Site, password: Option<&str>, guests: GuestsAtEnd) {
    let mut lines = vec![format!("ready: {}", url(site))];
    match password {
        Some(password) => {
            lines.push(format!("log in as {FIRST_USER}, password {password}"));
            lines.push(format!(
                "  (shown this once; '{}' sets another)",
                command(site, "passwd")
            ));
        }
        None => lines.push(format!(
            "log in as {FIRST_USER} ('{}' sets a new password), or as root@pam",
            command(site, "passwd")
        )),
    }
    lines.push(format!(
        "for scripts: '{}'",
        command(site, "ticket admin@pve --format env")
    ));
    lines.push(match guests {
        GuestsAtEnd::Stop => "Ctrl-C stops the lab and its guests".to_owned(),
        GuestsAtEnd::Leave => "Ctrl-C stops the lab; its guests go on".to_owned(),
    });
    for line in lines {
        say(&line);
    }
}

fn stop(which: &Which) -> Result<ExitCode, LabError> {
    let site = root::existing(&which.root)?;
    let Some(pid) = root::server(&site.root) else {
        println!("stopped");
        return Ok(ExitCode::SUCCESS);
    };
    let target = Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
    kill(target, Signal::SIGTERM).map_err(|errno| LabError::System {
        what: "to end the lab",
        error: errno.into(),
    })?;
    let deadline = Instant::now() + STOP_LIMIT;
    while root::server(&site.root).is_some() {
        if Instant::now() >= deadline {
            return Err(LabError::StillRunning(STOP_LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn status(options: &StatusOptions) -> Result<ExitCode, LabError> {
    let site = root::existing(&options.which.root)?;
    let server = root::server(&site.root);
    let daemons: Vec<_> = DAEMONS
        .iter()
        .map(|daemon| (daemon.name, daemon.probe(&site)))
        .collect();
    if options.json {
        let daemons: serde_json::Map<_, _> = daemons
            .iter()
            .map(|(name, answer)| ((*name).to_owned(), json!(answer.is_ok())))
            .collect();
        let value = json!({
            "root": site.root,
            "url": url(&site),
            "node": site.node.to_string(),
            "instance": site.instance.as_ref().map(|instance| instance.as_str()),
            "running": server.is_some(),
            "pid": server,
            "daemons": daemons,
        });
        println!("{value:#}");
    } else {
        match server {
            Some(pid) => println!("running (pid {pid})"),
            None => println!("stopped"),
        }
        println!("{:<COLUMN$}{}", "root", site.root.display());
        println!("{:<COLUMN$}{}", "url", url(&site));
        println!("{:<COLUMN$}{}", "node", site.node);
        for (name, answer) in &daemons {
            match answer {
                Ok(()) => println!("{name:<COLUMN$}answers"),
                Err(reason) => println!("{name:<COLUMN$}does not answer: {reason}"),
            }
        }
    }
    Ok(if server.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_RUNNING)
    })
}

/// Keys and passwords are root's alone.
fn need_root() -> Result<(), LabError> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(LabError::KeysNeedRoot)
    }
}

fn passwd(options: &PasswdOptions) -> Result<ExitCode, LabError> {
    need_root()?;
    let context = Context::new(root::existing(&options.which.root)?);
    println!("{}", accounts::set_password(&context, &options.user)?);
    Ok(ExitCode::SUCCESS)
}

fn ticket(options: &TicketOptions) -> Result<ExitCode, LabError> {
    need_root()?;
    let context = Context::new(root::existing(&options.which.root)?);
    let session = accounts::session(&context, &options.user)?;
    let url = url(&context.site);
    let ca = context.site.etc_pve().join("pve-root-ca.pem").display().to_string();
    let text = match options.format {
        TicketFormat::Json => {
            let value = json!({
                "username": options.user.to_string(),
                "ticket": session.ticket,
                "CSRFPreventionToken": session.csrf_token,
                "url": url,
                "ca": ca,
            });
            format!("{value:#}\n")
        }
        TicketFormat::Env => format!(
            "export PVE_URL={}\nexport PVE_CA={}\nexport PVE_TICKET={}\nexport PVE_CSRF_TOKEN={}\n",
            quote(&url),
            quote(&ca),
            quote(&session.ticket),
            quote(&session.csrf_token)
        ),
        TicketFormat::Curl => format!(
            "--cacert {} --cookie {} --header {}\n",
            quote(&ca),
            quote(&format!("PVEAuthCookie={}", text::encode_component(&session.ticket))),
            quote(&format!("CSRFPreventionToken: {}", session.csrf_token))
        ),
    };
    print(text.as_bytes())
}

/// A text as one word of a shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_word_to_a_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), "'it'\\''s'");
    }
}
