//! A gateway between worker and Eko that does what such boxes do in practice: it holds requests,
//! sends them twice, answers in place of Eko, and caches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::stub::{self, BASE, Request, read_request, response};

/// What is done to one request.
#[derive(Clone, Debug)]
pub(crate) enum Trick {
    /// It is delivered this much later, also where its client has gone by then.
    Hold(Duration),
    /// The client is told so at once, and it is delivered this much later.
    TellAndHold(u16, Duration),
    /// It is delivered twice, one after the other; the client gets the second answer.
    Twice,
    /// It is delivered; the client gets this HTTP status in place of Eko's answer.
    Instead(u16),
}

/// How answers of GETs are cached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caching {
    /// As the request's `Cache-Control` allows.
    Honest,
    /// Whatever the request says; with an `Age`.
    WithAge,
    /// Whatever the request says; the `Date` is Eko's, and nothing else tells.
    WithDateOnly,
}

#[derive(Default)]
struct Rules {
    tricks: HashMap<String, Vec<Trick>>,
    chances: Vec<(f64, Trick)>,
    caching: Option<(Caching, Duration)>,
    cache: HashMap<String, (Instant, Vec<u8>)>,
    cache_hits: usize,
    received: Vec<String>,
    delivered: Vec<String>,
}

/// The gateway.
pub(crate) struct Gateway {
    url: String,
    rules: Arc<Mutex<Rules>>,
}

impl Gateway {
    /// A gateway that lets everything through to the server of this URL.
    pub(crate) async fn open_to(target: &str) -> Self {
        let target = target.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{BASE}", listener.local_addr().unwrap());
        let rules = Arc::<Mutex<Rules>>::default();
        let shared = Arc::clone(&rules);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, target.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, rules }
    }

    /// The `EKO_BASE_URL` that leads through it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Does this to the next request of `line` (`POST /customer/…`) that nothing is planned for.
    pub(crate) fn once(&self, line: &str, trick: Trick) {
        let mut rules = self.rules.lock().unwrap();
        rules.tricks.entry(line.to_owned()).or_default().push(trick);
    }

    /// Does this to refunds by chance; to each one of these tricks at most.
    pub(crate) fn by_chance(&self, chances: Vec<(f64, Trick)>) {
        self.rules.lock().unwrap().chances = chances;
    }

    /// Caches the answers of GETs for this long.
    pub(crate) fn cache(&self, caching: Caching, time: Duration) {
        self.rules.lock().unwrap().caching = Some((caching, time));
    }

    /// How many requests were answered from the cache so far.
    pub(crate) fn cache_hits(&self) -> usize {
        self.rules.lock().unwrap().cache_hits
    }

    /// The requests of `line` that were delivered so far.
    pub(crate) fn delivered(&self, line: &str) -> usize {
        let rules = self.rules.lock().unwrap();
        rules.delivered.iter().filter(|key| *key == line).count()
    }

    /// The requests of `line` that came so far, delivered or not.
    pub(crate) fn received(&self, line: &str) -> usize {
        let rules = self.rules.lock().unwrap();
        rules.received.iter().filter(|key| *key == line).count()
    }
}

async fn serve(mut stream: TcpStream, target: String, rules: Arc<Mutex<Rules>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let trick = take_trick(&rules, &request);
        let way = Way { target: target.clone(), rules: Arc::clone(&rules) };
        let answer = match trick {
            None => way.answer(request).await,
            // On a task of its own: what is on its way arrives, whoever waits for it or not.
            Some(Trick::Hold(time)) => {
                let held = tokio::spawn(async move { way.deliver_after(time, request).await });
                held.await.unwrap()
            }
            Some(Trick::TellAndHold(status, time)) => {
                tokio::spawn(async move { way.deliver_after(time, request).await });
                Some(page(status))
            }
            Some(Trick::Twice) => {
                way.deliver(&request).await;
                way.deliver(&request).await
            }
            Some(Trick::Instead(status)) => {
                way.deliver(&request).await;
                Some(page(status))
            }
        };
        let Some(answer) = answer else { return };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn take_trick(rules: &Mutex<Rules>, request: &Request) -> Option<Trick> {
    let mut rules = rules.lock().unwrap();
    let key = request.key();
    rules.received.push(key.clone());
    if let Some(planned) = rules.tricks.get_mut(&key).filter(|planned| !planned.is_empty()) {
        return Some(planned.remove(0));
    }
    let is_refund = key.starts_with(&stub::refund("")) && !key.ends_with("/otp");
    let mut draw = if is_refund { fastrand::f64() } else { 1.0 };
    let drawn = rules.chances.iter().find(|(chance, _)| {
        draw -= chance;
        draw < 0.0
    });
    drawn.map(|(_, trick)| trick.clone())
}

/// An answer of the gateway itself.
fn page(status: u16) -> Vec<u8> {
    let headers = match status {
        301 | 302 | 307 => "location: /elsewhere\r\ncontent-type: text/html\r\n",
        _ => "content-type: text/html\r\n",
    };
    response(status, headers, &format!("<html><title>{status}</title></html>"))
}

/// The way to Eko.
struct Way {
    target: String,
    rules: Arc<Mutex<Rules>>,
}

impl Way {
    /// The answer to a request to which nothing is done, from the cache where it may be.
    async fn answer(&self, request: Request) -> Option<Vec<u8>> {
        if let Some(kept) = self.kept(&request) {
            return Some(kept);
        }
        let answer = self.deliver(&request).await?;
        if request.line.starts_with("GET ") {
            let mut rules = self.rules.lock().unwrap();
            rules.cache.insert(request.line, (Instant::now(), answer.clone()));
        }
        Some(answer)
    }

    fn kept(&self, request: &Request) -> Option<Vec<u8>> {
        let mut rules = self.rules.lock().unwrap();
        let (caching, time) = rules.caching?;
        let forbidden = request.headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("cache-control")
                && ["no-cache", "no-store", "max-age=0"].iter().any(|word| value.contains(word))
        });
        let (stored, answer) = rules.cache.get(&request.line)?;
        let age = stored.elapsed();
        let answer = match caching {
            Caching::Honest if forbidden => return None,
            Caching::Honest | Caching::WithAge => with_age(answer, age),
            Caching::WithDateOnly => answer.clone(),
        };
        if age > time {
            return None;
        }
        rules.cache_hits += 1;
        Some(answer)
    }

    async fn deliver_after(&self, time: Duration, request: Request) -> Option<Vec<u8>> {
        tokio::time::sleep(time).await;
        self.deliver(&request).await
    }

    /// Sends a request on, and gives the whole answer.
    async fn deliver(&self, request: &Request) -> Option<Vec<u8>> {
        let mut bytes = format!("{} HTTP/1.1\r\n", request.line).into_bytes();
        for (name, value) in &request.headers {
            if !name.eq_ignore_ascii_case("connection") {
                bytes.extend(format!("{name}: {value}\r\n").into_bytes());
            }
        }
        bytes.extend(b"connection: close\r\n\r\n");
        bytes.extend(request.body.as_bytes());
        self.rules.lock().unwrap().delivered.push(request.key());
        let mut far = TcpStream::connect(&self.target).await.ok()?;
        far.write_all(&bytes).await.ok()?;
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.ok()?;
        (!answer.is_empty()).then_some(answer)
    }
}

fn with_age(answer: &[u8], age: Duration) -> Vec<u8> {
    let end = answer.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
    let header = format!("Age: {}\r\n", age.as_secs());
    [&answer[..end], header.as_bytes(), &answer[end..]].concat()
}
