//! The settings of the subcommands on the ledger: where it is, and whose queues are looked at.

use super::Problems;
use super::operator::{ByArgs, why};
use super::parts::AmqpArgs;
use super::read::Reader;
use super::tls::TlsPaths;
use crate::{broker, ledger};

/// What to do with the ledger.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LedgerArgs {
    /// Show its id, how many commits it has, and whether the queues belong to it
    Show(LedgerShowArgs),
    /// Let it take over the queues of another ledger, such as one that was lost
    Adopt(LedgerAdoptArgs),
}

/// Which ledger to show.
#[derive(Clone, Debug, clap::Args)]
pub struct LedgerShowArgs {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Where it is, and its queues
    #[command(flatten)]
    pub place: LedgerPlaceArgs,
}

/// Which ledger takes over.
#[derive(Clone, Debug, clap::Args)]
pub struct LedgerAdoptArgs {
    /// Create the ledger if it does not exist, or accept one that has never kept a command
    #[arg(long)]
    pub new: bool,
    /// Who does it
    #[command(flatten)]
    pub by: ByArgs,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// Where it is, and its queues
    #[command(flatten)]
    pub place: LedgerPlaceArgs,
}

impl LedgerAdoptArgs {
    /// Why it takes over.
    pub(crate) fn why(&self) -> Result<Option<String>, Problems> {
        why("--why", self.why.as_deref())
    }
}

// Plain comments: clap would take doc comments for the help of each subcommand.

// Where a ledger is.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct LedgerUrlArgs {
    /// The ledger. One worker: `sqlite://` and a relative path, or `sqlite:///` and an absolute
    /// one; a missing file is created. Several workers: `postgres://`, with `sslmode=disable`,
    /// `prefer`, `require`, `verify-ca` or `verify-full`. Plain text is allowed to loopback only
    #[arg(
        long,
        env,
        hide_env_values = true,
        value_name = "URL",
        default_value = "sqlite://eko-worker.db"
    )]
    pub ledger_url: String,
    /// File that holds `LEDGER_URL`
    #[arg(long, env, value_name = "PATH")]
    pub ledger_url_file: Option<String>,
    /// PEM file with the CA that signs the certificate of the PostgreSQL server [default: the
    /// system's CAs]
    #[arg(long, env, value_name = "PATH")]
    pub ledger_ca_file: Option<String>,
    /// PEM file with the worker's own certificate, for a PostgreSQL server that asks for one
    #[arg(long, env, value_name = "PATH")]
    pub ledger_client_cert_file: Option<String>,
    /// PEM file with the key of `LEDGER_CLIENT_CERT_FILE`
    #[arg(long, env, value_name = "PATH")]
    pub ledger_client_key_file: Option<String>,
    /// Allow `LEDGER_URL` to use plain text to other machines
    #[arg(long, env, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    pub ledger_allow_plaintext: String,
}

impl LedgerUrlArgs {
    /// Reads and checks where the ledger is.
    ///
    /// # Errors
    /// Each setting that is wrong, by name, with the reason.
    pub(crate) fn ledger(&self) -> Result<ledger::Settings, Problems> {
        let mut reader = Reader::default();
        let ledger = self.settings(&mut reader);
        reader.finish()?;
        ledger.ok_or_else(|| Problems(vec!["LEDGER_URL: is missing".to_owned()]))
    }

    pub(super) fn settings(&self, reader: &mut Reader) -> Option<ledger::Settings> {
        let files = TlsPaths {
            settings: ledger::TLS_SETTINGS,
            paths: [
                &self.ledger_ca_file,
                &self.ledger_client_cert_file,
                &self.ledger_client_key_file,
            ],
        };
        let tls = files.read(reader)?;
        let file = self.ledger_url_file.as_deref();
        let allow_plain = reader.truth("LEDGER_ALLOW_PLAINTEXT", &self.ledger_allow_plaintext);
        let ledger =
            reader.ledger(&self.ledger_url, file, tls.clone(), allow_plain.unwrap_or_default())?;
        if ledger.has_tls() {
            ledger::check_tls(&tls).map_err(|(name, why)| reader.wrong(name, &why)).ok()?
        } else {
            files.refuse(
                reader,
                "is only used with TLS, but LEDGER_URL does not use TLS: remove it, or use \
                 sslmode=verify-full",
            )
        }
        Some(ledger)
    }
}

// Where a ledger is, and its queues.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct LedgerPlaceArgs {
    #[command(flatten)]
    pub url: LedgerUrlArgs,
    #[command(flatten)]
    pub amqp: AmqpArgs,
}

impl LedgerPlaceArgs {
    /// Reads and checks where ledger and broker are.
    ///
    /// # Errors
    /// Each setting that is wrong, by name, with the reason.
    pub(crate) fn read(&self) -> Result<(ledger::Settings, broker::Settings), Problems> {
        Ok((self.url.ledger()?, self.amqp.broker()?))
    }
}
