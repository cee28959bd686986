//! Secrets and personal data: types that cannot print themselves.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A one-time password as the customer read it out: 4 to 8 digits, leading zeros kept.
#[derive(Clone)]
pub(crate) struct Otp(SecretString);

impl Otp {
    /// Wraps digits that the caller has validated.
    pub(crate) fn new(digits: &str) -> Self {
        Self(SecretString::from(digits))
    }

    /// The digits, for the signed call and nothing else.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Otp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Otp(…)")
    }
}

/// Eko's reference of one OTP session. It may stand in an event, never in a log.
#[derive(Clone)]
pub(crate) struct OtpRef(String);

impl OtpRef {
    /// Wraps the reference verbatim.
    pub(crate) fn new(reference: &str) -> Self {
        Self(reference.to_owned())
    }

    /// The reference, for the signed call.
    pub(crate) fn expose(&self) -> &str {
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
pub(crate) struct Mobile(SecretString);

impl Mobile {
    /// Wraps digits that the caller has validated.
    pub(crate) fn new(digits: &str) -> Self {
        Self(SecretString::from(digits))
    }

    /// All digits, for the signed call and nothing else.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Mobile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mobile({})", mask(self.expose()))
    }
}

/// A number with all but its last four digits hidden, as Eko itself masks mobile numbers.
pub(crate) fn mask(digits: &str) -> String {
    let hidden = digits.chars().count().saturating_sub(4);
    let shown = digits.chars().skip(hidden);
    "X".repeat(hidden).chars().chain(shown).collect()
}

/// Somebody else's sentence made safe to repeat: control characters are gone, it is cut at
/// `MAX_TEXT` characters, and what could be a mobile number or is one of `secrets` is masked.
pub(crate) fn scrub(text: &str, secrets: &[&str]) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_TEXT));
    let mut digits = String::new();
    for c in text.chars().take(MAX_TEXT) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        push_digits(&mut clean, &mut digits, secrets);
        clean.push(if c.is_control() { ' ' } else { c });
    }
    push_digits(&mut clean, &mut digits, secrets);
    clean
}

/// A text in which whatever could be an OTP is hidden: every run of 4 to 8 digits.
pub(crate) fn hide_otps(text: &str) -> String {
    let mut rest = text;
    let mut clean = String::with_capacity(text.len());
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, run) = rest.split_at(start);
        let end = run.find(|c: char| !c.is_ascii_digit()).unwrap_or(run.len());
        let (digits, after) = run.split_at(end);
        clean.push_str(before);
        match (4..=8).contains(&digits.len()) {
            true => clean.push_str(&"X".repeat(digits.len())),
            false => clean.push_str(digits),
        }
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// Longest foreign text that is repeated in an event or the ledger, in characters.
const MAX_TEXT: usize = 300;

fn push_digits(clean: &mut String, digits: &mut String, secrets: &[&str]) {
    // An Indian mobile number has 10 digits, 12 with its country code; a secret may stand
    // inside a longer run of digits.
    let is_mobile = (10..=13).contains(&digits.len());
    let is_secret = secrets.iter().any(|s| s.len() >= 4 && digits.contains(*s));
    match (is_secret, is_mobile) {
        (true, _) => clean.push_str(&"X".repeat(digits.len())),
        (false, true) => clean.push_str(&mask(digits)),
        (false, false) => clean.push_str(digits),
    }
    digits.clear();
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

    #[test]
    fn foreign_text_loses_mobiles_and_secrets_and_keeps_the_rest() {
        let text = "OTP 4711 sent to 919123456789\nfor tid 13192443";
        assert_eq!(scrub(text, &["4711"]), "OTP XXXX sent to XXXXXXXX6789 for tid 13192443");
    }

    #[test]
    fn whatever_could_be_an_otp_is_hidden() {
        assert_eq!(hide_otps("OTP 4711, not 471 or 123456789"), "OTP XXXX, not 471 or 123456789");
        assert_eq!(hide_otps("12345678"), "XXXXXXXX");
        assert_eq!(hide_otps(""), "");
    }

    #[test]
    fn foreign_text_is_cut() {
        assert_eq!(scrub(&"é".repeat(5000), &[]).chars().count(), MAX_TEXT);
    }
}
