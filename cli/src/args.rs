//! What may be written on the command line.

use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{
    approvals, ask, audit, completion, contexts, cp, doctor, files, forward, jobs, keys, kill,
    login, logs, machines, models, ps, run, services, sessions, shell, status, tasks, tokens,
    usage, users, vault, version,
};

use crate::top;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  reeve login https://reeve.example:7717#sha256:…   log in, once
  reeve run web-1 -- df -h                          run a command on a machine
  reeve run 'role=web' --shell 'uptime | cut -c-40' on many
  reeve ask web-1 'why is the disk filling up?'     in words
  reeve shell web-1                                 a terminal there
  reeve jobs attach ID                              come back to what still runs
Options that every command takes: reeve --help";

/// Run your machines, by commands or in words, and lose nothing on the way.
#[derive(Parser)]
#[command(
    name = "reeve",
    version,
    styles = STYLES,
    after_help = EXAMPLES,
    max_term_width = 100,
    disable_help_subcommand = true,
    infer_subcommands = false
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Which context of the configuration file to use
    #[arg(long, global = true, value_name = "NAME", env = "REEVE_CONTEXT", hide_short_help = true)]
    pub context: Option<String>,
    /// The coordinator's address, before any context's
    #[arg(long, global = true, value_name = "URL", env = "REEVE_URL", hide_short_help = true)]
    pub url: Option<String>,
    /// SHA-256 of the coordinator's certificate authority
    #[arg(
        long,
        global = true,
        value_name = "SHA256",
        env = "REEVE_CA_PIN",
        hide_short_help = true
    )]
    pub pin: Option<String>,
    /// Trust the certificate authorities in this PEM file
    #[arg(long, global = true, value_name = "FILE", env = "REEVE_CA_FILE", hide_short_help = true)]
    pub ca_file: Option<PathBuf>,
    /// Read the API key from this file ('-' is stdin); or set REEVE_API_KEY
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "REEVE_API_KEY_FILE",
        hide_short_help = true
    )]
    pub api_key_file: Option<PathBuf>,
    /// How to print data
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    #[arg(help = "Print as table, wide, json, jsonl, yaml or name")]
    pub output: Format,
    /// When to colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_short_help = true
    )]
    pub color: Color,
    /// Say more when something fails; twice for a trace
    #[arg(short, long, global = true, action = clap::ArgAction::Count, hide_short_help = true)]
    pub verbose: u8,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For people with wide screens
    Wide,
    /// One JSON document
    Json,
    /// One JSON document per line
    Jsonl,
    /// One YAML document
    Yaml,
    /// Names or ids alone, one per line
    Name,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a command on one machine or many
    Run(Box<run::Run>),
    /// Open a terminal on a machine, or come back to one
    Shell(Box<shell::Shell>),
    /// Terminals, open and over, and what they showed
    Sessions(sessions::Sessions),
    /// Copy files to and from machines
    Cp(Box<cp::Cp>),
    /// Ask in words; see the plan, say yes, read what it came to
    Ask(Box<ask::Ask>),
    /// Look at, follow and decide about what was asked in words
    Tasks(tasks::Tasks),
    /// What waits for a yes, and deciding about it
    Approvals(approvals::Approvals),
    /// What needs whose yes
    Policy(approvals::Policy),
    /// Logs of machines, merged; errors in groups
    Logs(Box<logs::Logs>),
    /// Look at, follow and cancel what was run
    Jobs(jobs::Jobs),
    /// Look at, search and change files on machines
    Files(files::Files),
    /// Look at and change machines
    Machines(machines::Machines),
    /// Watch how busy machines are
    Top(Box<top::Top>),
    /// Show what runs on machines
    Ps(ps::Ps),
    /// Send a signal to processes
    Kill(kill::Kill),
    /// Look at and control services
    Services(services::Services),
    /// Listen here, connect from a machine
    Forward(forward::Forward),
    /// Connect stdin and stdout to a port of a machine
    SshProxy(forward::SshProxy),
    /// Tokens with which machines join
    Tokens(tokens::Tokens),
    /// Providers of models, and who asks which
    Models(models::Models),
    /// Keys of model providers
    Vault(vault::Vault),
    /// What models used and cost
    Usage(usage::Usage),
    /// How the coordinator is
    Status(status::Status),
    /// Log in to a coordinator
    Login(login::Login),
    /// Log out
    Logout,
    /// Who you are to the coordinator
    Whoami,
    /// Coordinators you have logged in to
    Contexts(contexts::Contexts),
    /// People who may log in
    Users(users::Users),
    /// Keys for programs
    Keys(keys::Keys),
    /// Who did what, when
    Audit(audit::Audit),
    /// Find out why something does not work
    Doctor(doctor::Doctor),
    /// Releases of this program and the coordinator
    Version(version::Version),
    /// Completion for your shell
    Completion(completion::Completion),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    /// Walks every command: a short help that does not fit a screen is one nobody reads.
    #[test]
    fn every_short_help_fits_a_screen_and_shows_examples() {
        fn walk(command: &mut clap::Command, path: &str) {
            let help = command.render_help().to_string();
            let lines = help.lines().count();
            let limit = match path {
                "reeve run" => 42,
                // One line per command.
                "reeve" => 60,
                "reeve files" => 30,
                _ => 24,
            };
            assert!(lines <= limit, "{path} -h has {lines} lines:\n{help}");
            if command.get_subcommands().next().is_none() || path.contains(' ') {
                assert!(
                    help.contains("Example")
                        || path.split(' ').count() > 2
                        || help.lines().count() < 12,
                    "{path} -h shows no example"
                );
            }
            for sub in command.get_subcommands_mut() {
                let path = format!("{path} {}", sub.get_name());
                walk(sub, &path);
            }
        }
        let mut command = Cli::command();
        command.build();
        walk(&mut command, "reeve");
    }
}
