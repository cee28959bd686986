//! What people do by hand: which kinds they have paused, and the audit of their actions. The
//! statements stand here once; a store only runs them.

mod column;

use jiff::Timestamp;
use serde::Serialize;

use super::{Settings, postgres, sqlite};
use column::unreadable;
pub(super) use column::{Column, Parameter, Record};
use eko_core::command::Kind;

/// A kind that an operator has paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPause {
    /// The kind.
    pub kind: Kind,
    /// Since when.
    pub since: Timestamp,
    /// Who has paused it.
    pub person: String,
    /// Why.
    pub reason: String,
}

/// What a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publishes a dead letter once more.
    DeadReplay,
    /// Removes a dead letter.
    DeadDrop,
    /// Pauses a kind.
    Pause,
    /// Ends the pause of a kind.
    Resume,
    /// Lets a ledger take over the queues.
    LedgerAdopt,
}

impl Action {
    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeadReplay => "dead_replay",
            Self::DeadDrop => "dead_drop",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::LedgerAdopt => "ledger_adopt",
        }
    }
}

/// What came of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionResult {
    /// It was done.
    Done,
    /// It was not done, for a reason that was found before.
    Refused,
    /// It went wrong; it may have been done in part.
    Failed,
}

impl ActionResult {
    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What a person is about to do.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// Who.
    pub person: &'a str,
    /// What.
    pub action: Action,
    /// To what: a command's id, a kind, a ledger.
    pub subject: Option<&'a str>,
    /// The transaction, where it is about one.
    pub tid: Option<&'a str>,
    /// Why.
    pub reason: Option<&'a str>,
}

/// An action as the audit has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Its number, which grows.
    pub id: i64,
    /// When it began.
    pub at: Timestamp,
    /// Who did it.
    pub person: String,
    /// What was done.
    pub action: String,
    /// To what: a command's id, a kind, a ledger.
    pub subject: Option<String>,
    /// The transaction, where it is about one.
    pub tid: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When it ended; none where it was cut off, or is under way.
    pub ended: Option<Timestamp>,
    /// What came of it: `done`, `refused` or `failed`.
    pub result: Option<String>,
    /// One sentence about that.
    pub detail: Option<String>,
}

/// Which actions.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Those that began then or later.
    pub since: Option<Timestamp>,
    /// Those of this subject or tid.
    pub about: Option<String>,
}

/// A ledger as people use it, beside running workers: it takes no worker's lock, and neither makes
/// nor migrates a ledger.
pub struct OperatorLedger {
    place: String,
    store: Store,
}

enum Store {
    Sqlite(sqlite::OperatorStore),
    Postgres(Box<postgres::OperatorStore>),
}

/// Which kinds an operator has paused.
pub(super) const PAUSES: &str = "SELECT kind, since, person, reason FROM pauses ORDER BY kind";

/// Forgets actions that began before a time, at most so many.
pub(super) const PRUNE_AUDIT: &str = "DELETE FROM audit WHERE id IN (
    SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2) RETURNING id";

