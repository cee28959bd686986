//! Blank variables: compose files and templates make them of what is not set.

use std::ffi::OsStr;

use clap::{Arg, Command};

/// The command line, to which a variable that is blank counts as unset, for every setting of every
/// subcommand.
#[expect(clippy::disallowed_methods, reason = "which variables are blank is a matter of settings")]
pub fn without_blanks(command: Command) -> Command {
    pass_over(command, &|name| std::env::var_os(name).is_some_and(|value| is_blank(&value)))
}

fn pass_over(command: Command, is_blank: &impl Fn(&OsStr) -> bool) -> Command {
    let without = |argument: Arg| {
        if argument.get_env().is_some_and(is_blank) {
            argument.env(None::<&'static str>)
        } else {
            argument
        }
    };
    command.mut_args(without).mut_subcommands(|command| pass_over(command, is_blank))
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|value| value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Subcommand as _};

    use super::*;
    use crate::config::{Args, DeadArgs};

    /// The variables that are looked at, over all subcommands.
    fn variables(command: &Command) -> Vec<String> {
        let own = command.get_arguments().filter_map(Arg::get_env);
        let own = own.map(|name| name.to_str().unwrap().to_owned());
        own.chain(command.get_subcommands().flat_map(variables)).collect()
    }

    #[test]
    fn a_blank_variable_is_unset_in_every_subcommand() {
        let run = Args::augment_args(Command::new("run"));
        let dead = DeadArgs::augment_subcommands(Command::new("dead"));
        let command = Command::new("eko-worker").subcommands([run, dead]);
        let before = variables(&command);
        assert!(before.iter().filter(|name| *name == "AMQP_URL").count() > 1, "{before:?}");
        let blank =
            |name: &OsStr| ["AMQP_URL", "AMQP_ALLOW_PLAINTEXT"].map(OsStr::new).contains(&name);
        let after = variables(&pass_over(command, &blank));
        let blank = |name: &&String| blank(OsStr::new(name.as_str()));
        assert_eq!(after.iter().find(blank), None);
        assert_eq!(after.len(), before.iter().filter(|name| !blank(name)).count());
    }

    #[test]
    fn white_space_is_blank() {
        for (value, expected) in [("", true), (" \t\n", true), ("0", false), (" 5s", false)] {
            assert_eq!(is_blank(OsStr::new(value)), expected, "{value:?}");
        }
    }
}
