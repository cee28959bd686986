//! What is in effect and where it comes from, secrets masked.

use std::collections::BTreeSet;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command};
use url::Url;

use super::{Args, urls};

/// Stands for what nobody may see.
const MASKED: &str = "***";

/// One setting that is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its variable.
    pub(crate) name: String,
    /// Its value, masked where it is secret; `None` where it has none.
    pub(crate) value: Option<String>,
    /// Who set it.
    pub(crate) source: Source,
}

/// Who set a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A flag of the command line.
    Flag,
    /// A variable of the environment.
    Environment,
    /// A file, by its path.
    File(String),
    /// Nobody: its default.
    Default,
    /// Nobody, and it has no default.
    Unset,
}

/// Every setting there is, in the order of the help. `X_FILE` of a secret X is part of X.
pub(crate) fn arguments() -> Vec<Arg> {
    let command = Args::augment_args(Command::new("eko-worker"));
    let arguments: Vec<_> = command.get_arguments().cloned().collect();
    let names: BTreeSet<_> = arguments.iter().filter_map(variable).collect();
    let is_part = |argument: &Arg| {
        let name = variable(argument)?;
        names.contains(name.strip_suffix("_FILE")?).then_some(())
    };
    arguments.into_iter().filter(|argument| is_part(argument).is_none()).collect()
}

/// The variables of all settings, `X_FILE` included.
pub(super) fn variables() -> BTreeSet<String> {
    let command = Args::augment_args(Command::new("eko-worker"));
    command.get_arguments().filter_map(variable).collect()
}

/// The variable of a setting.
pub(crate) fn variable(argument: &Arg) -> Option<String> {
    argument.get_env()?.to_str().map(str::to_owned)
}

/// What a variable of the login session says of whoever is there.
#[expect(clippy::disallowed_methods, reason = "only the environment knows who is there")]
pub(super) fn person(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|name| !name.trim().is_empty())
}

/// Whether a setting may also be given as the path of a file that holds it.
pub(crate) fn has_file(argument: &Arg) -> bool {
    variable(argument).is_some_and(|name| variables().contains(&format!("{name}_FILE")))
}

/// Every setting as these arguments and this environment have it.
pub(crate) fn in_effect(matches: &ArgMatches) -> Vec<Setting> {
    let setting = |argument: Arg| Some(effect(&argument, variable(&argument)?, matches));
    arguments().into_iter().filter_map(setting).collect()
}

fn effect(argument: &Arg, name: String, matches: &ArgMatches) -> Setting {
    let id = argument.get_id().as_str();
    let (value, source) = given(matches, id);
    let has_password = value.as_ref().is_some_and(|value| is_address_with_a_user(value));
    let is_secret = argument.is_hide_env_values_set() || has_password;
    let file = format!("{id}_file");
    let (path, _) = if has_file(argument) { given(matches, &file) } else { (None, Source::Unset) };
    match (path, &source) {
        (Some(path), Source::Default | Source::Unset) => {
            // One that cannot be read is among the problems that are told beside.
            let text = std::fs::read_to_string(&path).ok();
            let value = text.map(|text| masked(text.trim_start_matches('\u{feff}').trim_end()));
            Setting { name, value, source: Source::File(path) }
        }
        _ => {
            let value = value.map(|value| if is_secret { masked(&value) } else { value });
            Setting { name, value, source }
        }
    }
}

/// A value that is not empty, and its source.
fn given(matches: &ArgMatches, id: &str) -> (Option<String>, Source) {
    let raw = matches.get_raw(id).and_then(|mut values| values.next());
    let value = raw.map(|value| value.to_string_lossy().into_owned());
    match (value.filter(|value| !value.is_empty()), matches.value_source(id)) {
        (Some(value), Some(ValueSource::CommandLine)) => (Some(value), Source::Flag),
        (Some(value), Some(ValueSource::EnvVariable)) => (Some(value), Source::Environment),
        (Some(value), _) => (Some(value), Source::Default),
        (None, _) => (None, Source::Unset),
    }
}

/// Such as an address of Eko with a password, which is none that the worker takes.
fn is_address_with_a_user(value: &str) -> bool {
    value.contains("://") && value.contains('@')
}

/// Of addresses that can be read as such, only the credentials are masked.
fn masked(secret: &str) -> String {
    let shown: Option<Vec<_>> = secret.split(',').map(|part| address(part.trim())).collect();
    shown.map_or_else(|| MASKED.to_owned(), |shown| shown.join(","))
}

