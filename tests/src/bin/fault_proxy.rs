//! The fault proxy by hand: stands between an agent or `reeve` and its coordinator, or between the
//! coordinator and a model, and is told by a script or on stdin what to do.

use std::io::BufRead;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reeve_tests::proxy::{Direction, Fault, Proxy};

const USAGE: &str =
    "Usage: reeve-fault-proxy LISTEN TARGET [SCRIPT]     (such as 127.0.0.1:9000 127.0.0.1:7717)

In the file SCRIPT, then on stdin, one per line:
  cut                                  reset every connection now
  freeze | hold up | hold down | thaw  hold everything or one direction back, let it go
  refuse | admit                       turn new connections away, let them in
  delay MILLISECONDS                   hold each piece back
  throttle BYTES_PER_SECOND            0 for no limit
  after up|down BYTES reset|close|half-close|black-hole
  after-frames up|down FRAMES FAULT    whole WebSocket frames, where there is no TLS
  double up|down EVERY                 every so many frames, one twice; 0 for none (no TLS)
  calm                                 good weather again
  wait MILLISECONDS                    before the next line
  random SEED ROUNDS                   so many faults one after the other; a seed repeats them
  count                                what has passed";

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, target, script @ ..] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let script = script.first().map_or(Ok(String::new()), std::fs::read_to_string)?;
    let proxy = Proxy::listen(listen, target);
    println!("{} → {target}", proxy.address());
    let typed = std::io::stdin().lock().lines().map_while(Result::ok);
    for line in script.lines().map(ToOwned::to_owned).chain(typed) {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words.is_empty() && obey(&proxy, &words).is_none() {
            println!("{USAGE}");
        }
        println!(
            "up {} bytes, down {} bytes, {} connections, {} faults",
            proxy.passed(Direction::Up),
            proxy.passed(Direction::Down),
            proxy.connections(),
            proxy.faults()
        );
    }
    Ok(())
}

/// Faults one after the other, with time between them; each is said before it is done.
fn random(proxy: &Proxy, seed: u64, rounds: u64) -> Option<()> {
    let mut dice = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let direction = if dice.random_bool(0.5) { "up" } else { "down" };
        let bytes = dice.random_range(0..50_000).to_string();
        let milliseconds = dice.random_range(0..200).to_string();
        let fault = ["reset", "close", "half-close"][dice.random_range(0..3)];
        let lines: [&[&str]; 6] = [
            &["cut"],
            &["freeze"],
            &["hold", direction],
            &["delay", &milliseconds],
            &["after", direction, &bytes, fault],
            &["calm"],
        ];
        let line = lines[dice.random_range(0..lines.len())];
        println!("{}", line.join(" "));
        obey(proxy, line)?;
        std::thread::sleep(Duration::from_millis(dice.random_range(100..2000)));
        proxy.thaw();
    }
    proxy.calm();
    Some(())
}

fn obey(proxy: &Proxy, words: &[&str]) -> Option<()> {
    match words {
        ["cut"] => proxy.cut(),
        ["freeze"] => proxy.freeze(),
        ["hold", direction] => proxy.hold(find_direction(direction)?),
        ["thaw"] => proxy.thaw(),
        ["calm"] => proxy.calm(),
        ["wait", milliseconds] => {
            std::thread::sleep(Duration::from_millis(milliseconds.parse().ok()?));
        }
        ["random", seed, rounds] => {
            return random(proxy, seed.parse().ok()?, rounds.parse().ok()?);
        }
        ["refuse"] => proxy.refuse(true),
        ["admit"] => proxy.refuse(false),
        ["count"] => {}
        ["delay", milliseconds] => proxy.delay(Duration::from_millis(milliseconds.parse().ok()?)),
        ["throttle", rate] => proxy.throttle(Some(rate.parse().ok()?).filter(|rate| *rate > 0)),
        ["after", direction, bytes, fault] => {
            proxy.after(find_direction(direction)?, bytes.parse().ok()?, find_fault(fault)?);
        }
        ["double", direction, every] => {
            let every = Some(every.parse().ok()?).filter(|every| *every > 0);
            proxy.double(find_direction(direction)?, every);
        }
        ["after-frames", direction, frames, fault] => {
            proxy.after_frames(
                find_direction(direction)?,
                frames.parse().ok()?,
                find_fault(fault)?,
            );
        }
        _ => return None,
    }
    Some(())
}

fn find_direction(word: &str) -> Option<Direction> {
    match word {
        "up" => Some(Direction::Up),
        "down" => Some(Direction::Down),
        _ => None,
    }
}

fn find_fault(word: &str) -> Option<Fault> {
    match word {
        "reset" => Some(Fault::Reset),
        "close" => Some(Fault::Close),
        "half-close" => Some(Fault::HalfClose),
        "black-hole" => Some(Fault::BlackHole),
        _ => None,
    }
}
