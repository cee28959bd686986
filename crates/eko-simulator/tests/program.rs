//! The program itself: it says where it listens, answers there, and can be asked whether it does.
//!
//! What it answers is tested beside the code, and by all tests of the worker. Since this package has a test like
//! this one, `cargo test` builds the program that those tests start.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_eko-simulator");

/// A process that is gone when this is.
struct Simulator(Child);

impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn is_healthy(address: &str) -> bool {
    let asked = Command::new(PROGRAM).args(["--healthcheck", "--listen", address]).output();
    asked.is_ok_and(|asked| asked.status.success())
}

#[test]
fn it_says_where_it_listens_and_is_healthy_until_it_ends() {
    let arguments = ["--listen", "127.0.0.1:0"];
    let child = Command::new(PROGRAM).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut simulator = Simulator(child);
    let mut line = String::new();
    BufReader::new(simulator.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();

    let mut socket = TcpStream::connect(&address).unwrap();
    socket.write_all(b"GET /state/summary HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"executions\":0"), "{answer}");

    assert!(is_healthy(&address));
    drop(simulator);
    assert!(!is_healthy(&address));
}
