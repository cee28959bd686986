//! The inquiries of the client: read-only calls, whose answers must be as new as their questions.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::RequestBuilder;
use reqwest::header::{CACHE_CONTROL, HeaderValue, PRAGMA};

use super::{CallResult, Client, Lost, Outgoing, deadline_after, now};
use crate::answer::{self, HttpAnswer, Read};
use crate::endpoint;
use crate::timing::Timing;
use eko_core::command::{Account, Command};
use eko_core::verdict::{Cause, Reading};

impl Client {
    /// Inquires what became of the transaction that a command is about.
    pub async fn inquire(
        &self,
        command: &Command,
        tid: &str,
        account: Account<'_>,
        timing: Timing,
    ) -> CallResult<Reading> {
        let secrets = [command.secrets().as_slice(), &[account.initiator_id]].concat();
        let read = |http: &HttpAnswer| answer::reading(tid, &secrets, http);
        self.inquire_as(tid, account, timing, read).await
    }

    /// One read-only call, to see whether Eko can be reached and takes our signature.
    pub async fn probe(&self, account: Account<'_>, timing: Timing) -> CallResult<Reading> {
        self.look_up("1", account, timing).await
    }

    /// Inquires about a transaction that no command in hand is about.
    pub async fn look_up(
        &self,
        tid: &str,
        account: Account<'_>,
        timing: Timing,
    ) -> CallResult<Reading> {
        let read = |http: &HttpAnswer| answer::reading(tid, &[account.initiator_id], http);
        self.inquire_as(tid, account, timing, read).await
    }

    /// The same call as [`Self::probe`] with a timestamp so far in Eko's past, to see whether Eko
    /// takes it. `skew` is Eko's clock less ours, in seconds.
    pub async fn probe_aged(
        &self,
        account: Account<'_>,
        age: Duration,
        skew: f64,
    ) -> CallResult<Reading> {
        let behind = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        let ahead = SignedDuration::try_from_secs_f64(skew).unwrap_or_default();
        let eko_time = now().saturating_add(ahead).and_then(|time| time.saturating_sub(behind));
        let stamp = eko_time.unwrap_or(Timestamp::MIN).as_millisecond();
        let timing = Timing { stamp, deadline: deadline_after(self.timeout) };
        let request = self.inquiry("1", account);
        let read = |http: &HttpAnswer| answer::reading("1", &[account.initiator_id], http);
        self.exchange(Outgoing { request, timing }, read, unanswered).await
    }

    async fn inquire_as(
        &self,
        tid: &str,
        account: Account<'_>,
        timing: Timing,
        read: impl Fn(&HttpAnswer) -> Read<Reading>,
    ) -> CallResult<Reading> {
        let request = self.inquiry(tid, account);
        let mut result = self.exchange(Outgoing { request, timing }, read, unanswered).await;
        if result.is_old {
            self.tell_kept();
        }
        // What is refunded stays refunded; what is not, may be by now.
        let may_have_changed =
            !matches!(result.meaning, Reading::Refunded(..) | Reading::NoAnswer(_));
        if result.is_undated && may_have_changed {
            self.tell_undated();
        }
        if (result.is_old || result.is_undated) && may_have_changed {
            result.meaning = Reading::NoAnswer(Cause::BadResponse);
        }
        result
    }

    /// An inquiry that asks everything on the way not to answer by itself.
    fn inquiry(&self, tid: &str, account: Account<'_>) -> RequestBuilder {
        let Account { initiator_id, user_code } = account;
        let url = endpoint::inquiry_url(&self.base_url, tid, initiator_id, user_code);
        self.http
            .get(url)
            .header(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"))
            .header(PRAGMA, HeaderValue::from_static("no-cache"))
    }

    /// Says that something on the way keeps answers.
    fn tell_kept(&self) {
        if self.kept.is_due("", deadline_after(Duration::ZERO)) {
            tracing::warn!(
                "an answer is older than its inquiry and was ignored: a gateway in front of Eko \
                 caches answers; turn that cache off"
            );
        }
    }

    /// Says that nothing shows when an answer was written.
    fn tell_undated(&self) {
        if self.undated.is_due("", deadline_after(Duration::ZERO)) {
            tracing::warn!(
                "the answer to an inquiry has no readable Date header and was ignored: other \
                 answers of Eko have one; make sure that no gateway in front of Eko removes it"
            );
        }
    }
}

/// An inquiry changes nothing, whether it arrived or not.
const fn unanswered(lost: Lost) -> Reading {
    match lost {
        Lost::NotSent(cause) | Lost::Unanswered(cause) => Reading::NoAnswer(cause),
    }
}
