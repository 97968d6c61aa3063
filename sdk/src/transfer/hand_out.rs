//! What the coordinator keeps, on its way to many machines: one job for all of them, and another one
//! for each whose attempt was cut short.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use reeve_protocol::OperationId;
use reeve_protocol::ops::{Failure, WriteDeed};
use tokio::sync::mpsc;

use super::answer::Said;
use super::fan_out::ManyProgress;
use super::{Attempts, TransferError, Transferred};
use crate::api::JobRequest;
use crate::{Client, Event};

/// Machines of one job, so that their names fit into a selector; with more there are more jobs.
const MAX_NAMES: usize = 1000;

/// And bytes of their names.
const MAX_SELECTOR_BYTES: usize = 15 * 1024;

/// Machines that have ended and are not yet told of; with more, jobs are not read from.
const ENDED: usize = 64;

/// Content that never fits what was sent is tried again so often: then it is no accident.
const MISMATCHES: u32 = 2;

/// What became of one machine in one job.
struct Ended {
    machine: String,
    /// Whether it had begun to write.
    began: bool,
    outcome: Result<Transferred, TransferError>,
}

/// A job that could not be submitted, or followed to its end.
struct Broken {
    /// Of these nothing is known.
    machines: Vec<String>,
    error: TransferError,
}

/// Gives one upload to machines.
pub struct HandOut<'c> {
    client: &'c Client,
    /// Without its selector.
    request: JobRequest,
    progress: &'c dyn ManyProgress,
}

impl<'c> HandOut<'c> {
    pub fn new(client: &'c Client, request: JobRequest, progress: &'c dyn ManyProgress) -> Self {
        Self { client, request, progress }
    }

    /// Runs until each machine has it or will not get it, and every job has ended.
    pub async fn run(
        &self,
        machines: &[String],
    ) -> Result<Vec<(String, Result<Transferred, TransferError>)>, TransferError> {
        let (teller, mut told) = mpsc::channel(ENDED);
        let mut jobs: FuturesUnordered<BoxFuture<'_, Result<(), Broken>>> = FuturesUnordered::new();
        let start = |group: Vec<String>, pause| -> BoxFuture<'_, Result<(), Broken>> {
            Box::pin(self.job(group, pause, teller.clone()))
        };
        jobs.extend(groups(machines).into_iter().map(|group| start(group, Duration::ZERO)));
        let limit = self.client.retry_limits().follow;
        let mut attempts: HashMap<String, (Attempts, u32)> =
            machines.iter().map(|name| (name.clone(), (Attempts::new(limit), 0))).collect();
        let mut results = HashMap::new();
        let mut finish = |machine: String, outcome| {
            self.progress.ended(&machine, &outcome);
            results.insert(machine, outcome);
        };
        loop {
            tokio::select! {
                // What machines said comes before the ends of their jobs.
                biased;
                Some(Ended { machine, began, outcome }) = told.recv() => {
                    let error = match outcome {
                        Ok(done) => { finish(machine, Ok(done)); continue }
                        Err(error) => error,
                    };
                    let pause = attempts.get_mut(&machine).and_then(|(attempts, mismatches)| {
                        if error.code() == Some("hash_mismatch") && *mismatches < MISMATCHES {
                            *mismatches += 1;
                            return Some(Duration::ZERO);
                        }
                        attempts.pause(&error, u64::from(began))
                    });
                    let Some(pause) = pause else { finish(machine, Err(error)); continue };
                    self.progress.interrupted(&error.to_string());
                    jobs.push(start(vec![machine], pause));
                }
                ended = jobs.next() => {
                    let Some(ended) = ended else { break };
                    let Err(Broken { machines: group, error }) = ended else { continue };
                    if error.is_only_of_many() && group.len() == machines.len() {
                        return Err(error);
                    }
                    // One name that is gone is no reason to leave the others without.
                    if error.code() == Some("machine_not_found") && group.len() > 1 {
                        jobs.extend(group.into_iter().map(|name| start(vec![name], Duration::ZERO)));
                        continue;
                    }
                    let first = group.first().and_then(|name| attempts.get_mut(name));
                    // That it is at the coordinator counts as having come somewhere.
                    if let Some(pause) = first.and_then(|(first, _)| first.pause(&error, 1)) {
                        self.progress.interrupted(&error.to_string());
                        jobs.push(start(group, pause));
                        continue;
                    }
                    let text = error.to_string();
                    for machine in group {
                        finish(machine, Err(TransferError::Refused(text.clone())));
                    }
                }
            }
        }
        let ordered = machines.iter().filter_map(|name| results.remove_entry(name));
        Ok(ordered.collect())
    }

    /// One job. Tells of each of its machines once.
    async fn job(
        &self,
        machines: Vec<String>,
        pause: Duration,
        teller: mpsc::Sender<Ended>,
    ) -> Result<(), Broken> {
        tokio::time::sleep(pause).await;
        let selector = machines.join(",");
        let mut job = Followed { left: machines.into_iter().collect(), said: HashMap::new() };
        match self.follow(selector, &mut job, &teller).await {
            Ok(()) => {}
            Err(error) => return Err(Broken { machines: job.left.into_iter().collect(), error }),
        }
        // A gap in what they said, perhaps; and whom the job did not go to.
        for said in std::mem::take(&mut job.said).into_values() {
            job.tell(said, &teller, self.progress).await;
        }
        for machine in job.left {
            let text = format!("'{machine}' is gone, or no longer yours");
            let outcome = Err(TransferError::Refused(text));
            let _ = teller.send(Ended { machine, began: false, outcome }).await;
        }
        Ok(())
    }

    async fn follow(
        &self,
        selector: String,
        job: &mut Followed,
        teller: &mpsc::Sender<Ended>,
    ) -> Result<(), TransferError> {
        let request = JobRequest { selector, ..self.request.clone() };
        let mut follow = self.client.run(&request)?;
        let mut is_known = false;
        while let Some(event) = follow.next().await? {
            if let Some(id) = follow.job_id().filter(|_| !is_known) {
                is_known = true;
                self.progress.job(id);
            }
            let id = match event {
                Event::Operation(operation) => {
                    let id = operation.id;
                    job.hear_of(operation);
                    id
                }
                Event::Output(output) => {
                    let Some(said) = job.said.get_mut(&output.operation) else { continue };
                    said.hear(&output);
                    while let Some(line) = said.next_line() {
                        said.keep(line);
                    }
                    output.operation
                }
                Event::Interrupted { why } => {
                    self.progress.interrupted(&why);
                    continue;
                }
                Event::Job(_) | Event::Gap { .. } | Event::Resumed => continue,
            };
            if job.said.get(&id).is_some_and(Said::is_over)
                && let Some(said) = job.said.remove(&id)
            {
                job.tell(said, teller, self.progress).await;
            }
        }
        Ok(())
    }
}

