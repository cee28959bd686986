//! `eko-worker keygen` and `eko-worker public-key`: the keys that OTPs are sealed for.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use eko_seal::KeyPair;
use secrecy::ExposeSecret as _;

use crate::config::{KeygenArgs, PublicKeyArgs};
use crate::output;

/// Writes a new key to a file that only its owner can read, and prints what OTPs are to be sealed for.
///
/// # Errors
/// Where the file exists or cannot be written.
pub fn keygen(args: &KeygenArgs) -> anyhow::Result<()> {
    let key = KeyPair::generate();
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.path);
    let mut file = opened.with_context(|| format!("cannot create {}", args.path))?;
    let written = file.write_all(key.to_file().expose_secret().as_bytes());
    written
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", args.path))?;
    output::line(key.public());
    Ok(())
}

/// Prints the public keys of `OTP_KEY_FILE`, a line each: OTPs are to be sealed for the first.
///
/// # Errors
/// Where there is none, or a file cannot be read.
pub fn public_key(args: &PublicKeyArgs) -> anyhow::Result<()> {
    for file in args.keys()? {
        for key in file.value().iter() {
            output::line(key.public());
        }
    }
    Ok(())
}
