//! Settings that hold a secret. One that stands in a file is read again while the process runs, so
//! that a secret changes without a restart.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};

/// Brings the text of a secret anew.
type Load = Box<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// Makes of the text what is used, or says what is wrong with it, without repeating it.
type Parse<T> = Box<dyn Fn(&str) -> Result<T, String> + Send + Sync>;

/// A secret, or what was made of it.
pub struct Credential<T>(Arc<Inner<T>>);

struct Inner<T> {
    source: Option<Source<T>>,
    current: Mutex<Current<T>>,
}

/// Where a secret is read again.
pub struct Source<T> {
    /// The setting, such as `AMQP_URL`.
    pub name: &'static str,
    /// What it is, in a log line.
    pub what: &'static str,
    /// Reads the file.
    pub load: Load,
    /// Reads its text.
    pub parse: Parse<T>,
}

struct Current<T> {
    text: SecretString,
    value: T,
    /// Why the file was no use when it was last read.
    problem: Option<String>,
}

/// What came of reading a secret's file again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It stands in no file.
    Fixed,
    /// It is the same.
    Same,
    /// It is another one.
    New,
    /// The file is no use: the one before stays.
    Failed,
}

impl<T: Clone> Credential<T> {
    /// One that stands in no file.
    pub fn fixed(value: T) -> Self {
        Self::of(None, SecretString::default(), value)
    }

    /// One that stands in a file, whose text now is `text`, and means `value`.
    pub fn in_file(source: Source<T>, text: SecretString, value: T) -> Self {
        Self::of(Some(source), text, value)
    }

    fn of(source: Option<Source<T>>, text: SecretString, value: T) -> Self {
        let current = Mutex::new(Current { text, value, problem: None });
        Self(Arc::new(Inner { source, current }))
    }

    /// Whether it stands in a file.
    pub fn is_in_file(&self) -> bool {
        self.0.source.is_some()
    }

    /// What it is now.
    pub fn value(&self) -> T {
        self.current().value.clone()
    }

    /// What it is once its file was read again: for whoever is about to use it.
    pub fn renewed(&self) -> T {
        self.refresh();
        self.value()
    }

    /// Reads its file again, and says what is new.
    pub fn refresh(&self) -> Refreshed {
        let Some(source) = &self.0.source else { return Refreshed::Fixed };
        let loaded = (source.load)().and_then(|text| {
            let is_same = text.expose_secret() == self.current().text.expose_secret();
            Ok((!is_same).then_some(((source.parse)(text.expose_secret())?, text)))
        });
        let mut current = self.current();
        let before = current.problem.take();
        match loaded {
            Ok(None) => Refreshed::Same,
            Ok(Some((value, text))) => {
                (current.value, current.text) = (value, text);
                tracing::info!(
                    setting = source.name,
                    "the {what}'s file was read again: the {what} is new and is used from now on",
                    what = source.what
                );
                Refreshed::New
            }
            Err(error) => {
                // Whoever tries again and again says it once.
                if before.as_ref() != Some(&error) {
                    tracing::warn!(
                        setting = source.name,
                        error,
                        "the {what}'s file could not be read again: the old {what} stays in use",
                        what = source.what
                    );
                }
                current.problem = Some(error);
                Refreshed::Failed
            }
        }
    }

    /// Reads its file again since an operator asked for it, and says so where nothing is new.
    pub fn refresh_as_asked(&self) -> Refreshed {
        self.current().problem = None;
        let refreshed = self.refresh();
        if let (Refreshed::Same, Some(source)) = (refreshed, &self.0.source) {
            tracing::info!(
                setting = source.name,
                "the {what}'s file was read again: the {what} has not changed",
                what = source.what
            );
        }
        refreshed
    }

    fn current(&self) -> MutexGuard<'_, Current<T>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Credential<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Credential<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

impl From<&str> for Credential<SecretString> {
    fn from(secret: &str) -> Self {
        Self::fixed(secret.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number in a file that a test writes.
    fn number(file: &Arc<Mutex<Result<&'static str, String>>>) -> Credential<u32> {
        let read = Arc::clone(file);
        let source = Source {
            name: "X",
            what: "number",
            load: Box::new(move || read.lock().unwrap().clone().map(SecretString::from)),
            parse: Box::new(|text| text.parse().map_err(|_| "is no number".to_owned())),
        };
        Credential::in_file(source, "1".into(), 1)
    }

    #[test]
    fn only_another_text_that_can_be_used_takes_the_place_of_the_one_before() {
        let file = Arc::new(Mutex::new(Ok("1")));
        let credential = number(&file);
        assert_eq!((credential.refresh(), credential.value()), (Refreshed::Same, 1));
        *file.lock().unwrap() = Ok("2");
        assert_eq!((credential.clone().renewed(), credential.value()), (2, 2));
        for broken in [Ok("two"), Err("it is away".to_owned())] {
            *file.lock().unwrap() = broken;
            assert_eq!((credential.refresh(), credential.value()), (Refreshed::Failed, 2));
        }
        *file.lock().unwrap() = Ok("3");
        assert_eq!((credential.refresh_as_asked(), credential.value()), (Refreshed::New, 3));
    }

    #[test]
    fn what_stands_in_no_file_stays_and_is_not_shown() {
        let credential: Credential<SecretString> = "hunter2".into();
        assert_eq!((credential.is_in_file(), credential.refresh()), (false, Refreshed::Fixed));
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
