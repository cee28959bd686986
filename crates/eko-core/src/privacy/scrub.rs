//! Somebody else's text made safe to repeat: numbers of persons and OTPs are found in it however
//! they are written.

use std::ops::Range;

/// Longest foreign text that is repeated in an event or the ledger, in characters.
const MAX_TEXT: usize = 300;

/// A number that may have to be hidden is at most that long, its separators included. So many
/// characters beyond the cut are looked at too.
const LONGEST_NUMBER: usize = 64;

/// Characters between two digits of one number, at most, as in `(+91) - 98765`.
const MOST_SEPARATORS: usize = 3;

/// An OTP has as many digits.
const OTP: Range<usize> = 4..9;

/// A mobile number in one piece has as many digits: 10, or up to 13 with its country's code.
const MOBILE: Range<usize> = 10..14;

/// The zeros of the scripts in which somebody in India may write a number; nine digits follow
/// each.
const ZEROS: [char; 15] = [
    '0', '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
    '\u{c66}', '\u{ce6}', '\u{d66}', '\u{1c50}', '\u{abf0}', '\u{ff10}',
];

/// Somebody else's sentence made safe to repeat.
///
/// Control characters are gone, what could be a mobile number or is one of `secrets` is masked, and
/// only then it is cut at `MAX_TEXT` characters, never within a number.
pub fn scrub(text: &str, secrets: &[&str]) -> String {
    let mut text = Text::read(text.chars().take(MAX_TEXT + LONGEST_NUMBER));
    for run in text.runs.clone() {
        text.hide_secrets(&run, secrets);
        text.hide_mobiles(&run);
    }
    let end = text.cut(MAX_TEXT);
    let shown = text.chars.iter().take(end);
    shown.map(|c| if c.is_control() { ' ' } else { *c }).collect()
}

/// A text in which whatever could be an OTP is hidden: every 4 to 8 digits, in one piece or in
/// several.
pub fn hide_otps(text: &str) -> String {
    let mut text = Text::read(text.chars());
    for run in text.runs.clone() {
        for pieces in windows(&run, OTP.end) {
            if OTP.contains(&length(pieces)) {
                text.hide(pieces, 0);
            }
        }
    }
    text.chars.into_iter().collect()
}

/// Pieces of digits that may belong to one number: only separators stand between them.
type Run = Vec<Range<usize>>;

/// A text and the digits in it.
struct Text {
    chars: Vec<char>,
    runs: Vec<Run>,
}

impl Text {
    fn read(chars: impl Iterator<Item = char>) -> Self {
        let chars: Vec<char> = chars.collect();
        let mut runs: Vec<Run> = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            let digits = chars[at..].iter().take_while(|c| digit(**c).is_some()).count();
            if digits == 0 {
                at += 1;
                continue;
            }
            let piece = at..at + digits;
            at = piece.end;
            match runs.last_mut() {
                Some(run)
                    if run.last().is_some_and(|last| joined(&chars[last.end..piece.start])) =>
                {
                    run.push(piece);
                }
                Some(_) | None => runs.push(vec![piece]),
            }
        }
        Self { chars, runs }
    }

    /// The values of the digits of some pieces; a hidden one has none.
    fn digits(&self, pieces: &[Range<usize>]) -> String {
        let chars = pieces.iter().flat_map(|piece| &self.chars[piece.clone()]);
        chars.map(|c| digit(*c).unwrap_or('X')).collect()
    }

    fn hide_mobiles(&mut self, run: &Run) {
        for pieces in windows(run, 15) {
            let is_whole = pieces.len() == 1 && MOBILE.contains(&length(pieces));
            if is_whole || is_mobile(&self.digits(pieces)) {
                self.hide(pieces, 4);
            }
        }
    }

    /// A secret may stand inside a longer number, or in several pieces: all of them are hidden.
    fn hide_secrets(&mut self, run: &Run, secrets: &[&str]) {
        let digits = self.digits(run);
        for secret in secrets.iter().filter(|secret| secret.len() >= OTP.start) {
            for (start, found) in digits.match_indices(secret) {
                let touched: Vec<_> = touched(run, start..start + found.len()).cloned().collect();
                self.hide(&touched, 0);
            }
        }
    }

    /// Hides all digits of some pieces but the last few.
    fn hide(&mut self, pieces: &[Range<usize>], shown: usize) {
        let hidden = length(pieces).saturating_sub(shown);
        for at in pieces.iter().cloned().flatten().take(hidden) {
            self.chars[at] = 'X';
        }
    }

    /// Where to cut: before a number that the cut would split.
    fn cut(&self, most: usize) -> usize {
        let is_split = |run: &&Run| {
            let (start, end) = (run[0].start, run[run.len() - 1].end);
            start < most && most < end && most - start <= LONGEST_NUMBER
        };
        self.runs.iter().find(is_split).map_or(most, |run| run[0].start)
    }
}

/// Several pieces in a row, or one, with fewer digits than that.
fn windows(run: &Run, below: usize) -> impl Iterator<Item = &[Range<usize>]> {
    (0..run.len()).flat_map(move |first| {
        let pieces = (first..run.len()).map(move |last| &run[first..=last]);
        pieces.take_while(move |pieces| length(pieces) < below)
    })
}