fn address(text: &str) -> Option<String> {
    if urls::fault(text).is_some() {
        return None;
    }
    let mut url = Url::parse(text).ok()?;
    // What is no address, such as a key with a colon in it, is secret as a whole.
    ["amqp", "amqps", "sqlite", "postgres", "postgresql"].contains(&url.scheme()).then_some(())?;
    if !url.username().is_empty() || url.password().is_some() {
        url.set_password(None).ok()?;
        url.set_username(MASKED).ok()?;
    }
    if url.query().is_some() {
        url.set_query(Some(MASKED));
    }
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::super::urls::tests::MALFORMED;
    use super::*;

    fn effects(flags: &[&str]) -> Vec<Setting> {
        let command = Args::augment_args(Command::new("eko-worker"));
        let flags = ["eko-worker"].iter().chain(flags);
        in_effect(&command.try_get_matches_from(flags).unwrap())
    }

    fn effect_of(name: &str, flags: &[&str]) -> (Option<String>, Source) {
        let found = effects(flags).into_iter().find(|setting| setting.name == name);
        found.map(|setting| (setting.value, setting.source)).unwrap()
    }

    #[test]
    fn a_setting_tells_its_value_and_who_set_it() {
        let value = |text: &str| Some(text.to_owned());
        assert_eq!(effect_of("EKO_TIMEOUT", &[]), (value("30s"), Source::Default));
        assert_eq!(effect_of("EKO_TIMEOUT", &["--eko-timeout=4s"]), (value("4s"), Source::Flag));
        assert_eq!(effect_of("EKO_USER_CODE", &[]), (None, Source::Unset));
        assert_eq!(
            effect_of("AMQP_CA_FILE", &["--amqp-ca-file=ca.pem"]),
            (value("ca.pem"), Source::Flag)
        );
    }

    #[test]
    fn of_a_secret_only_what_is_none_is_shown() {
        let shown = |name, flag| effect_of(name, &[flag]).0.unwrap();
        assert_eq!(shown("EKO_ACCESS_KEY", "--eko-access-key=d2fe1d99"), "***");
        assert_eq!(shown("EKO_ACCESS_KEY", "--eko-access-key=amp:d2fe1d99"), "***");
        assert_eq!(shown("EKO_INITIATOR_ID", "--eko-initiator-id=9962981729"), "***");
        let two = "--amqp-url=amqps://user:hunter2@one:5671/%2f, amqps://user:hunter2@two/?a=b";
        assert_eq!(shown("AMQP_URL", two), "amqps://***@one:5671/%2f,amqps://***@two/?***");
        for odd in ["--amqp-url=amqp://user:12,34@host", "--amqp-url=user:hunter2@host"] {
            assert_eq!(shown("AMQP_URL", odd), "***", "{odd}");
        }
        let ledger = "--ledger-url=postgres://eko@db/eko?password=hunter2";
        assert_eq!(shown("LEDGER_URL", ledger), "postgres://***@db/eko?***");
        assert_eq!(shown("LEDGER_URL", "--ledger-url=sqlite:///data/w.db"), "sqlite:///data/w.db");
    }

    #[test]
    fn nothing_is_shown_of_an_address_that_is_malformed() {
        for (url, _) in MALFORMED {
            for (name, flag, scheme) in
                [("AMQP_URL", "--amqp-url", "amqp"), ("LEDGER_URL", "--ledger-url", "postgres")]
            {
                let url = url.replace('S', scheme);
                assert_eq!(
                    effect_of(name, &[&format!("{flag}={url}")]).0.unwrap(),
                    MASKED,
                    "{url}"
                );
                let two = format!("{flag}={scheme}://one,{url}");
                assert_eq!(effect_of(name, &[&two]).0.unwrap(), MASKED, "{url}");
            }
        }
        let eko = "--eko-base-url=https://user:hunter2@eko.example/v3";
        assert_eq!(effect_of("EKO_BASE_URL", &[eko]).0.unwrap(), MASKED);
    }

    #[test]
    fn a_file_stands_for_the_secret_that_it_holds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "amqps://user:hunter2@one\n").unwrap();
        let path = file.path().display().to_string();
        let flag = format!("--amqp-url-file={path}");
        let expected = (Some("amqps://***@one".to_owned()), Source::File(path));
        assert_eq!(effect_of("AMQP_URL", &[&flag]), expected);
        assert!(effects(&[]).iter().all(|setting| setting.name != "AMQP_URL_FILE"));
    }
}
