//! Amounts: whatever form Eko uses, one plain decimal.

use rust_decimal::Decimal;

/// More digits than any amount has, and few enough for any decimal type.
const MAX_DIGITS: usize = 20;

/// A plain decimal with at least two places; `None` where it is no exact decimal number.
pub(super) fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    written_out(text).or_else(|| computed(text))
}

/// Digits with or without places need not be computed, only written out.
fn written_out(text: &str) -> Option<String> {
    let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(places) || text.len() > MAX_DIGITS {
        return None;
    }
    let significant = whole.trim_start_matches('0');
    let whole = if significant.is_empty() { "0" } else { significant };
    let places = places.trim_end_matches('0');
    let mut plain = String::with_capacity(MAX_DIGITS + 3);
    plain.push_str(whole);
    plain.push('.');
    plain.push_str(places);
    plain.push_str("00".get(places.len()..).unwrap_or_default());
    Some(plain)
}

fn computed(text: &str) -> Option<String> {
    let decimal = if text.contains(['e', 'E']) {
        Decimal::from_scientific(text).ok()?
    } else {
        Decimal::from_str_exact(text).ok()?
    };
    let normal = decimal.normalize();
    let places = usize::try_from(normal.scale().max(2)).unwrap_or(2);
    Some(format!("{normal:.places$}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_seen_becomes_one() {
        for (given, expected) in [
            ("5000.00", "5000.00"),
            ("50.0", "50.00"),
            ("7.1", "7.10"),
            ("499", "499.00"),
            ("1045.0", "1045.00"),
            ("28.385", "28.385"),
            ("2.22263731286E9", "2222637312.86"),
            ("5e3", "5000.00"),
            ("0", "0.00"),
            ("0.00", "0.00"),
            ("007.10", "7.10"),
            ("-12.5", "-12.50"),
            (" 12.50 ", "12.50"),
        ] {
            assert_eq!(plain(given).as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for given in ["", "abc", "1,000.00", "NaN", "1e99", "--1", "₹5"] {
            assert_eq!(plain(given), None, "{given}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_out_would_have_been_computed_the_same(
            text in "-?[0-9]{0,21}[.]?[0-9]{0,4}",
        ) {
            if let Some(plain) = written_out(&text) {
                prop_assert_eq!(Some(plain), computed(&text));
            }
        }
    }
}
