//! Once through the dead letters, in their order: what is not settled goes back in that order.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;

use super::letter::Letter;
use crate::broker::{DeadLetter, DeadLetters, OperatorConnection};
use crate::cli::now;
use crate::cli::progress::Progress;
use crate::command::normal_tid;
use crate::config::DeadChoice;
use crate::output;

/// Reads through the queue once.
pub(super) struct Cursor<'a> {
    /// Where the queue is.
    pub(super) connection: OperatorConnection,
    letters: DeadLetters,
    choice: &'a DeadChoice,
    ages: (Option<Duration>, Option<Duration>),
    began: Timestamp,
    seen: u32,
    found: u32,
    /// How far it is.
    pub(super) progress: Progress,
}

impl<'a> Cursor<'a> {
    pub(super) async fn begin(
        connection: OperatorConnection,
        choice: &'a DeadChoice,
    ) -> anyhow::Result<Self> {
        let ages = choice.ages()?;
        let letters = connection.dead_letters().await.context("cannot read the dead letters")?;
        let progress = Progress::new("dead letters looked at", letters.count);
        let (began, seen, found) = (now(), 0, 0);
        Ok(Self { connection, letters, choice, ages, began, seen, found, progress })
    }

    /// The next one that is chosen. Unless it is settled, it stays in the queue.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<(Letter, DeadLetter)>> {
        while self.found < self.choice.limit {
            let Some(dead) = self.letters.next().await? else { return Ok(None) };
            self.seen += 1;
            self.progress.step();
            let letter = Letter::of(&dead);
            if self.takes(&letter) {
                self.found += 1;
                return Ok(Some((letter, dead)));
            }
        }
        Ok(None)
    }

    /// Takes one out of the queue for good.
    pub(super) async fn settle(&self, dead: DeadLetter) -> anyhow::Result<()> {
        Ok(self.letters.settle(dead).await?)
    }

    /// Gives back what stays, says goodbye, and says how many were not looked at.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        let left = self.letters.count.saturating_sub(self.seen);
        self.letters.end().await?;
        self.connection.close().await;
        self.progress.clear();
        if left > 0 {
            output::remark(format_args!(
                "{left} more were not looked at: --limit was reached, or another client holds them"
            ));
        }
        Ok(())
    }

    fn takes(&self, letter: &Letter) -> bool {
        let choice = self.choice;
        let is_one_of = |words: &[String], own: &[&Option<String>]| {
            words.is_empty() || words.iter().any(|word| own.contains(&&Some(word.clone())))
        };
        let is_its =
            |tid: &String| letter.tid.is_some() && normal_tid(tid) == letter.tid.as_deref();
        let has_tid = choice.tid.is_empty() || choice.tid.iter().any(is_its);
        let has_id = choice.ids.is_empty() || choice.ids.iter().any(|id| letter.is(id));
        has_id
            && is_one_of(&choice.reason, &[&letter.outcome, &letter.code])
            && has_tid
            && self.is_of_age(letter.since)
    }

    /// What has no time is of no age.
    fn is_of_age(&self, since: Option<Timestamp>) -> bool {
        let (older, newer) = self.ages;
        if older.is_none() && newer.is_none() {
            return true;
        }
        let age = since.map(|since| self.began.duration_since(since));
        let Some(age) = age.map(|age| Duration::try_from(age).unwrap_or_default()) else {
            return false;
        };
        older.is_none_or(|least| age >= least) && newer.is_none_or(|most| age <= most)
    }
}
