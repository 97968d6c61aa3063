//! `reeve-coordinator`: arguments, settings, logging, start, wait, end, exit code.

mod process;

use std::cell::Cell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Parser;
use reeve_coordinator::config::{self, Args, Config};
use reeve_coordinator::{Running, start, telemetry};

use crate::process::{DataFolder, Signal, Signals, bind, notify};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Wrong use or wrong settings; anything else that went wrong is 1.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match config::load(&args) {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error),
    };
    if args.print_config {
        process::say(&config.to_text());
    }
    if args.print_config || args.check_config {
        return ExitCode::SUCCESS;
    }
    match run(&args, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    process::complain(&format!("reeve-coordinator: {error:#}"));
    ExitCode::from(code)
}

/// A thread for blocking calls is made before anything else, and stays: asked for one when none is
/// left and the machine gives out no more, the runtime would panic, and whatever asked would end.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

fn run(args: &Args, config: Config) -> anyhow::Result<()> {
    let log = telemetry::start_logging(config.log);
    // Held until the end: two coordinators on one folder would ruin it.
    let _folder = DataFolder::lock(&config.data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_keep_alive(FOREVER)
        .on_thread_park(give_memory_back)
        .build()?;
    runtime.block_on(async {
        tokio::task::spawn_blocking(|| ()).await?;
        let mut signals = Signals::listen()?;
        let listener = bind(config.listen).await?;
        let running = start(config, listener).await?;
        welcome(&running);
        notify::ready();
        loop {
            let signal = tokio::select! {
                signal = signals.next() => signal,
                () = running.failed() => {
                    bail!("a part of it without which nothing works has ended, see the log")
                }
            };
            match signal {
                Signal::Reload => process::reload(args, &running, &log),
                Signal::Watchdog => notify::alive(),
                Signal::End => break,
            }
        }
        notify::stopping();
        tracing::info!("shutting down");
        // Somebody who asks twice does not want to wait.
        tokio::select! {
            () = running.shutdown() => tracing::info!("ended"),
            () = signals.end() => tracing::warn!("ended without waiting"),
        }
        Ok(())
    })
}

/// Between two times that a thread gives memory back.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(5);

/// What mimalloc takes for many allocations: so many, each of more than its small sizes.
const GIVE_BACK_AFTER: (usize, usize) = (10_000, 2048);

/// mimalloc gives memory back when a thread has allocated often enough (`generic_collect`), and has no
/// safe way to be asked. A coordinator that was busy and is not any more would keep hundreds of MiB of
/// buffers of its sessions. Runs before a thread sleeps; takes less than a millisecond.
fn give_memory_back() {
    thread_local!(static LAST: Cell<Option<Instant>> = const { Cell::new(None) });
    let now = Instant::now();
    if LAST.get().is_some_and(|last| now.duration_since(last) < GIVE_BACK_EVERY) {
        return;
    }
    LAST.set(Some(now));
    let (times, bytes) = GIVE_BACK_AFTER;
    for _ in 0..times {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(bytes)));
    }
}

/// What a person needs to know to go on from here.
fn welcome(running: &Running) {
    let (state, address) = (&running.state, running.address);
    tracing::info!(%address, url = %state.url, version = env!("CARGO_PKG_VERSION"),
        database = state.db.kind(), coordinator = %state.coordinator, "coordinator is up");
    let Some(setup) = &running.setup else { return };
    let url = state.url.as_str().trim_end_matches('/');
    let (pin, anchor) = match state.ca.pin() {
        Some(pin) => (format!("  CA pin         {pin}\n"), format!("#sha256:{pin}")),
        None => (String::new(), String::new()),
    };
    let text = format!(
        "\nReeve's coordinator is up, and nobody has logged in yet.\n\n  \
         URL            {url}\n{pin}  \
         one-time code  {code}   (also in {file})\n\n\
         Log in; it asks for the code and for the password you want:\n\n  \
         reeve login '{url}{anchor}'\n\n",
        code = setup.code,
        file = setup.file.display(),
    );
    process::say(&text);
}
