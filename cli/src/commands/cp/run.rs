//! Copying what was planned, while somebody watches.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use reeve_sdk::Client;
use reeve_sdk::transfer::{FanOut, LocalSource, TransferError};

use super::Cp;
use super::bar::Bars;
use super::plan::{Leg, to_each};
use super::summary::{Ended, sum_up};
use crate::args::Global;
use crate::exit;
use crate::failure::Failure;
use crate::terminal::{Screen, note};
use crate::watch::Interrupts;

/// Things that are copied at the same time.
const AT_ONCE: usize = 8;

/// After Ctrl-C, machines get so long to let go of what they read.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Copies everything, and tells what came of it.
pub async fn run(client: &Client, cp: &Cp, global: &Global, legs: Vec<Leg>) -> Result<u8, Failure> {
    let screen = Screen::stderr(global.color);
    let bars = Bars::new(screen.terminal && !cp.quiet);
    let started = Instant::now();
    let mut running = run_all(client, legs, &bars);
    let mut interrupts = Interrupts::catch()?;
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = interrupts.next() => {
            drop(running);
            stop(client, &bars, &mut interrupts).await;
            return Ok(exit::INTERRUPTED);
        }
    };
    sum_up(cp, global, &ended, started.elapsed())
}

/// Ends what still runs on machines, and says what is left of it.
async fn stop(client: &Client, bars: &Bars, interrupts: &mut Interrupts) {
    let why = "reeve cp was interrupted";
    let mut is_kept = false;
    for bar in bars.single() {
        bar.finish();
        is_kept = true;
        if let Some(id) = bar.last_operation() {
            // What came is kept by the machine whether or not it hears of this.
            let _ = client.cancel_operation(id, why).await;
        }
    }
    for bar in bars.many() {
        bar.finish();
        let (upload, jobs) = bar.traces();
        let giving_up = tokio::time::timeout(LAST_WORD, client.give_up_many(&jobs, upload, why));
        let gone = tokio::select! {
            given_up = giving_up => matches!(given_up, Ok(Ok(()))),
            () = interrupts.next() => false,
        };
        note(match gone {
            true => "stopped; what the coordinator had of it for several machines is removed",
            false => "stopped; what the coordinator has of it for several machines goes by itself",
        });
    }
    if is_kept {
        note("stopped; what came is kept for a day: give the same command again to go on");
    }
}

fn run_all<'a>(client: &'a Client, legs: Vec<Leg>, bars: &'a Bars) -> BoxFuture<'a, Vec<Ended>> {
    // They are all shown from the start.
    let legs: Vec<BoxFuture<'a, Vec<Ended>>> =
        legs.into_iter().map(|leg| run_leg(client, leg, bars)).collect();
    let running = futures_util::stream::iter(legs).buffered(AT_ONCE);
    Box::pin(async move { running.collect::<Vec<_>>().await.into_iter().flatten().collect() })
}

fn run_leg<'a>(client: &'a Client, leg: Leg, bars: &'a Bars) -> BoxFuture<'a, Vec<Ended>> {
    if let Leg::Many(many) = leg {
        return Box::pin(run_many(client, many, bars));
    }
    let bar = bars.add(&leg.title());
    Box::pin(async move {
        let (machines, path) = leg.place();
        let outcome = match &leg {
            Leg::Up(upload) => client.copy_up(upload, bar.clone()).await,
            Leg::Down(download) => client.copy_down(download, bar.clone()).await,
            Leg::Across(across) => client.copy_across(across, bar.clone()).await,
            Leg::Many(_) => return Vec::new(),
        };
        bar.finish();
        let path = path.clone();
        let machine = machines.concat();
        vec![Ended { machine, path, outcome, is_told: false }]
    })
}

/// To several machines by way of the coordinator; where it cannot keep it, to each by itself.
async fn run_many(client: &Client, many: FanOut, bars: &Bars) -> Vec<Ended> {
    let path = many.write.path.clone();
    let bar = bars.add_many(&many);
    let outcome = client.copy_up_many(&many, bar.clone()).await;
    bar.finish();
    let error = match outcome {
        Ok(outcomes) => {
            let ended = |(machine, outcome)| {
                let path = path.clone();
                // Of its failure was told when it happened.
                Ended { machine, path, outcome, is_told: true }
            };
            return outcomes.into_iter().map(ended).collect();
        }
        Err(error) => error,
    };
    if error.is_only_of_many() {
        bars.forget(&bar);
        bar.say(&format!("sent to each machine by itself: {error}"));
        let FanOut { machines, source, write, compress } = many;
        let legs = to_each(&machines, &LocalSource::Path(source), &write, compress, false);
        return run_all(client, legs, bars).await;
    }
    let text = error.to_string();
    bar.say(&format!("reeve: no machine has it: {text}"));
    let ended = |machine| {
        let outcome = Err(TransferError::Refused(text.clone()));
        Ended { machine, path: path.clone(), outcome, is_told: true }
    };
    many.machines.into_iter().map(ended).collect()
}
