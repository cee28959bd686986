//! What the subcommands take that record what a person does.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use clap::builder::PossibleValuesParser;
use jiff::{SignedDuration, Timestamp};

use super::ledger::LedgerUrlArgs;
use super::publish::duration;
use super::{Problems, source};
use crate::command::Kind;
use crate::ledger;
use crate::privacy::scrub;

/// Stands for every kind.
const ALL: &str = "all";

/// Longest name of a person, and longest reason, in characters: a line of a log each.
const LONGEST_NAME: usize = 100;
const LONGEST_REASON: usize = 300;

/// Which of them name whoever is at the terminal: behind `sudo` that is not `root`.
const USERS: [&str; 3] = ["SUDO_USER", "USER", "LOGNAME"];

// Plain comment: clap would take a doc comment for the help of each subcommand.

// Who acts.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct ByArgs {
    /// Who does it, for the audit [default: the user and the host]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// What to pause.
#[derive(Clone, Debug, clap::Args)]
pub struct PauseArgs {
    /// The kind of command, or `all`
    #[arg(value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str).into_iter().chain([ALL])))]
    pub kind: String,
    /// Why. It is shown in /readyz, the log and the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who does it
    #[command(flatten)]
    pub by: ByArgs,
    /// The ledger of the workers
    #[command(flatten)]
    pub url: LedgerUrlArgs,
}

/// What to resume.
#[derive(Clone, Debug, clap::Args)]
pub struct ResumeArgs {
    /// The kind of command, or `all`
    #[arg(value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str).into_iter().chain([ALL])))]
    pub kind: String,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who does it
    #[command(flatten)]
    pub by: ByArgs,
    /// The ledger of the workers
    #[command(flatten)]
    pub url: LedgerUrlArgs,
}

/// What to do with the audit.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AuditArgs {
    /// List what people did by hand, newest last
    List(AuditListArgs),
}

/// Which actions to list.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditListArgs {
    /// Only actions since then: an age such as 24h, a day such as 2026-11-28 (UTC), or a time
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only actions on this command id, tid, kind or ledger
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Print one JSON document: a list
    #[arg(long)]
    pub json: bool,
    /// Where it is kept
    #[command(flatten)]
    pub url: LedgerUrlArgs,
}

impl ByArgs {
    /// The name of whoever acts.
    ///
    /// # Errors
    /// A name that cannot be kept.
    pub(crate) fn person(&self) -> Result<String, Problems> {
        match &self.by {
            Some(name) => sentence("--by", name, LONGEST_NAME),
            None => Ok(format!("{}@{}", user(), host())),
        }
    }
}

impl PauseArgs {
    /// Which kinds are meant.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        kinds(&self.kind)
    }

    /// Why they are paused.
    pub(crate) fn reason(&self) -> Result<String, Problems> {
        sentence("--reason", &self.reason, LONGEST_REASON)
    }
}

impl ResumeArgs {
    /// Which kinds are meant.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        kinds(&self.kind)
    }

    /// Why they are resumed.
    pub(crate) fn reason(&self) -> Result<Option<String>, Problems> {
        why("--reason", self.reason.as_deref())
    }
}

impl AuditListArgs {
    /// Which actions are meant.
    pub(crate) fn filter(&self, now: Timestamp) -> Result<ledger::AuditFilter, Problems> {
        let since = self.since.as_deref().map(|text| since(text, now)).transpose()?;
        Ok(ledger::AuditFilter { since, about: self.id.clone() })
    }
}

/// Why somebody does something, if that is said.
pub(super) fn why(name: &str, text: Option<&str>) -> Result<Option<String>, Problems> {
    text.map(|text| sentence(name, text, LONGEST_REASON)).transpose()
}

/// A text of one line.
fn sentence(name: &str, text: &str, longest: usize) -> Result<String, Problems> {
    let text = text.trim();
    let is_short = (1..=longest).contains(&text.chars().count());
    if is_short && !text.contains(char::is_control) {
        // Whoever writes it may name a customer.
        return Ok(scrub(text, &[]));
    }
    Err(Problems(vec![format!("{name}: must be one line of 1 to {longest} characters")]))
}

fn kinds(word: &str) -> Vec<Kind> {
    Kind::ALL.into_iter().filter(|kind| word == ALL || word == kind.as_str()).collect()
}

fn since(text: &str, now: Timestamp) -> Result<Timestamp, Problems> {
    // A day begins at midnight.
    if let Ok(time) = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse()) {
        return Ok(time);
    }
    let wrong = || {
        let why = "must be an age such as 24h, a day such as 2026-11-28, or a time with its zone";
        Problems(vec![format!("--since: {why}")])
    };
    let age = duration("--since", text).map_err(|_| wrong())?;
    let age = SignedDuration::try_from(age).map_err(|_| wrong())?;
    now.checked_sub(age).map_err(|_| wrong())
}

fn user() -> String {
    let named = USERS.into_iter().find_map(source::person);
    named.unwrap_or_else(|| {
        let id = fs::metadata("/proc/self").map_or(0, |process| process.uid());
        user_name(id, &fs::read_to_string("/etc/passwd").unwrap_or_default())
            .unwrap_or_else(|| format!("uid-{id}"))
    })
}

/// The name of a user by the text of `/etc/passwd`.
fn user_name(id: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.or_else(|_| fs::read_to_string("/etc/hostname")).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_the_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nasha:x:1000:1000::/home/asha:/bin/sh\n";
        assert_eq!(user_name(1000, users).as_deref(), Some("asha"));
        assert_eq!(user_name(7, users), None);
    }

    #[test]
    fn since_is_an_age_a_day_or_a_time() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("24h", "2026-11-27T12:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T01:00:00+01:00", "2026-11-01T00:00:00Z"),
        ] {
            assert_eq!(since(text, now).unwrap().to_string(), expected, "{text}");
        }
        assert!(since("yesterday", now).is_err());
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(sentence("--reason", " Eko is down ", 20).unwrap(), "Eko is down");
        let named = sentence("--reason", "9876543210 was paid twice", 30).unwrap();
        assert!(!named.contains("9876543210") && named.ends_with("was paid twice"), "{named}");
        for wrong in ["", "  ", "a\nb", "\u{1b}[2J", "longer than ten"] {
            assert!(sentence("--reason", wrong, 10).is_err(), "{wrong:?}");
        }
    }
}
