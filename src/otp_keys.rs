//! The keys that open sealed OTPs. An OTP is opened for a signed call, and to see at its receipt
//! whether it can be; nothing keeps it in between.

use std::borrow::Cow;
use std::sync::Arc;

use eko_seal::{Fault, KeyPair};
use secrecy::{ExposeSecret as _, SecretString};

use crate::command::{Command, GivenOtp, is_replay_of};
use crate::credential::{Credential, Refreshed};
use crate::privacy::{Otp, SealedOtp};

/// The keys of one file, of which the first is the newest.
pub(crate) type KeyFile = Credential<Arc<[KeyPair]>>;

/// Whether an OTP may come open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sealing {
    /// It may.
    #[default]
    Optional,
    /// It must be sealed.
    Required,
}

/// How OTPs come, and what opens those that are sealed.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtpKeys {
    /// `OTP_KEY_FILE`.
    pub(crate) files: Vec<KeyFile>,
    /// `OTP_SEALED`.
    pub(crate) sealing: Sealing,
}

/// Why the OTP of a command cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OtpProblem {
    /// It is sealed, and this worker has no key at all: our setup is wrong, not the command.
    NoKey,
    /// The command's own fault, in a sentence that names the field.
    Invalid(String),
}

impl OtpKeys {
    /// Whether a command's OTP can be used.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn check(&self, command: &Command) -> Result<(), OtpProblem> {
        match (command.given_otp(), self.sealing) {
            (None, _) | (Some(GivenOtp::Open(_)), Sealing::Optional) => Ok(()),
            (Some(GivenOtp::Open(_)), Sealing::Required) => {
                let why = "data.otp: is not taken by this worker (OTP_SEALED=required); send \
                           otp_sealed";
                Err(OtpProblem::Invalid(why.to_owned()))
            }
            (Some(GivenOtp::Sealed(sealed)), _) => self.open(&command.id, sealed).map(drop),
        }
    }

    /// A command as it is called for: with its OTP opened, where that can be.
    pub(crate) fn opened<'a>(&self, command: &'a Command) -> Cow<'a, Command> {
        let Some(GivenOtp::Sealed(sealed)) = command.given_otp() else {
            return Cow::Borrowed(command);
        };
        match self.open(&command.id, sealed) {
            Ok(otp) => Cow::Owned(command.with_otp(Otp::new(otp.expose_secret()))),
            Err(_) => Cow::Borrowed(command),
        }
    }

    /// Reads the files again, each by `refresh`; tells whether a key is new.
    pub(crate) fn refresh(&self, refresh: impl Fn(&KeyFile) -> Refreshed) -> bool {
        self.files.iter().fold(false, |has_new, file| (refresh(file) == Refreshed::New) | has_new)
    }

    fn open(&self, id: &str, sealed: &SealedOtp) -> Result<SecretString, OtpProblem> {
        if self.files.is_empty() {
            return Err(OtpProblem::NoKey);
        }
        let mut opened = self.open_by_keys(sealed);
        // The key may be new.
        if matches!(opened, Err(Fault::NoKeyOpens)) && self.refresh(Credential::refresh) {
            opened = self.open_by_keys(sealed);
        }
        let wrong = |why: &str| OtpProblem::Invalid(format!("data.otp_sealed: {why}"));
        let content = opened.map_err(|fault| match fault {
            Fault::NoKeyOpens => wrong(&format!("{}; {}", fault.sentence(), self.public_keys())),
            Fault::NotBase64 | Fault::TooShort | Fault::NotAnOtp => wrong(fault.sentence()),
        })?;
        if content.command_id != id && !is_replay_of(id, &content.command_id) {
            return Err(wrong("was sealed for another command: the id in it is not this one's"));
        }
        Ok(content.otp)
    }

    fn open_by_keys(&self, sealed: &SealedOtp) -> Result<eko_seal::Content, Fault> {
        let files: Vec<_> = self.files.iter().map(Credential::value).collect();
        eko_seal::open(files.iter().flat_map(|keys| keys.iter()), sealed.as_str())
    }

    /// What boxes may be made for.
    fn public_keys(&self) -> String {
        let files = self.files.iter().map(Credential::value);
        let keys = files
            .flat_map(|keys| keys.iter().map(|key| key.public().to_string()).collect::<Vec<_>>());
        format!("this worker opens those for {}", keys.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::command::{Defaults, parse};
    use crate::credential::Source;
    use crate::privacy::Mobile;

    const ID: &str = "ord-7731-refund";

    fn refund(id: &str, data: &str) -> Command {
        let defaults = Defaults {
            initiator_id: Some(Mobile::new("9962981729")),
            user_code: Some("20810200".to_owned()),
        };
        let body =
            format!(r#"{{"id":"{id}","type":"eko.refund.request","data":{{"tid":1,{data}}}}}"#);
        parse(body.as_bytes(), None, &defaults).command.unwrap()
    }

    fn sealed(id: &str, key: &KeyPair, sealed_for: &str) -> Command {
        let text = key.public().seal(sealed_for, &"123456".into()).unwrap();
        refund(id, &format!(r#""otp_sealed":"{text}""#))
    }

    fn with(keys: &[&KeyPair]) -> OtpKeys {
        let file = |key: &&KeyPair| Credential::fixed(vec![KeyPair::clone(key)].into());
        OtpKeys { files: keys.iter().map(file).collect(), sealing: Sealing::Optional }
    }

    fn why(keys: &OtpKeys, command: &Command) -> String {
        match keys.check(command) {
            Err(OtpProblem::Invalid(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_otp_is_opened_by_any_of_the_keys() {
        let (old, new) = (KeyPair::generate(), KeyPair::generate());
        for key in [&old, &new] {
            let command = sealed(ID, key, ID);
            let keys = with(&[&new, &old]);
            assert_eq!(keys.check(&command), Ok(()));
            let opened = keys.opened(&command);
            assert_eq!(opened.secrets(), ["123456", "9962981729"]);
            assert_eq!(command.secrets(), ["9962981729"], "the command itself keeps the box");
            let shown = format!("{command:?} {opened:?} {keys:?}");
            assert!(!shown.contains("123456"), "{shown}");
        }
    }

    #[test]
    fn a_box_says_what_is_wrong_with_it() {
        let (ours, other) = (KeyPair::generate(), KeyPair::generate());
        let keys = with(&[&ours]);
        let expected = format!(
            "data.otp_sealed: was sealed for another public key, or is damaged; this worker opens \
             those for {}",
            ours.public()
        );
        assert_eq!(why(&keys, &sealed(ID, &other, ID)), expected);
        let moved =
            "data.otp_sealed: was sealed for another command: the id in it is not this one's";
        assert_eq!(why(&keys, &sealed(ID, &ours, "ord-7732-refund")), moved);
        let short = refund(ID, r#""otp_sealed":"AAAA""#);
        let too_short = "data.otp_sealed: is damaged: it is too short for a sealed box";
        assert_eq!(why(&keys, &short), too_short);
        assert!(matches!(keys.opened(&short), Cow::Borrowed(_)), "it stays sealed");
    }

    #[test]
    fn a_replay_keeps_the_box_of_its_original() {
        let key = KeyPair::generate();
        assert_eq!(with(&[&key]).check(&sealed("ord-7731-refund:replay-2", &key, ID)), Ok(()));
        assert!(with(&[&key]).check(&sealed("ord-7732-refund:replay-2", &key, ID)).is_err());
    }

    #[test]
    fn a_worker_without_a_key_says_that_it_has_none_and_one_that_wants_boxes_takes_no_other() {
        let key = KeyPair::generate();
        let keyless = OtpKeys::default();
        assert_eq!(keyless.check(&sealed(ID, &key, ID)), Err(OtpProblem::NoKey));
        let open = refund(ID, r#""otp":"123456""#);
        assert_eq!(keyless.check(&open), Ok(()));
        let strict = OtpKeys { sealing: Sealing::Required, ..with(&[&key]) };
        let expected =
            "data.otp: is not taken by this worker (OTP_SEALED=required); send otp_sealed";
        assert_eq!(why(&strict, &open), expected);
        assert_eq!(strict.check(&sealed(ID, &key, ID)), Ok(()));
    }

    #[test]
    fn a_box_for_a_key_that_was_not_there_makes_the_file_be_read_again() {
        let (old, new) = (KeyPair::generate(), KeyPair::generate());
        let file = Arc::new(Mutex::new(old.to_file()));
        let read = Arc::clone(&file);
        let source = Source {
            name: "OTP_KEY_FILE",
            what: "OTP key",
            load: Box::new(move || Ok(read.lock().unwrap().clone())),
            parse: Box::new(|text| KeyPair::read_all(text).map(Into::into)),
        };
        let credential = Credential::in_file(source, old.to_file(), vec![old].into());
        let keys = OtpKeys { files: vec![credential], sealing: Sealing::Optional };
        assert!(keys.check(&sealed(ID, &new, ID)).is_err());
        *file.lock().unwrap() = new.to_file();
        assert_eq!(keys.check(&sealed(ID, &new, ID)), Ok(()));
    }
}
