//! Secrets and personal data: types that cannot print themselves.

mod scrub;

use std::fmt;

pub use scrub::{hide_otps, scrub};
use secrecy::{ExposeSecret, SecretString};

/// A one-time password as the customer read it out: 4 to 8 digits, leading zeros kept.
#[derive(Clone)]
pub struct Otp(SecretString);

impl Otp {
    /// Wraps digits that the caller has validated.
    pub fn new(digits: &str) -> Self {
        Self(SecretString::from(digits))
    }

    /// The digits, for the signed call and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Otp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Otp(…)")
    }
}

/// An OTP in a box that only the worker can open. Logs have no use for it.
#[derive(Clone)]
pub struct SealedOtp(String);

impl SealedOtp {
    /// Wraps the text of a box.
    pub fn new(sealed: &str) -> Self {
        Self(sealed.to_owned())
    }

    /// The box, to open it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SealedOtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedOtp(…)")
    }
}

/// Eko's reference of one OTP session. It may stand in an event, never in a log.
#[derive(Clone)]
pub struct OtpRef(String);

impl OtpRef {
    /// Wraps the reference verbatim.
    pub fn new(reference: &str) -> Self {
        Self(reference.to_owned())
    }

    /// The reference, for the signed call.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OtpRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtpRef(…)")
    }
}

/// A 10-digit mobile number: a customer's, or the operator's own `initiator_id`.
#[derive(Clone)]
pub struct Mobile(SecretString);

impl Mobile {
    /// Wraps digits that the caller has validated.
    pub fn new(digits: &str) -> Self {
        Self(SecretString::from(digits))
    }

    /// All digits, for the signed call and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Mobile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mobile({})", mask(self.expose()))
    }
}

/// A number with all but its last four digits hidden, as Eko itself masks mobile numbers.
pub fn mask(digits: &str) -> String {
    let hidden = digits.chars().count().saturating_sub(4);
    let shown = digits.chars().skip(hidden);
    "X".repeat(hidden).chars().chain(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_output_shows_a_secret() {
        let shown = format!(
            "{:?} {:?} {:?}",
            Otp::new("123456"),
            OtpRef::new("abcdef=="),
            Mobile::new("9123456789")
        );
        assert_eq!(shown, "Otp(…) OtpRef(…) Mobile(XXXXXX6789)");
    }
}