/// A job while it is followed.
struct Followed {
    /// Machines that were not told of.
    left: HashSet<String>,
    said: HashMap<OperationId, Said>,
}

impl Followed {
    fn hear_of(&mut self, operation: Box<crate::api::Operation>) {
        // After a lost connection all come again, also those that were told of.
        if self.left.contains(&operation.machine) {
            let said = self.said.entry(operation.id).or_default();
            said.operation = Some(operation);
        }
    }

    async fn tell(
        &mut self,
        said: Said,
        teller: &mpsc::Sender<Ended>,
        progress: &dyn ManyProgress,
    ) {
        let Some(operation) = &said.operation else { return };
        let (machine, began) = (operation.machine.clone(), said.began);
        if !self.left.remove(&machine) {
            return;
        }
        let left_out = |failure: Failure| {
            let message = format!("{machine}: {}", failure.message);
            progress.skipped(&Failure { message, ..failure });
        };
        let outcome = said.finish(left_out).map(|mut done| {
            if done.deed.is_some_and(|deed| deed != WriteDeed::Kept) {
                // From the start, whatever had come in attempts before.
                done.sent = done.bytes;
            }
            done
        });
        let _ = teller.send(Ended { machine, began, outcome }).await;
    }
}

/// Machines in as few jobs as can name them.
fn groups(machines: &[String]) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for machine in machines {
        bytes += machine.len() + 1;
        match groups.last_mut() {
            Some(group) if group.len() < MAX_NAMES && bytes <= MAX_SELECTOR_BYTES => {
                group.push(machine.clone());
            }
            _ => {
                groups.push(vec![machine.clone()]);
                bytes = machine.len() + 1;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_machines_are_named_in_several_jobs_and_each_once() {
        let machines: Vec<String> = (0..2500).map(|number| format!("web-{number}")).collect();
        let few = groups(&machines);
        assert_eq!(few.concat(), machines);
        assert!(few.iter().all(|group| group.len() <= MAX_NAMES), "{}", few.len());
        let long: Vec<String> = (0..200).map(|number| format!("{number:0>250}")).collect();
        let several = groups(&long);
        assert_eq!(several.concat(), long);
        assert!(several.len() < 6, "{}", several.len());
        for group in several {
            assert!(group.join(",").len() <= MAX_SELECTOR_BYTES);
        }
    }
}
