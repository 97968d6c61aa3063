//! The fault proxy by hand: stands between an agent or `reeve` and its coordinator, and is told on
//! stdin what to do.

use std::io::BufRead;
use std::time::Duration;

use reeve_tests::proxy::{Direction, Fault, Proxy};

const USAGE: &str =
    "Usage: reeve-fault-proxy LISTEN TARGET      (such as 127.0.0.1:9000 127.0.0.1:7717)

Then on stdin, one per line:
  cut                                  reset every connection now
  freeze | thaw                        hold everything back, let it go
  refuse | admit                       turn new connections away, let them in
  delay MILLISECONDS                   hold each piece back
  throttle BYTES_PER_SECOND            0 for no limit
  after up|down BYTES reset|close|half-close|black-hole
  count                                what has passed";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, target] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let proxy = Proxy::listen(listen, target);
    println!("{} → {target}", proxy.address());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if obey(&proxy, &words).is_none() {
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
}

fn obey(proxy: &Proxy, words: &[&str]) -> Option<()> {
    match words {
        ["cut"] => proxy.cut(),
        ["freeze"] => proxy.freeze(),
        ["thaw"] => proxy.thaw(),
        ["refuse"] => proxy.refuse(true),
        ["admit"] => proxy.refuse(false),
        ["count"] => {}
        ["delay", milliseconds] => proxy.delay(Duration::from_millis(milliseconds.parse().ok()?)),
        ["throttle", rate] => proxy.throttle(Some(rate.parse().ok()?).filter(|rate| *rate > 0)),
        ["after", direction, bytes, fault] => {
            let direction = match *direction {
                "up" => Direction::Up,
                "down" => Direction::Down,
                _ => return None,
            };
            let fault = match *fault {
                "reset" => Fault::Reset,
                "close" => Fault::Close,
                "half-close" => Fault::HalfClose,
                "black-hole" => Fault::BlackHole,
                _ => return None,
            };
            proxy.after(direction, bytes.parse().ok()?, fault);
        }
        _ => return None,
    }
    Some(())
}