/// The pieces that some of a run's digits stand in.
fn touched(run: &Run, digits: Range<usize>) -> impl Iterator<Item = &Range<usize>> {
    let mut before = 0;
    run.iter().filter(move |piece| {
        let own = before..before + piece.len();
        before = own.end;
        own.start < digits.end && digits.start < own.end
    })
}

fn length(pieces: &[Range<usize>]) -> usize {
    pieces.iter().map(ExactSizeIterator::len).sum()
}

/// An Indian mobile number, with or without what is dialled before it.
fn is_mobile(digits: &str) -> bool {
    let prefixes = ["", "0", "91", "910", "091", "0091"];
    let rest = prefixes.iter().filter_map(|prefix| digits.strip_prefix(prefix));
    rest.filter(|rest| rest.len() == 10).any(|rest| rest.starts_with(['6', '7', '8', '9']))
}

/// Whether what stands between two pieces of digits may stand within one number.
fn joined(between: &[char]) -> bool {
    let is_separator = |c: &char| {
        c.is_whitespace()
            || matches!(c, '-' | '.' | '(' | ')' | '/' | '_' | '+')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2010}'..='\u{2015}' | '\u{feff}')
    };
    between.len() <= MOST_SEPARATORS && between.iter().all(is_separator)
}

/// A digit of any script that is written in India, in ASCII.
fn digit(c: char) -> Option<char> {
    if c.is_ascii() {
        return Some(c).filter(char::is_ascii_digit);
    }
    let value =
        |zero: &char| u32::from(c).checked_sub(u32::from(*zero)).filter(|value| *value < 10);
    ZEROS.iter().find_map(value).and_then(|value| char::from_digit(value, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_loses_mobiles_and_secrets_and_keeps_the_rest() {
        let text = "OTP 4711 sent to 919123456789\nfor tid 13192443";
        assert_eq!(scrub(text, &["4711"]), "OTP XXXX sent to XXXXXXXX6789 for tid 13192443");
    }

    #[test]
    fn a_mobile_number_is_masked_however_it_is_written() {
        for (text, expected) in [
            ("98765 43210", "XXXXX X3210"),
            ("call 98765-43210 now", "call XXXXX-X3210 now"),
            ("+91 98765 43210", "+XX XXXXX X3210"),
            ("(+91) 98765-43210", "(+XX) XXXXX-X3210"),
            ("0091-9876-543-210", "XXXX-XXXX-XX3-210"),
            ("098765.43210", "XXXXXX.X3210"),
            ("9 8 7 6 5 4 3 2 1 0", "X X X X X X 3 2 1 0"),
            ("98765\u{a0}43210", "XXXXX\u{a0}X3210"),
            ("98765\u{200b}43210", "XXXXX\u{200b}X3210"),
            ("00919876543210", "XXXXXXXXXX3210"),
            ("९८७६५४३२१०", "XXXXXX३२१०"),
            ("९८७६५ ४३२१०", "XXXXX X३२१०"),
            ("９８７６５４３２１０", "XXXXXX３２１０"),
            ("tid 13192443 98765 43210", "tid 13192443 XXXXX X3210"),
            ("98765 43210, 91234 56789", "XXXXX X3210, XXXXX X6789"),
        ] {
            assert_eq!(scrub(text, &[]), expected);
        }
    }

    #[test]
    fn what_is_no_mobile_number_is_kept() {
        for text in [
            "tid 13192443 of 2026-11-21 09:10:00.000",
            "5050.00 of 5000.00, 50.00 fee",
            "tid 1234567890123456789",
            "limit of 25000 a month, 5000 a day",
            "error 463-2026",
        ] {
            assert_eq!(scrub(text, &[]), text);
        }
    }

    #[test]
    fn a_secret_is_hidden_however_it_is_written() {
        for text in ["OTP 471 123", "OTP 4-7-1-1-2-3", "OTP ४७११२३", "OTP 00471123", "OTP ४७१ १२३"]
        {
            let shown = scrub(text, &["471123"]);
            assert!(!shown.chars().any(char::is_numeric), "{shown}");
        }
        // Too short to be one: hiding it would hide what support needs.
        assert_eq!(scrub("code 302", &["302"]), "code 302");
    }

    #[test]
    fn whatever_could_be_an_otp_is_hidden() {
        assert_eq!(hide_otps("OTP 4711, not 471 or 123456789"), "OTP XXXX, not 471 or 123456789");
        assert_eq!(hide_otps("12345678"), "XXXXXXXX");
        assert_eq!(hide_otps("OTP 123 456 or ४७११"), "OTP XXX XXX or XXXX");
        assert_eq!(hide_otps(""), "");
    }

    #[test]
    fn foreign_text_is_cut_after_it_was_masked_and_never_within_a_number() {
        assert_eq!(scrub(&"é".repeat(5000), &[]).chars().count(), MAX_TEXT);
        for number in ["9876543210", "98765 43210", "471123", "471 123"] {
            for before in MAX_TEXT - 12..=MAX_TEXT {
                let text = format!("{}{number} and more", "é".repeat(before));
                let shown = scrub(&text, &["471123"]);
                assert!(shown.chars().count() <= MAX_TEXT);
                let digits = shown.chars().filter(|c| digit(*c).is_some()).count();
                let whole = number.len() == 10 || number.len() == 11;
                assert!(digits == 0 || (whole && digits == 4), "{before}: {shown}");
                let otps = hide_otps(&scrub(&text, &[]));
                assert!(!otps.contains("47"), "{before}: {otps}");
            }
        }
    }
}
