//! `eko-worker config`: the settings in effect, and all that there are.

use clap::{Arg, ArgMatches};
use serde_json::{Value, json};

use crate::config::{
    Config, ConfigArgs, Problems, Setting, Source, arguments, has_file, in_effect, variable,
};
use crate::output;

/// Prints every setting in effect, with its source and with secrets masked; or all there are.
///
/// # Errors
/// Where a setting is wrong: after all of them were shown.
pub fn config(args: &ConfigArgs, matches: &ArgMatches) -> anyhow::Result<()> {
    if args.markdown {
        output::print(&markdown());
        return Ok(());
    }
    if args.env_example {
        output::print(&env_example());
        return Ok(());
    }
    let settings = in_effect(matches);
    let (warnings, problems) = match Config::new(&args.settings) {
        Ok(config) => (config.warnings, None),
        Err(problems) => (Config::warnings(), Some(problems)),
    };
    if args.json {
        output::line(format_args!("{:#}", as_json(&settings, &warnings, problems.as_ref())));
    } else {
        output::print(&as_table(&settings));
        warnings.iter().for_each(|warning| output::remark(format_args!("warning: {warning}")));
    }
    problems.map_or(Ok(()), |problems| Err(problems.into()))
}

fn as_table(settings: &[Setting]) -> String {
    let shown: Vec<_> = settings
        .iter()
        .map(|setting| (&setting.name, setting.value.as_deref().unwrap_or("-"), source(setting)))
        .collect();
    // Beyond that, one long value would push all sources off the screen.
    let width = shown.iter().map(|(_, value, _)| value.len().min(48)).max().unwrap_or(0);
    shown
        .into_iter()
        .map(|(name, value, source)| format!("{name:<24} {value:<width$}  {source}\n"))
        .collect()
}

fn as_json(settings: &[Setting], warnings: &[String], problems: Option<&Problems>) -> Value {
    let settings = settings.iter().map(|setting| {
        let path = match &setting.source {
            Source::File(path) => Some(path),
            Source::Flag | Source::Environment | Source::Default | Source::Unset => None,
        };
        json!({
            "name": setting.name, "value": setting.value, "source": word(&setting.source),
            "path": path,
        })
    });
    json!({
        "settings": settings.collect::<Vec<_>>(),
        "warnings": warnings,
        "problems": problems.map_or(&[][..], |problems| &problems.0),
    })
}

const fn word(source: &Source) -> &'static str {
    match source {
        Source::Flag => "flag",
        Source::Environment => "environment",
        Source::File(_) => "file",
        Source::Default => "default",
        Source::Unset => "unset",
    }
}

fn source(setting: &Setting) -> String {
    match &setting.source {
        Source::File(path) => format!("file {path}"),
        other => word(other).to_owned(),
    }
}

/// What a person is told of one setting.
struct About {
    name: String,
    default: Option<String>,
    is_required: bool,
    /// Whether its value must not be seen.
    is_secret: bool,
    has_file: bool,
    help: String,
}

impl About {
    fn of(argument: &Arg) -> Option<Self> {
        let help = argument.get_long_help().or_else(|| argument.get_help())?.to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let (help, is_required) = match help.strip_suffix(" (required)") {
            Some(help) => (help.to_owned(), true),
            None => (help, false),
        };
        // A default that depends on something stands in the help.
        let (help, told) = match help.split_once(" [default: ") {
            Some((before, rest)) => {
                let (default, after) = rest.split_once(']').unwrap_or((rest, ""));
                (format!("{before}{after}"), Some(default.to_owned()))
            }
            None => (help, None),
        };
        let defaults = argument.get_default_values().iter();
        let default = defaults.map(|value| format!("`{}`", value.to_string_lossy())).next();
        Some(Self {
            name: variable(argument)?,
            default: default.or(told),
            is_required,
            is_secret: argument.is_hide_env_values_set(),
            has_file: has_file(argument),
            help,
        })
    }

    fn all() -> impl Iterator<Item = Self> {
        arguments().into_iter().filter_map(|argument| Self::of(&argument))
    }
}

const HEAD: &str = "\
# Settings

Each is a variable of the environment, or a flag of the same name (`--amqp-url`), which wins. A wrong one is named with its
reason and the exit code is 2. Durations are such as `500ms`, `30s`, `5m`, `24h`, `90d`. A secret `X` that has `X_FILE` may be
given by it: the path of a file that holds it. A variable that is blank counts as unset.

`eko-worker config` shows what is in effect and where it comes from, secrets masked. A variable that looks like a setting
and is none is warned about at the start, in `check` and in `config`, with the setting that was most likely meant.

This page is `eko-worker config --markdown`, `.env.example` is `eko-worker config --env-example`, and a test holds both
against the program: `UPDATE=1 cargo test --test deploy` writes them anew.

| variable | default | |
| --- | --- | --- |
";

fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for about in About::all() {
        let About { name, default, is_required, is_secret, has_file, help } = about;
        let default = match (default, is_required) {
            (Some(default), _) => default,
            (None, true) => "none: required".to_owned(),
            (None, false) => "none".to_owned(),
        };
        let secret = match (is_secret, has_file) {
            (true, true) => format!("; secret, or `{name}_FILE`"),
            (true, false) => "; never shown".to_owned(),
            (false, _) => String::new(),
        };
        text.push_str(&format!("| `{name}` | {default} | {help}{secret} |\n"));
    }
    text
}

const ENV_HEAD: &str = "\
# All settings of eko-worker, for `docker run --env-file`, systemd's EnvironmentFile and the like. What is commented out
# has its default. docs/configuration.md tells more; `eko-worker config` shows what is in effect.
";

fn env_example() -> String {
    let mut text = ENV_HEAD.to_owned();
    for about in About::all() {
        let About { name, default, is_required, has_file, help, .. } = about;
        let value = default.filter(|default| default.starts_with('`')).unwrap_or_default();
        let value = value.trim_matches('`');
        let setting = match (is_required, has_file) {
            (true, true) => {
                let file = name.to_lowercase().replace('_', "-");
                format!("{name}_FILE=/run/secrets/{file}")
            }
            (true, false) => format!("{name}="),
            (false, _) => format!("#{name}={value}"),
        };
        text.push_str(&format!("\n# {}\n{setting}\n", help.replace('`', "")));
    }
    text
}
