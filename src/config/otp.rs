//! The settings of sealed OTPs, and of the subcommands on their keys.

use super::Problems;
use super::read::Reader;
use crate::otp_keys::{KeyFile, OtpKeys, Sealing};

// Plain comments: clap would take doc comments for the help of each subcommand.

// Where the keys are.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct OtpKeyArgs {
    /// Files with the private keys that open `otp_sealed`, with commas: a key a line, as `keygen`
    /// writes it. The newest key comes first
    #[arg(long, env, value_name = "PATHS")]
    pub otp_key_file: Option<String>,
}

// How OTPs come.
#[expect(missing_docs, reason = "see above")]
#[derive(Clone, Debug, clap::Args)]
pub struct OtpArgs {
    #[command(flatten)]
    pub keys: OtpKeyArgs,
    /// Whether a refund may bring its OTP open (`optional`), or must bring `otp_sealed` (`required`)
    #[arg(long, env, value_name = "WHICH", default_value = "optional")]
    pub otp_sealed: String,
}

/// Where the new key is written.
#[derive(Clone, Debug, clap::Args)]
pub struct KeygenArgs {
    /// File to create
    #[arg(value_name = "PATH")]
    pub path: String,
}

/// Whose public keys are printed.
#[derive(Clone, Debug, clap::Args)]
pub struct PublicKeyArgs {
    /// Where the keys are
    #[command(flatten)]
    pub keys: OtpKeyArgs,
}

impl OtpKeyArgs {
    fn read(&self, reader: &mut Reader) -> Option<Vec<KeyFile>> {
        let paths = self.otp_key_file.as_deref().unwrap_or_default().split(',').map(str::trim);
        paths.filter(|path| !path.is_empty()).map(|path| reader.otp_keys(path)).collect()
    }
}

impl OtpArgs {
    pub(super) fn read(&self, reader: &mut Reader) -> Option<OtpKeys> {
        let files = self.keys.read(reader);
        let sealing = match self.otp_sealed.trim() {
            "optional" => Ok(Sealing::Optional),
            "required" if files.as_ref().is_some_and(Vec::is_empty) => {
                Err("required needs OTP_KEY_FILE: without a key no OTP can be opened".to_owned())
            }
            "required" => Ok(Sealing::Required),
            _ => Err("must be optional or required".to_owned()),
        };
        let sealing = reader.noted("OTP_SEALED", sealing);
        Some(OtpKeys { files: files?, sealing: sealing? })
    }
}

impl PublicKeyArgs {
    /// The files of keys, of which there is one at least.
    pub(crate) fn keys(&self) -> Result<Vec<KeyFile>, Problems> {
        let mut reader = Reader::default();
        let files = self.keys.read(&mut reader);
        if files.as_ref().is_some_and(Vec::is_empty) {
            reader.wrong("OTP_KEY_FILE", "is missing: `eko-worker keygen` makes a key");
        }
        reader.finish()?;
        Ok(files.unwrap_or_default())
    }
}
