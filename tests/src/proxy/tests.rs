use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::eventually;

/// A server that says `hello`, then sends back what it gets.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().expect("clone");
                let _gone = std::io::copy(&mut reader, &mut &stream);
            });
        }
    });
    address
}

#[test]
fn reset_comes_at_exactly_the_byte() {
    let proxy = Proxy::to(&echo());
    let mut client = TcpStream::connect(proxy.address()).expect("connect");
    proxy.after(Direction::Down, 1000, Fault::Reset);
    client.write_all(&[7; 4096]).expect("write");
    let mut got = Vec::new();
    let end = client.read_to_end(&mut got);
    assert!(got.len() <= 1000, "{} bytes came through", got.len());
    assert!(end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    assert_eq!((proxy.passed(Direction::Down), proxy.faults()), (1000, 1));
}

#[test]
fn half_close_ends_one_direction_only() {
    let proxy = Proxy::to(&echo());
    let mut client = TcpStream::connect(proxy.address()).expect("connect");
    proxy.after(Direction::Up, 5, Fault::HalfClose);
    client.write_all(b"hello, world").expect("write");
    let mut got = String::new();
    client.read_to_string(&mut got).expect("the way back stays open to its end");
    assert_eq!(got, "hello");
}

#[test]
fn freeze_holds_back_and_thaw_lets_go() {
    let proxy = Proxy::to(&echo());
    let mut client = TcpStream::connect(proxy.address()).expect("connect");
    proxy.freeze();
    client.write_all(b"late").expect("write");
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
    let mut got = [0; 4];
    assert!(client.read(&mut got).is_err());
    assert_eq!(proxy.passed(Direction::Up), 0);
    proxy.thaw();
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    client.read_exact(&mut got).expect("the bytes");
    assert_eq!(&got, b"late");
}

#[test]
fn black_hole_swallows_without_a_word() {
    let proxy = Proxy::to(&echo());
    let mut client = TcpStream::connect(proxy.address()).expect("connect");
    proxy.after(Direction::Up, 2, Fault::BlackHole);
    client.write_all(b"four").expect("write");
    let mut got = [0; 2];
    client.read_exact(&mut got).expect("what came before it");
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
    let error = client.read(&mut got).expect_err("nothing more");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
}

#[test]
fn cut_ends_what_lives_and_later_connections_pass() {
    let proxy = Proxy::to(&echo());
    let mut client = TcpStream::connect(proxy.address()).expect("connect");
    client.write_all(b"x").expect("write");
    eventually("a byte passed", Duration::from_secs(10), || proxy.passed(Direction::Down) == 1);
    proxy.cut();
    let mut rest = Vec::new();
    let _reset_or_end = client.read_to_end(&mut rest);
    let mut client = TcpStream::connect(proxy.address()).expect("connect again");
    client.write_all(b"y").expect("write");
    let mut got = [0; 1];
    client.read_exact(&mut got).expect("passes");
    assert_eq!(proxy.connections(), 2);
}
