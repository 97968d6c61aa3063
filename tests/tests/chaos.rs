//! Faults at random moments, one after the other, from a seed that is printed: the same seed makes
//! the same faults. `REEVE_TEST_SEED` and `REEVE_TEST_ROUNDS` choose others.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reeve_sdk::api::{MachineState, OperationState};
use reeve_tests::on_each_database;
use reeve_tests::proxy::{Direction, Fault, Proxy};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// What one round does to the world.
#[derive(Clone, Copy, Debug)]
enum Blow {
    KillAgent,
    StopAgent,
    KillCoordinator,
    CutAgent,
    CutAgentAt(Direction, u64, Fault),
    CutPerson,
    FreezeAgent,
}

fn choose(random: &mut StdRng) -> Blow {
    match random.random_range(0..7) {
        0 => Blow::KillAgent,
        1 => Blow::StopAgent,
        2 => Blow::KillCoordinator,
        3 => Blow::CutAgent,
        4 => {
            let direction = if random.random_bool(0.5) { Direction::Up } else { Direction::Down };
            let fault = if random.random_bool(0.5) { Fault::Reset } else { Fault::HalfClose };
            Blow::CutAgentAt(direction, random.random_range(0..400), fault)
        }
        5 => Blow::CutPerson,
        _ => Blow::FreezeAgent,
    }
}

on_each_database! {
    fn random_faults_lose_no_byte_and_start_nothing_twice(builder) {
        let seed = number("REEVE_TEST_SEED").unwrap_or_else(rand::random);
        let rounds = number("REEVE_TEST_ROUNDS").unwrap_or(8);
        println!("REEVE_TEST_SEED={seed} REEVE_TEST_ROUNDS={rounds}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut cluster = builder.start();
        let of_agent = Proxy::to(cluster.coordinator.address());
        let of_person = Proxy::to(cluster.coordinator.address());
        let mut web = cluster.agent("web-1").dials(&of_agent.url()).start();
        let starts = cluster.folder().join("starts");
        let lines = 400;
        let expected: String = (1..=lines).map(|line| format!("{line}\n")).collect();
        for round in 1..=rounds {
            let code = random.random_range(0..200);
            let command = format!(
                "echo {round} >> {}; i=1; while [ $i -le {lines} ]; do echo $i; i=$((i+1)); sleep 0.002; done; exit {code}",
                starts.display()
            );
            // A wait, because the agent may still be on its way back from the round before.
            let run = cluster.spawn_reeve_at(
                &of_person.url(),
                ["run", "web-1", "--wait", "1m", "--shell", &command],
            );
            let blows: Vec<(usize, Blow)> = (0..random.random_range(1..3))
                .map(|_| (random.random_range(1..expected.len() / 2), choose(&mut random)))
                .collect();
            for (after, blow) in &blows {
                run.wait_for_bytes(*after);
                match *blow {
                    Blow::KillAgent => {
                        web.kill9();
                        web.start_without_waiting();
                    }
                    Blow::StopAgent => {
                        web.stop();
                        web.start_without_waiting();
                    }
                    Blow::KillCoordinator => {
                        cluster.coordinator.kill9();
                        cluster.coordinator.start();
                    }
                    Blow::CutAgent => of_agent.cut(),
                    Blow::CutAgentAt(direction, bytes, fault) => {
                        of_agent.after(direction, bytes, fault);
                    }
                    Blow::CutPerson => of_person.cut(),
                    Blow::FreezeAgent => {
                        of_agent.freeze();
                        of_agent.thaw();
                    }
                }
            }
            let run = run.finish();
            let told = format!("seed {seed}, round {round}, {blows:?}");
            assert_eq!(run.code, code, "{told}: {run}");
            assert!(run.text() == expected, "{told}: {run}");
            let operation = cluster.last_operation();
            let state = if code == 0 { OperationState::Succeeded } else { OperationState::Failed };
            assert_eq!(operation.state, state, "{told}: {operation:?}");
            assert_eq!(operation.output.stdout, expected.len() as u64, "{told}");
        }
        let expected: String = (1..=rounds).map(|round| format!("{round}\n")).collect();
        assert_eq!(std::fs::read_to_string(starts).expect("starts"), expected, "seed {seed}");
        web.wait_until(MachineState::Online);
    }
}
