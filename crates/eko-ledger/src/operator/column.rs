//! Parameters and columns of the operators' statements, alike for both stores.

use jiff::Timestamp;

use crate::Error;

/// What a statement takes.
pub(crate) enum Parameter<'a> {
    Text(Option<&'a str>),
    Number(i64),
}

/// What a column has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Null,
    Text(String),
    Number(i64),
}

/// The columns of one row.
pub(crate) type Record = Vec<Column>;

pub(super) fn unreadable() -> Error {
    Error::Store("a row of the operators' tables cannot be read".to_owned())
}

impl Column {
    pub(super) fn text(self) -> Result<Option<String>, Error> {
        match self {
            Self::Text(text) => Ok(Some(text)),
            Self::Null => Ok(None),
            Self::Number(_) => Err(unreadable()),
        }
    }

    pub(super) fn number(&self) -> Result<Option<i64>, Error> {
        match self {
            Self::Number(number) => Ok(Some(*number)),
            Self::Null => Ok(None),
            Self::Text(_) => Err(unreadable()),
        }
    }

    pub(super) fn time(&self) -> Result<Option<Timestamp>, Error> {
        let read = |number| Timestamp::from_millisecond(number).map_err(|_| unreadable());
        self.number()?.map(read).transpose()
    }

    pub(super) fn required_text(self) -> Result<String, Error> {
        self.text()?.ok_or_else(unreadable)
    }

    pub(super) fn required_time(&self) -> Result<Timestamp, Error> {
        self.time()?.ok_or_else(unreadable)
    }
}
