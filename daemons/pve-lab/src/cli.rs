//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pve_schema::ids::{NodeName, UserId};
use pve_schema::site::Instance;

/// Where a lab is unless its user says otherwise.
pub(crate) const DEFAULT_ROOT: &str = "/var/lib/pve-lab/default";

/// Runs a Proxmox VE API node from a directory: real daemons, real guests, no installation.
///
/// Everything a lab keeps is below its root directory. Several labs run side by side, each on a loopback address of its
/// own with the usual ports 8006, 3128 and 85.
#[derive(Debug, Parser)]
#[command(name = "pve-lab", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "EXAMPLES\n  \
    pve-lab start\n      \
        start the default lab in the foreground; the first start prints a user and a password\n  \
    pve-lab start --root /srv/lab2 --guests leave\n      \
        a second one beside it, whose guests go on when it is stopped\n  \
    eval \"$(pve-lab ticket root@pam --format env)\"\n      \
        credentials for a script\n  \
    pve-lab ticket root@pam --format curl | xargs curl \"$PVE_URL/api2/json/version\"\n      \
        one call, with the URL from the credentials above")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which lab.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The lab's directory
    #[arg(long, value_name = "DIR", env = "PVE_LAB_ROOT", default_value = DEFAULT_ROOT)]
    pub(crate) root: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the lab and stay in the foreground until Ctrl-C, SIGTERM or `pve-lab stop`
    ///
    /// A directory that is no lab yet becomes one: keys, certificates, the storage `local` and a user are made. Daemons
    /// that die are started again.
    Start(StartOptions),
    /// Stop a running lab and wait for its end
    Stop(Which),
    /// Say which daemons run, and where
    ///
    /// The exit code is 0 when the lab runs and 3 when it does not.
    Status(StatusOptions),
    /// Give a user of the lab a new password, and print it
    Passwd(PasswdOptions),
    /// Print a ticket and its CSRF prevention token, for scripts
    ///
    /// The ticket is signed with the lab's own key and is valid for two hours. No password is asked: who may read the key
    /// is root already.
    Ticket(TicketOptions),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print this program's man page
    Man,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StartOptions {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The loopback address to listen on; without it the one of the last start, at first the first free 127.0.0.N
    #[arg(long, value_name = "127.0.0.N")]
    pub(crate) address: Option<IpAddr>,
    /// 1 to 3 characters that set the lab's names in the kernel apart; kept from the first start on
    #[arg(long, value_name = "X", value_parser = parse_instance)]
    pub(crate) instance: Option<Instance>,
    /// The node's name; kept from the first start on, without it the host's
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// What becomes of running guests when the lab stops
    #[arg(long, value_enum, default_value_t = GuestsAtEnd::Stop)]
    pub(crate) guests: GuestsAtEnd,
    /// Workers of each daemon, unless the lab's `/etc/default` files say otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=127))]
    pub(crate) workers: Option<u8>,
}

/// What becomes of guests when the lab stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GuestsAtEnd {
    /// They are shut down, and stopped after 30 seconds
    Stop,
    /// They go on; the next start finds them again
    Leave,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PasswdOptions {
    #[command(flatten)]
    pub(crate) which: Which,
    /// A user of the realm `pve`
    #[arg(value_name = "USER@pve", default_value = "admin@pve")]
    pub(crate) user: UserId,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct TicketOptions {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Whose ticket
    #[arg(value_name = "USER@REALM")]
    pub(crate) user: UserId,
    /// How to print it
    #[arg(long, value_enum, default_value_t = TicketFormat::Json)]
    pub(crate) format: TicketFormat,
}

/// How a ticket is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TicketFormat {
    /// An object as `POST /access/ticket` answers it, with the URL and the file of the certificate authority
    Json,
    /// Assignments for a shell: PVE_URL, PVE_CA, PVE_TICKET, PVE_CSRF_TOKEN
    Env,
    /// Options for curl
    Curl,
}

fn parse_instance(text: &str) -> Result<Instance, String> {
    Instance::try_from(text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_man_page_is_up_to_date() {
        let mut page = Vec::new();
        crate::commands::write_man_page(&mut page).unwrap();
        let kept = include_str!("../../../docs/man/pve-lab.1");
        assert_eq!(
            String::from_utf8(page).unwrap(),
            kept,
            "run: cargo run -p pve-lab -- man > docs/man/pve-lab.1"
        );
    }
}
