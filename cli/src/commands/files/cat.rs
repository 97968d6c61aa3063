//! `reeve files cat`.

use std::io::Write;

use clap::Args;
use reeve_protocol::ops::FileRead;

use super::asking::{Asker, combine};
use super::content::Unread;
use super::shown::write;
use crate::args::Global;
use crate::exit;
use crate::failure::Failure;
use crate::target::Remote;
use crate::terminal::{Screen, note};

const EXAMPLES: &str = "\
Examples:
  reeve files cat web-1:/etc/hosts
  reeve files cat web-1:/var/log/app.log | less
  reeve files cat web-1:/etc/app.conf --version 12    as it was
Bytes are written as they are. The coordinator passes them on and keeps none.";

/// Print files, byte for byte
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Cat {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(required = true, value_name = "TARGET", value_parser = Remote::parser())]
    targets: Vec<Remote>,
    /// An older version, as history tells
    #[arg(long, value_name = "ID")]
    version: Option<u64>,
    /// Binary files to a terminal, too
    #[arg(short, long)]
    force: bool,
}

impl Cat {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let asker = Asker::new(global, &self.targets.iter().collect::<Vec<_>>())?;
        let guarded = Screen::stdout(global.color).terminal && !self.force;
        let mut codes = Vec::new();
        for target in &self.targets {
            for machine in asker.machines(target).await? {
                let ask = FileRead {
                    version: self.version,
                    // A log that is written meanwhile is no reason to fail.
                    live: self.version.is_none(),
                    ..FileRead::new(target.path.clone())
                };
                let mut print = |bytes: &[u8]| {
                    if guarded && is_binary(bytes) {
                        return Err(Failure::new(format!(
                            "{target} is binary, which terminals take for commands; redirect it, \
                             or give --force"
                        )));
                    }
                    write(bytes)
                };
                match asker.read(&machine, &ask, &mut print).await {
                    Ok(_) => codes.push(exit::OK),
                    Err(Unread::Remote(failure)) => {
                        note(&format!("reeve: {machine}: {}", failure.message));
                        codes.push(exit::SOME_FAILED);
                    }
                    Err(Unread::Here(failure)) => return Err(failure),
                }
            }
        }
        std::io::stdout().flush()?;
        Ok(combine(&codes))
    }
}

/// Whether a terminal would do something else with it than show it.
fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, 0..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_binary() {
        assert!(!is_binary("grüße\tübrigens\r\n\x0c".as_bytes()));
        assert!(is_binary(b"\x7fELF") && is_binary(b"a\x1b[2J") && is_binary(b"\0"));
    }
}
