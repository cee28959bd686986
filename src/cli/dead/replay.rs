//! Sending a dead letter once more, so that nothing is executed twice and nothing is lost.
//!
//! A command that has ended is only answered again under its own id, so it is sent under another,
//! which follows from its own: whoever begins anew after a crash sends the same command, and the
//! ledger answers it. One that the broker gave up has no outcome yet; it goes on under its own.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::cursor::Cursor;
use super::letter::Letter;
use crate::broker::{DeadLetter, Replay};
use crate::cli::inquire::means;
use crate::cli::now;
use crate::command::{Command, Defaults, Kind, Request, parse, replay_id};
use crate::config::EkoArgs;
use crate::eko::Client;
use crate::verdict::Reading;

/// What is to be done with a dead letter.
pub(super) enum ReplayDecision {
    /// Send it.
    Send(Sending),
    /// Leave it where it is, for this reason.
    Keep(String),
}

/// How a dead letter is sent once more.
pub(super) struct Sending {
    /// Under this id.
    pub(super) id: String,
    /// To the queue of this kind.
    pub(super) kind: Kind,
    /// For this reason.
    pub(super) why: String,
}

/// Decides what a replay does with a dead letter.
pub(super) struct ReplayPolicy {
    eko: Client,
    defaults: Defaults,
}

impl ReplayPolicy {
    pub(super) fn new(args: &EkoArgs) -> anyhow::Result<Self> {
        let (settings, defaults) = args.eko()?;
        Ok(Self { eko: Client::new(settings)?, defaults })
    }

    /// Whether it may be sent once more; Eko is asked about a refund.
    pub(super) async fn decide(
        &self,
        letter: &Letter,
        body: &[u8],
        now: Timestamp,
    ) -> ReplayDecision {
        match letter.outcome.as_deref() {
            None | Some("failed" | "unresolved") => {}
            Some("invalid") => {
                let why = "the same message would be invalid again: its publisher must correct it \
                           and send it under a new id";
                return ReplayDecision::Keep(why.to_owned());
            }
            Some(other) => {
                return ReplayDecision::Keep(format!("a replay does not help with {other}"));
            }
        }
        let command = match parse(body, None, &self.defaults).command {
            Ok(command) => command,
            Err(invalid) => {
                return ReplayDecision::Keep(format!(
                    "not a valid command: {}",
                    invalid.problem.message
                ));
            }
        };
        // One that the broker gave up has no event yet: it gets it, whatever it says.
        let is_told = letter.outcome.is_some();
        if is_told && command.expiry.is_some_and(|expiry| now >= expiry) {
            return ReplayDecision::Keep(
                "its expirytime has passed: it would end expired".to_owned(),
            );
        }
        let why = match self.about_refund(&command, is_told).await {
            Ok(why) => why,
            Err(why) => return ReplayDecision::Keep(why),
        };
        let id = if is_told { replay_id(&command.id) } else { command.id.clone() };
        ReplayDecision::Send(Sending { id, kind: command.kind(), why })
    }

    /// What Eko says of a refund: without a reading that it is pending nothing is sent.
    async fn about_refund(&self, command: &Command, is_told: bool) -> Result<String, String> {
        let refund = match &command.request {
            Request::Refund(refund) => refund,
            Request::RefundOtp(_) | Request::TransferOtp(_) => {
                return Ok("it moves no money".to_owned());
            }
        };
        let result = self.eko.look_up(&refund.tid, command.account(), self.eko.timing()).await;
        let said = format!("Eko says: {}", means(&result.meaning));
        match result.meaning {
            Reading::RefundPending => Ok(said),
            Reading::Refunded(..) if !is_told => {
                Ok(format!("{said}; the worker publishes that in the event that is still missing"))
            }
            Reading::Refunded(..) => {
                Err(format!("{said}; drop the dead letter once its sender knows"))
            }
            Reading::Succeeded | Reading::Failed => Err(said),
            Reading::InProgress
            | Reading::NotFound
            | Reading::Contradictory
            | Reading::NoAnswer(_) => {
                Err(format!("{said}; a refund is not sent without knowing that it is pending"))
            }
        }
    }
}

/// Publishes the dead letter of a command, confirmed, and only then takes it out of the queue.
pub(super) async fn send(
    cursor: &Cursor<'_>,
    dead: DeadLetter,
    of: Option<&str>,
    Sending { id, kind, .. }: &Sending,
) -> anyhow::Result<()> {
    let of = of.filter(|own| own != id);
    let body = with_id(&dead.body, id)?;
    // The worker inquires before the attempt of a refund that may have been executed, also where
    // its ledger does not know of it.
    let is_suspect = *kind == Kind::Refund;
    let replay = Replay { kind: kind.as_str(), id, of, body: &body, is_suspect, time: now() };
    cursor.connection.replay(&dead, replay).await.context(
        "it may have been sent, and stays a dead letter: run the replay again; the worker treats \
         both as the same command",
    )?;
    cursor.settle(dead).await.context(
        "it was sent, but stays a dead letter as well: run the replay again; the worker treats \
         both as the same command",
    )
}

/// The message with another id, all else as it was, digit for digit.
fn with_id(body: &[u8], id: &str) -> anyhow::Result<Vec<u8>> {
    let mut message: BTreeMap<String, &RawValue> =
        serde_json::from_slice(body).context("the message is not a JSON object")?;
    let id = serde_json::value::to_raw_value(id)?;
    message.insert("id".to_owned(), &id);
    Ok(serde_json::to_vec(&message)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_id_is_another() {
        let body =
            br#"{"type":"t","id":"a","data":{"tid":9007199254740993,"otp":"0123","x":1.50}}"#;
        let sent = with_id(body, "b").unwrap();
        let expected =
            r#"{"data":{"tid":9007199254740993,"otp":"0123","x":1.50},"id":"b","type":"t"}"#;
        assert_eq!(String::from_utf8(sent).unwrap(), expected);
    }
}
