//! Whether a dead letter may be dropped: a refund of which nobody knows whether it was executed is
//! inquired first.

use std::io::{IsTerminal as _, Write as _};

use super::letter::Letter;
use crate::cli::inquire::means;
use crate::command::Kind;
use crate::config::DeadDropArgs;
use crate::eko::Client;
use crate::outcome::OutcomeName;
use crate::verdict::Reading;

/// What is to be done with a dead letter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DropDecision {
    /// Drop it; what Eko says, where it was asked.
    Drop(Option<String>),
    /// Ask the person at the terminal, who is told this.
    Ask(String),
    /// Leave it where it is, for this reason.
    Keep(String),
}

/// Decides whether a dead letter is dropped.
pub(super) struct DropPolicy<'a> {
    args: &'a DeadDropArgs,
    has_terminal: bool,
}

/// What Eko says of a refund, and whether that is its last word.
struct Said {
    text: String,
    is_final: bool,
}

impl<'a> DropPolicy<'a> {
    pub(super) fn new(args: &'a DeadDropArgs) -> Self {
        Self { args, has_terminal: std::io::stdin().is_terminal() }
    }

    /// Whether it may be dropped; Eko is asked about a refund in doubt.
    pub(super) async fn decide(&self, letter: &Letter) -> DropDecision {
        if !is_in_doubt(letter) {
            return DropDecision::Drop(None);
        }
        let said = self.inquire(letter.tid.as_deref()).await;
        self.judge(letter, said)
    }

    fn judge(&self, letter: &Letter, Said { text, is_final }: Said) -> DropDecision {
        let is_named = self.args.choice.ids.iter().any(|id| letter.is(id));
        match (self.args.yes, is_final || is_named) {
            (true, true) => DropDecision::Drop(Some(text)),
            (true, false) => DropDecision::Keep(format!(
                "{text}; to drop it all the same, name its id, with --yes"
            )),
            (false, _) if self.has_terminal => DropDecision::Ask(text),
            (false, _) => DropDecision::Keep(format!("{text}; to drop it, add --yes")),
        }
    }

    async fn inquire(&self, tid: Option<&str>) -> Said {
        let unknown = |why: String| Said { text: why, is_final: false };
        let Some(tid) = tid else {
            return unknown("its tid cannot be read, so Eko was not asked".to_owned());
        };
        let client = self.args.eko.eko().map_err(anyhow::Error::from);
        let client = client.and_then(|(settings, ours)| Ok((Client::new(settings)?, ours)));
        let (client, ours) = match client {
            Ok(client) => client,
            Err(error) => return unknown(format!("Eko cannot be asked: {error:#}")),
        };
        let reading = client.look_up(tid, ours.account(), client.timing()).await.meaning;
        let is_final =
            matches!(reading, Reading::Refunded(..) | Reading::Succeeded | Reading::Failed);
        Said { text: format!("Eko says: {}", means(&reading)), is_final }
    }
}

/// Whether nobody knows if the refund was executed.
fn is_in_doubt(letter: &Letter) -> bool {
    letter.kind == Some(Kind::Refund.as_str())
        && letter.outcome.as_deref() == Some(OutcomeName::Unresolved.as_str())
}

/// Asks the person at the terminal whether it is dropped; nothing but a yes is one.
pub(super) async fn ask(letter: &Letter, said: &str) -> bool {
    let question = format!("{letter}: {said}\ndrop it? [y/N] ");
    let answer = tokio::task::spawn_blocking(move || {
        let mut stderr = std::io::stderr();
        stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).ok();
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).ok();
        answer
    });
    let answer = answer.await.unwrap_or_default();
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}
