//! What `benches/` drives of this room: what a call costs before it is sent and after its answer.

use url::Url;

use super::answer::{self, HttpAnswer};
use super::endpoint;
use super::sign::{Signer, Stamps};
use crate::command::Command;
use crate::verdict::Verdict;

/// The pure side of one call.
pub(crate) struct Call {
    base_url: Url,
    signer: Signer,
    stamps: Stamps,
    answer: HttpAnswer,
}

impl Call {
    /// A call that is answered with HTTP 200 and this body.
    pub(crate) fn new(base_url: Url, access_key: &str, body: &[u8]) -> Self {
        let answer = HttpAnswer { status: 200, after: None, body: Some(body.to_vec()) };
        Self { base_url, signer: Signer::new(access_key), stamps: Stamps::default(), answer }
    }

    /// Timestamp and signature.
    pub(crate) fn sign(&self, now_ms: i64) -> (String, String) {
        let timestamp = self.stamps.next(now_ms).to_string();
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
