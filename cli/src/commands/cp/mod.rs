//! `reeve cp`.

mod bar;
mod place;
mod plan;
mod run;
mod summary;

use clap::{Args, ValueEnum};

use crate::args::Global;
use crate::connection::connect;
use crate::failure::Failure;
use crate::target::{Remote, Target};

const EXAMPLES: &str = "\
Examples:
  reeve cp big.iso web-1:/srv/                into the folder /srv
  reeve cp -r web-1:/var/log/ ./logs          what is in it; without the slash: itself
  reeve cp app.conf 'role=web:/etc/app/'      to many
  tar c . | reeve cp - web-1:/srv/all.tar     '-' is stdin or stdout";

/// Copy files to and from machines
///
/// A copy that was cut goes on where it stopped, whatever was cut: the connection, an agent, the
/// coordinator, or this command, which then has to be given again as it was. What came is kept for
/// a day. Every file is compared by its BLAKE3 hash, synced, and only then takes its place in one
/// step; what was there before is kept as a version on the machine ('reeve files history').
///
/// A target that is a folder is copied into, under the source's name. A slash behind a target says
/// that it is a folder and has to be there. A slash behind a source folder means what is in it
/// rather than itself. From several machines, each gets a folder of its name.
///
/// Symbolic links in a folder are copied as links and never followed. Of what comes from a machine,
/// links that lead out of the folder are left out unless --outward-links is given. A link at the
/// very place that is written to is refused unless --links says what is to become of it.
#[derive(Args)]
#[command(after_help = EXAMPLES, override_usage = "reeve cp [OPTIONS] SOURCE... TARGET")]
pub struct Cp {
    /// PATH, MACHINE:/PATH, SELECTOR:/PATH or -
    #[arg(required = true, num_args = 2.., value_name = "PLACE")]
    #[arg(value_parser = Target::parser())]
    words: Vec<Target>,
    /// Folders with everything in them
    #[arg(short, long)]
    recursive: bool,
    /// Mode and times as at the source; on machines the owner, too
    #[arg(short, long)]
    preserve: bool,
    /// Pack on the way
    #[arg(short = 'z', long)]
    compress: bool,
    /// Leave alone what is there
    #[arg(short, long)]
    no_clobber: bool,
    /// Only if what is there has this BLAKE3 hash
    #[arg(long, value_name = "HASH")]
    if_match: Option<String>,
    /// Make folders above the target
    #[arg(long, hide_short_help = true)]
    parents: bool,
    /// This mode, such as 640
    #[arg(long, value_parser = parse_mode)]
    mode: Option<u32>,
    /// This owner, USER[:GROUP]
    #[arg(long, hide_short_help = true)]
    owner: Option<String>,
    /// A link at the target: refuse, replace or follow it
    #[arg(long, value_name = "WHAT", default_value = "refuse", hide_short_help = true)]
    links: Links,
    /// Take links that lead out of the folder, too
    #[arg(long, hide_short_help = true)]
    outward_links: bool,
    /// It may change while it is copied
    #[arg(long, hide_short_help = true)]
    live: bool,
    /// Keep no version of what is overwritten
    #[arg(long, hide_short_help = true)]
    no_version: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask, however many machines
    #[arg(short, long)]
    yes: bool,
    /// No progress, no summary
    #[arg(short, long, hide_short_help = true)]
    quiet: bool,
}

/// What becomes of a link at the target.
#[derive(Clone, Copy, ValueEnum)]
enum Links {
    /// It is an error
    Refuse,
    /// The file takes its place
    Replace,
    /// What it leads to is written
    Follow,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("write it in octal, such as 640".to_owned()),
    }
}

impl Cp {
    pub async fn perform(mut self, global: &Global) -> Result<u8, Failure> {
        let target = self.words.pop().unwrap_or(Target::Standard);
        let sources = std::mem::take(&mut self.words);
        let client = connect(global)?;
        let legs = match &target {
            Target::Remote(Remote { selector, path }) => {
                self.plan_up(&client, &sources, selector, path).await?
            }
            Target::Local(path) => self.plan_down(&client, &sources, Some(path)).await?,
            Target::Standard => self.plan_down(&client, &sources, None).await?,
        };
        run::run(&client, &self, global, legs).await
    }
}
