//! Settings that hold a secret: a variable, or a file that is read again while the process runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eko_seal::KeyPair;
use secrecy::{ExposeSecret as _, SecretString};

use super::read::Reader;
use super::urls;
use crate::credential::{Credential, Source};
use crate::otp_keys::KeyFile;
use crate::pem::TlsFiles;
use crate::{broker, eko, ledger};

/// A secret as it is given.
struct Setting<'a> {
    name: &'static str,
    /// What it is, in a log line.
    what: &'static str,
    given: Option<&'a str>,
    /// The path in `X_FILE`.
    file: Option<&'a str>,
}

/// A secret that was read, and its file.
struct Secret {
    text: SecretString,
    file: Option<PathBuf>,
}

/// The text of a secret's file. An editor on Windows puts a byte order mark first, which is no part
/// of it.
fn load(path: &Path) -> Result<SecretString, String> {
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(text.into()) }
}

/// The nodes of `AMQP_URL`, or a line for each that is none.
fn nodes(text: &str, allow_plain: bool) -> Result<Vec<SecretString>, String> {
    let (mut nodes, mut wrong) = (Vec::new(), Vec::new());
    for (index, node) in text.split(',').map(str::trim).enumerate() {
        if let Some(why) = wrong_node(node, allow_plain) {
            wrong.push(format!("node {}: {why}", index + 1));
        }
        nodes.push(SecretString::from(node));
    }
    if wrong.is_empty() { Ok(nodes) } else { Err(wrong.join("\n")) }
}

/// The address of a PostgreSQL ledger.
fn server(text: &str, allow_plain: bool) -> Result<ledger::Address, String> {
    let text = text.trim();
    if let Some(why) = urls::fault(text) {
        return Err(why.to_owned());
    }
    let address = ledger::Address::read(text)?;
    if address.may_be_plain() && !allow_plain {
        Err(
            "plain text is only allowed to loopback: add sslmode=verify-full, with the server's CA \
             in LEDGER_CA_FILE, or set LEDGER_ALLOW_PLAINTEXT=true"
                .to_owned(),
        )
    } else {
        Ok(address)
    }
}

impl Reader {
    /// A secret from its variable, or from the file that `X_FILE` names.
    fn secret(&mut self, setting: &Setting<'_>) -> Option<Secret> {
        let (name, given) = (setting.name, setting.given.filter(|text| !text.is_empty()));
        match (given, setting.file.filter(|path| !path.is_empty())) {
            (Some(_), Some(_)) => {
                self.wrong(
                    name,
                    &format!("is given twice, as {name} and as {name}_FILE: remove one of them"),
                );
                None
            }
            (Some(text), None) => Some(Secret { text: text.into(), file: None }),
            (None, Some(path)) => match load(Path::new(path)) {
                Ok(text) => Some(Secret { text, file: Some(path.into()) }),
                Err(why) => {
                    self.wrong(&format!("{name}_FILE"), &why);
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// What a secret means, now and when its file is read again.
    fn credential<T: Clone + 'static>(
        &mut self,
        setting: &Setting<'_>,
        secret: Secret,
        parse: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Option<Credential<T>> {
        let Secret { text, file } = secret;
        let value = match parse(text.expose_secret()) {
            Ok(value) => value,
            Err(why) => {
                why.lines().for_each(|why| self.wrong(setting.name, why));
                return None;
            }
        };
        Some(match file {
            None => Credential::fixed(value),
            Some(path) => {
                let load = Box::new(move || load(&path));
                let (name, what) = (setting.name, setting.what);
                let source = Source { name, what, load, parse: Box::new(parse) };
                Credential::in_file(source, text, value)
            }
        })
    }

    /// A required key that can stand in a header.
    pub(super) fn key(
        &mut self,
        name: &'static str,
        given: Option<&str>,
        file: Option<&str>,
    ) -> Option<Credential<SecretString>> {
        let setting = Setting { name, what: "key", given, file };
        let before = self.problems.len();
        match self.secret(&setting) {
            Some(secret) => self.credential(&setting, secret, eko::Keys::read),
            None if self.problems.len() > before => None,
            None => {
                self.wrong(name, &format!("is missing: set it, or {name}_FILE"));
                None
            }
        }
    }

    /// A file with keys that open sealed OTPs.
    pub(super) fn otp_keys(&mut self, path: &str) -> Option<KeyFile> {
        let name = "OTP_KEY_FILE";
        let text = self.noted(name, load(Path::new(path)))?;
        let setting = Setting { name, what: "OTP key", given: None, file: Some(path) };
        let owned = path.to_owned();
        let parse = move |text: &str| -> Result<Arc<[KeyPair]>, String> {
            let keys = KeyPair::read_all(text).map_err(|why| format!("{owned}: {why}"))?;
            Ok(keys.into())
        };
        self.credential(&setting, Secret { text, file: Some(path.into()) }, parse)
    }

    /// The default of a URL gives way to its file.
    fn url_secret(&mut self, setting: &mut Setting<'_>, default: &str) -> Option<Secret> {
        let has_file = setting.file.is_some_and(|path| !path.is_empty());
        if setting.given.is_none_or(|given| given.trim().is_empty()) && !has_file {
            self.wrong(setting.name, "is empty");
            return None;
        }
        if has_file && setting.given == Some(default) {
            setting.given = None;
        }
        self.secret(setting)
    }

    pub(super) fn amqp_urls(
        &mut self,
        given: &str,
        file: Option<&str>,
        allow_plain: bool,
    ) -> Option<Credential<Vec<SecretString>>> {
        let mut setting = Setting { name: "AMQP_URL", what: "URL", given: Some(given), file };
        let secret = self.url_secret(&mut setting, "amqp://guest:guest@127.0.0.1:5672/%2f")?;
        self.credential(&setting, secret, move |text| nodes(text, allow_plain))
    }

    /// Where the ledger is; how a server is reached stands in `tls`.
    pub(super) fn ledger(
        &mut self,
        given: &str,
        file: Option<&str>,
        tls: TlsFiles,
        allow_plain: bool,
    ) -> Option<ledger::Settings> {
        let mut setting = Setting { name: "LEDGER_URL", what: "URL", given: Some(given), file };
        let secret = self.url_secret(&mut setting, "sqlite://eko-worker.db")?;
        let text = secret.text.expose_secret().trim();
        let fault = urls::fault(text).filter(|_| text.contains("://"));
        let settings = match fault {
            Some(why) => Err(why.to_owned()),
            None => ledger::Settings::read(text),
        };
        match self.noted(setting.name, settings)? {
            ledger::Settings::Postgres(_) => {
                let parse = move |text: &str| server(text, allow_plain);
                let url = self.credential(&setting, secret, parse)?;
                Some(ledger::Settings::Postgres(ledger::Server { url, tls }))
            }
            other => Some(other),
        }
    }
}

/// What is wrong with the address of a node.
fn wrong_node(node: &str, allow_plain: bool) -> Option<&'static str> {
    if let Some(fault) = urls::fault(node).filter(|_| node.contains("://")) {
        return Some(fault);
    }
    match broker::Address::read(node) {
        None => {
            Some("must be amqp:// or amqps:// addresses such as amqp://user:password@host:5672/%2f")
        }
        Some(address) if address.is_tls || address.is_loopback || allow_plain => None,
        Some(_) => Some(
            "plain amqp is only allowed to loopback: use amqps, or set AMQP_ALLOW_PLAINTEXT=true",
        ),
    }
}