impl OperatorLedger {
    /// Opens a ledger that a worker of this version has opened before.
    ///
    /// # Errors
    /// Where it is missing, cannot be used, or is of another version.
    pub async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let store = match settings {
            Settings::Sqlite { path } => Store::Sqlite(sqlite::OperatorStore::open(path)?),
            Settings::Postgres(server) => {
                Store::Postgres(Box::new(postgres::OperatorStore::open(server).await?))
            }
            Settings::Memory => anyhow::bail!("a ledger in memory cannot be shared"),
        };
        Ok(Self { place: settings.place(), store })
    }

    /// Where it is: no secret.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Pauses a kind; the pause that was there before, where there was one: it stays as it is.
    ///
    /// # Errors
    /// Where the ledger cannot be used.
    pub async fn pause(
        &mut self,
        kind: Kind,
        person: &str,
        reason: &str,
    ) -> anyhow::Result<Option<OperatorPause>> {
        let insert = format!(
            "INSERT INTO pauses (kind, since, person, reason) VALUES ($1, {}, $2, $3)
             ON CONFLICT (kind) DO NOTHING RETURNING kind",
            self.now()
        );
        let parameters = [Some(kind.as_str()), Some(person), Some(reason)].map(Parameter::Text);
        if !self.rows(&insert, &parameters).await?.is_empty() {
            return Ok(None);
        }
        Ok(self.pauses().await?.into_iter().find(|pause| pause.kind == kind))
    }

    /// Ends the pause of a kind; the pause, where there was one.
    ///
    /// # Errors
    /// Where the ledger cannot be used.
    pub async fn resume(&mut self, kind: Kind) -> anyhow::Result<Option<OperatorPause>> {
        let delete = "DELETE FROM pauses WHERE kind = $1 RETURNING kind, since, person, reason";
        let ended = self.rows(delete, &[Parameter::Text(Some(kind.as_str()))]).await?;
        Ok(read_pauses(ended)?.pop())
    }

    /// Which kinds an operator has paused.
    ///
    /// # Errors
    /// Where the ledger cannot be used.
    pub async fn pauses(&mut self) -> anyhow::Result<Vec<OperatorPause>> {
        Ok(read_pauses(self.rows(PAUSES, &[]).await?)?)
    }

    /// Records what a person is about to do; the number of its entry.
    ///
    /// # Errors
    /// Where the ledger cannot be used: then it must not be done.
    pub async fn begin_action(&mut self, intent: Intent<'_>) -> anyhow::Result<i64> {
        let Intent { person, action, subject, tid, reason } = intent;
        let insert = format!(
            "INSERT INTO audit (at, person, action, subject, tid, reason)
             VALUES ({}, $1, $2, $3, $4, $5) RETURNING id",
            self.now()
        );
        let parameters =
            [Some(person), Some(action.as_str()), subject, tid, reason].map(Parameter::Text);
        let inserted = self.rows(&insert, &parameters).await?;
        let id = inserted.first().and_then(|record| record.first()).map(Column::number);
        Ok(id.transpose()?.flatten().unwrap_or_default())
    }

    /// Records what came of an action.
    ///
    /// # Errors
    /// Where the ledger cannot be used.
    pub async fn end_action(
        &mut self,
        id: i64,
        result: ActionResult,
        detail: &str,
    ) -> anyhow::Result<()> {
        let update = format!(
            "UPDATE audit SET ended = {}, result = $1, detail = $2
             WHERE id = $3 AND ended IS NULL RETURNING id",
            self.now()
        );
        let texts = [result.as_str(), detail].map(|text| Parameter::Text(Some(text)));
        let [result, detail] = texts;
        self.rows(&update, &[result, detail, Parameter::Number(id)]).await?;
        Ok(())
    }

    /// The audit, newest last.
    ///
    /// # Errors
    /// Where the ledger cannot be used.
    pub async fn audit(&mut self, filter: &AuditFilter) -> anyhow::Result<Vec<AuditEntry>> {
        let select = "SELECT id, at, person, action, subject, tid, reason, ended, result, detail
             FROM audit WHERE at >= $1 AND ($2 IS NULL OR subject = $2 OR tid = $2) ORDER BY id";
        let since = filter.since.map_or(0, Timestamp::as_millisecond);
        let parameters = [Parameter::Number(since), Parameter::Text(filter.about.as_deref())];
        let records = self.rows(select, &parameters).await?;
        Ok(records.into_iter().map(read_entry).collect::<Result<_, _>>()?)
    }

    async fn rows(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> anyhow::Result<Vec<Record>> {
        match &mut self.store {
            Store::Sqlite(store) => store.rows(sql, parameters),
            Store::Postgres(store) => store.rows(sql, parameters).await,
        }
    }

    /// The store's own time, in SQL.
    const fn now(&self) -> &'static str {
        match &self.store {
            Store::Sqlite(_) => sqlite::NOW,
            Store::Postgres(_) => postgres::NOW,
        }
    }
}

/// Reads what [`PAUSES`] gives. A kind that this version does not know is another one's to pause.
pub(super) fn read_pauses(records: Vec<Record>) -> Result<Vec<OperatorPause>, super::Error> {
    let mut pauses = Vec::new();
    for record in records {
        let [kind, since, person, reason] = columns(record)?;
        let Some(kind) = Kind::from_name(&kind.required_text()?) else { continue };
        let (person, reason) = (person.required_text()?, reason.required_text()?);
        pauses.push(OperatorPause { kind, since: since.required_time()?, person, reason });
    }
    Ok(pauses)
}

fn read_entry(record: Record) -> Result<AuditEntry, super::Error> {
    let [id, at, person, action, subject, tid, reason, ended, result, detail] = columns(record)?;
    Ok(AuditEntry {
        id: id.number()?.unwrap_or_default(),
        at: at.required_time()?,
        person: person.required_text()?,
        action: action.required_text()?,
        subject: subject.text()?,
        tid: tid.text()?,
        reason: reason.text()?,
        ended: ended.time()?,
        result: result.text()?,
        detail: detail.text()?,
    })
}

fn columns<const N: usize>(record: Record) -> Result<[Column; N], super::Error> {
    record.try_into().map_err(|_| unreadable())
}
