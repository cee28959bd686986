//! JSON numbers that are whole, in each form that JSON allows: `500`, `500.0` and `5e2`.

use std::borrow::Cow;

/// No field has that many digits, and no exponent may make us write more of them.
const MOST_DIGITS: i64 = 64;

/// The digits of a JSON number that is whole and not below 0, without leading zeros; `None` for
/// any other number, and for what is no number.
pub(super) fn whole(number: &str) -> Option<Cow<'_, str>> {
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Cow::Borrowed(number));
    }
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [before, after].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(Cow::Borrowed("0"));
    }
    // An exponent that 64 bits cannot hold is beyond every limit here.
    let exponent: i64 = exponent.parse().ok()?;
    // How many of the digits stand before the decimal point, zeros that are not written included.
    let point = i64::try_from(before.len()).ok()?.checked_add(exponent)?;
    let is_whole = i64::try_from(significant.len()).ok()? <= point;
    if is_negative || !is_whole || point > MOST_DIGITS {
        return None;
    }
    let width = usize::try_from(point).ok()?;
    let padded = format!("{significant:0<width$}");
    Some(Cow::Owned(padded.trim_start_matches('0').to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_whole_number_has_one_form() {
        for (number, expected) in [
            ("500", Some("500")),
            ("500.0", Some("500")),
            ("5.00", Some("5")),
            ("5e2", Some("500")),
            ("5E+2", Some("500")),
            ("0.5e1", Some("5")),
            ("50000e-2", Some("500")),
            ("1.5e1", Some("15")),
            ("0", Some("0")),
            ("-0", Some("0")),
            ("0e99999999999999999999", Some("0")),
            ("9999999999999999999.0", Some("9999999999999999999")),
            ("1.5", None),
            ("5e-1", None),
            ("-5", None),
            ("1e65", None),
            ("1e99999999999999999999", None),
            ("1e9223372036854775807", None),
            ("1e-9223372036854775808", None),
            ("true", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(whole(number).as_deref(), expected, "{number}");
        }
        assert_eq!(whole("1e63").unwrap().len(), 64);
    }

    proptest! {
        #[test]
        fn a_whole_number_is_the_same_however_it_is_written(n: u64, zeros in 0_usize..9) {
            let (text, padding) = (n.to_string(), "0".repeat(zeros));
            let read = |number: String| whole(&number).map(Cow::into_owned);
            prop_assert_eq!(read(format!("{text}.{padding}0")), Some(text.clone()));
            prop_assert_eq!(read(format!("{text}{padding}e-{zeros}")), Some(text.clone()));
            prop_assert_eq!(read(format!("{text}.{padding}5")), None);
            if n % 10 != 0 {
                prop_assert_eq!(read(format!("{text}e-1")), None);
            }
        }
    }
}
