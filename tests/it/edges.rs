//! The edges of the process: a log that nobody reads, and an admin port that many hold open.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::rig::command::{refund, refund_otp};
use crate::rig::http;
use crate::rig::metrics::Metrics;
use crate::rig::process::signal;
use crate::rig::stub::{self, Answer};
use crate::rig::worker::Settings;
use crate::rig::{Rig, eventually};

/// A worker whose standard error is not the rig's.
struct Unheard {
    child: Child,
    admin: SocketAddr,
}

impl Unheard {
    fn run(settings: &Settings, stderr: Stdio) -> Self {
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_eko-worker"))
            .arg("run")
            .env_clear()
            .envs(settings)
            .env("ADMIN_ADDR", admin.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { child, admin }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        http::get(&format!("http://{}{path}", self.admin)).await
    }

    async fn ready(&self) {
        eventually("the worker is ready", async || {
            (self.get("/readyz").await.0 == 200).then_some(())
        })
        .await;
    }

    fn terminate(&self) {
        signal(&self.child.id().to_string(), "TERM");
    }

    /// The exit code, and how long its end took.
    async fn end(&mut self) -> (Option<i32>, Duration) {
        let begin = Instant::now();
        let ended = async || self.child.try_wait().unwrap();
        (eventually("the worker ends", ended).await.code(), begin.elapsed())
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A pipe that is full and stays so until its reader is dropped.
async fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (mut filler, filled) = (writer.try_clone().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&filled);
    std::thread::spawn(move || {
        while filler.write_all(&[b'.'; 512]).is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut before = 0;
    eventually("the pipe is full", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = filled.load(Ordering::Relaxed);
        (std::mem::replace(&mut before, now) == now && now > 0).then_some(())
    })
    .await;
    (reader, writer)
}

/// A process that stops without waiting for anything takes less.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn where_nobody_reads_the_log_work_goes_on_and_signals_end_it() {
    let mut rig = Rig::builder().stub().start_without_worker().await;
    let (_reader, writer) = full_pipe().await;
    let stderr = || Stdio::from(writer.try_clone().unwrap());
    let mut worker = Unheard::run(&rig.settings, stderr());
    worker.ready().await;
    for tid in ["6801", "6802", "6803"] {
        rig.stub().on_refund(tid, [crate::rig::script::refunded(tid)]);
        assert_eq!(rig.outcome_of(&refund(tid, tid)).await.told(), "succeeded response");
    }
    assert_eq!(worker.get("/metrics").await.0, 200);
    worker.terminate();
    let (code, took) = worker.end().await;
    assert!(code == Some(0) && took < AT_ONCE, "{code:?} after {took:?}");

    let line = stub::refund_otp("6804");
    rig.stub().on(&line, [Answer::Silence]);
    rig.publish(&refund_otp("in-flight", "6804")).await;
    let mut worker = Unheard::run(&rig.settings, stderr());
    let sent = async || (!rig.stub().requests(&line).is_empty()).then_some(());
    eventually("the call is in flight", sent).await;
    worker.terminate();
    let stopping = async || (worker.get("/readyz").await.0 != 200).then_some(());
    eventually("it is stopping", stopping).await;
    assert!(worker.child.try_wait().unwrap().is_none(), "it waits for what is in flight");
    worker.terminate();
    let (code, took) = worker.end().await;
    assert!(code == Some(1) && took < AT_ONCE, "{code:?} after {took:?}");

    let wrong = [("EKO_TIMEOUT".to_owned(), "soon".to_owned())];
    let wrong: Settings = rig.settings.clone().into_iter().chain(wrong).collect();
    let (code, took) = Unheard::run(&wrong, stderr()).end().await;
    assert!(code == Some(2) && took < AT_ONCE, "{code:?} after {took:?}");
}

#[tokio::test]
async fn log_lines_that_cannot_be_written_are_counted() {
    let mut rig = Rig::start().await;
    assert_eq!(rig.outcome_of(&refund("heard", "6811")).await.told(), "succeeded response");
    assert_eq!(rig.metrics().await.value("log_lines_dropped_total", &[]), 0.0);
    rig.stop_worker().await;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut worker = Unheard::run(&rig.settings, full.into());
    worker.ready().await;
    assert_eq!(rig.outcome_of(&refund("unheard", "6812")).await.told(), "succeeded response");
    eventually("the line of its end is counted", async || {
        let metrics = Metrics::parse(worker.get("/metrics").await.1);
        // Where it listens, which ledger, that it consumes, and that the command has finished.
        (metrics.value("log_lines_dropped_total", &[]) >= 4.0).then_some(())
    })
    .await;
    worker.terminate();
    assert_eq!(worker.end().await.0, Some(0));
    rig.finish().await;
}

#[tokio::test]
async fn connections_on_which_nobody_asks_take_nothing_from_the_work() {
    let mut rig = Rig::builder().start_without_worker().await;
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    rig.settings.insert("ADMIN_ADDR".to_owned(), admin.to_string());
    let wrapper = ["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"].map(str::to_owned);
    rig.spawn_worker_in(&wrapper);
    rig.worker().ready().await;
    let held: Vec<_> = (0..400)
        .map(|n| {
            let mut stream = TcpStream::connect(admin).unwrap();
            // Half of a request, or nothing at all.
            let sent = if n % 2 == 0 { "GET /metrics HTTP/1.1\r\nhost: x" } else { "" };
            stream.write_all(sent.as_bytes()).ok();
            stream
        })
        .collect();
    let process = rig.worker().process.id();
    let descriptors = || std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    for tid in ["6821", "6822", "6823"] {
        assert_eq!(rig.outcome_of(&refund(tid, tid)).await.told(), "succeeded response");
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(rig.worker().get(path).await.0, 200, "{path}");
        }
    }
    assert!(descriptors() < 128, "{} file descriptors are open", descriptors());
    // Also where there is room for them they do not stay.
    let last = held.last().unwrap().try_clone().unwrap();
    drop(held);
    let mut kept = TcpStream::connect(admin).unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    for mut stream in [last, kept] {
        let reading = tokio::task::spawn_blocking(move || {
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error),
                _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
            }
        });
        reading.await.unwrap().expect("it is ended by the worker");
    }
    rig.finish().await;
}
