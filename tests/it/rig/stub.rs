//! Eko as a script: each path gives the answers it was told, byte for byte, and every request is
//! kept as it came over the wire.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Path prefix of the v3 API, as in Eko's URLs.
pub(crate) const BASE: &str = "/ekoapi/v3";

/// How the stub answers one request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// HTTP status and JSON body.
    Json(u16, Value),
    /// HTTP status, further header lines, and any body.
    Text(u16, &'static str, String),
    /// The first half of a JSON body, then the end of the connection.
    Truncated(Value),
    /// The connection closed without a byte.
    Hangup,
    /// No answer at all, the connection kept.
    Silence,
    /// This answer, but not before [`Stub::release`].
    Held(Box<Self>),
}

/// Which held answers may go.
#[derive(Default)]
struct Released {
    all: bool,
    lines: Vec<String>,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and target of the request line.
    pub(crate) line: String,
    /// The header lines, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
    /// When it was read.
    pub(crate) at: Instant,
}

impl Request {
    /// The value of the header with exactly this name, upper and lower case told apart.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(is, _)| is == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Method and path, without base and query: the key of the script.
    pub(crate) fn key(&self) -> String {
        let (method, target) = self.line.split_once(' ').unwrap();
        let path = target.split(['?', ' ']).next().unwrap();
        format!("{method} {}", path.strip_prefix(BASE).unwrap_or(path))
    }
}

#[derive(Default)]
struct State {
    script: BTreeMap<String, VecDeque<Answer>>,
    requests: Vec<Request>,
    unexpected: Vec<Request>,
}

/// A scripted Eko.
pub(crate) struct Stub {
    url: String,
    state: Arc<Mutex<State>>,
    released: watch::Sender<Released>,
}

impl Stub {
    /// Starts one without a script.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let (released, gate) = watch::channel(Released::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), gate.clone()));
            }
        });
        Self { url, state, released }
    }

    /// Where it listens, without a path.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Answers `line` (`POST /customer/…`) with these in turn, and with the last one for ever.
    pub(crate) fn on(&self, line: &str, answers: impl IntoIterator<Item = Answer>) {
        let answers = answers.into_iter().collect();
        self.state.lock().unwrap().script.insert(line.to_owned(), answers);
    }

    /// Answers the refund of `tid`.
    pub(crate) fn on_refund(&self, tid: &str, answers: impl IntoIterator<Item = Answer>) {
        self.on(&refund(tid), answers);
    }

    /// Answers the inquiry of `tid`.
    pub(crate) fn on_inquiry(&self, tid: &str, answers: impl IntoIterator<Item = Answer>) {
        self.on(&inquiry(tid), answers);
    }

    /// Lets held answers go, now and later.
    pub(crate) fn release(&self) {
        self.released.send_modify(|released| released.all = true);
    }

    /// Lets held answers of one line go, now and later.
    pub(crate) fn release_only(&self, line: &str) {
        self.released.send_modify(|released| released.lines.push(line.to_owned()));
    }

    /// The requests of `line` so far.
    pub(crate) fn requests(&self, line: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.key() == line).cloned().collect()
    }

    /// All requests so far.
    pub(crate) fn all_requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Requests that no script named.
    pub(crate) fn unexpected(&self) -> Vec<Request> {
        self.state.lock().unwrap().unexpected.clone()
    }
}

/// Script key of Initiate Refund.
pub(crate) fn refund(tid: &str) -> String {
    format!("POST /customer/payment/refund/{tid}")
}

/// Script key of Get Refund OTP.
pub(crate) fn refund_otp(tid: &str) -> String {
    format!("POST /customer/payment/refund/{tid}/otp")
}

/// Script key of Send Transaction OTP over a rail.
pub(crate) fn transfer_otp(rail: &str) -> String {
    format!("POST /customer/payment/{rail}/otp")
}

/// The same over the usual rail.
pub(crate) const TRANSFER_OTP: &str = "POST /customer/payment/dmt-fino/otp";

/// Script key of Transaction Inquiry.
pub(crate) fn inquiry(tid: &str) -> String {
    format!("GET /tools/reference/transaction/{tid}")
}

async fn serve(
    mut stream: TcpStream,
    state: Arc<Mutex<State>>,
    mut gate: watch::Receiver<Released>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let key = request.key();
        let mut answer = take_answer(&state, request);
        if let Answer::Held(inner) = answer {
            gate.wait_for(|released| released.all || released.lines.contains(&key)).await.ok();
            answer = *inner;
        }
        let bytes = match answer {
            Answer::Json(status, body) => {
                response(status, "content-type: application/json\r\n", &body.to_string())
            }
            Answer::Text(status, headers, body) => response(status, headers, &body),
            Answer::Truncated(body) => {
                let mut bytes =
                    response(200, "content-type: application/json\r\n", &body.to_string());
                bytes.truncate(bytes.len() - body.to_string().len() / 2);
                stream.write_all(&bytes).await.ok();
                return;
            }
            Answer::Hangup => return,
            Answer::Silence | Answer::Held(_) => std::future::pending().await,
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn take_answer(state: &Mutex<State>, request: Request) -> Answer {
    let mut state = state.lock().unwrap();
    let answer = match state.script.get_mut(&request.key()) {
        Some(answers) if answers.len() > 1 => answers.pop_front(),
        Some(answers) => answers.front().cloned(),
        None => None,
    };
    if answer.is_none() {
        state.unexpected.push(request.clone());
    }
    state.requests.push(request);
    answer.unwrap_or_else(|| Answer::Text(500, "", "not in the script".to_owned()))
}

/// The bytes of an answer.
pub(crate) fn response(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// Reads the next request of a connection; `None` at its end.
pub(crate) async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        read_more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < end + 4 + length {
        read_more(stream, buffer).await?;
    }
    let body = String::from_utf8(buffer[end + 4..end + 4 + length].to_vec()).unwrap();
    buffer.drain(..end + 4 + length);
    Some(Request { line, headers, body, at: Instant::now() })
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 4096];
    let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
    buffer.extend_from_slice(&chunk[..read]);
    Some(())
}
