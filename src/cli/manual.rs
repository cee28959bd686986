//! `eko-worker completions` and `eko-worker man`: what a shell and `man` know of the program.

use anyhow::Context as _;
use clap::Command;

use crate::config::{CompletionsArgs, ManArgs};
use crate::output;

/// Prints the completions of `program` for a shell.
///
/// # Errors
/// Where they cannot be written.
pub fn completions(args: CompletionsArgs, mut program: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "eko-worker", &mut script);
    output::print(&String::from_utf8(script)?);
    Ok(())
}

/// Prints the manual page of `program`, or of one of its subcommands.
///
/// # Errors
/// Where there is no such subcommand, or it cannot be written.
pub fn man(args: &ManArgs, mut program: Command) -> anyhow::Result<()> {
    program.build();
    let page = match &args.subcommand {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name);
            let found = found.with_context(|| format!("there is no subcommand {name}"))?;
            found.clone().name(format!("eko-worker-{name}"))
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    output::print(&String::from_utf8(text)?);
    Ok(())
}
