//! What a call costs before it is sent and after its answer.

use std::sync::atomic::{AtomicI64, Ordering};

use url::Url;

use eko_client::answer::{self, HttpAnswer};
use eko_client::endpoint;
use eko_client::sign::Signer;
use eko_core::command::Command;
use eko_core::verdict::Verdict;

/// The pure side of one call.
pub(crate) struct Call {
    base_url: Url,
    signer: Signer,
    calls: AtomicI64,
    answer: HttpAnswer,
}

impl Call {
    /// A call that is answered with HTTP 200 and this body.
    pub(crate) fn new(base_url: Url, access_key: &str, body: &[u8]) -> Self {
        let answer = HttpAnswer { status: 200, after: None, body: Some(body.to_vec()) };
        Self { base_url, signer: Signer::new(access_key), calls: AtomicI64::new(0), answer }
    }

    /// Timestamp and signature, a millisecond after the call before.
    pub(crate) fn sign(&self, now_ms: i64) -> (String, String) {
        let now_ms = now_ms + self.calls.fetch_add(1, Ordering::Relaxed);
        let timestamp = now_ms.to_string();
        let signature = self.signer.sign(&timestamp);
        (timestamp, signature)
    }

    /// Address and body.
    pub(crate) fn request(&self, command: &Command) -> (Url, Vec<u8>) {
        let body = endpoint::body(command).unwrap_or_default();
        (endpoint::url(&self.base_url, command), body)
    }

    /// What the answer means.
    pub(crate) fn read(&self, command: &Command) -> Verdict {
        answer::verdict(command, &self.answer).meaning
    }
}
