//! Amounts: whatever form Eko uses, one plain decimal.

use rust_decimal::Decimal;

/// A plain decimal with at least two places; `None` where it is no exact decimal number.
pub(super) fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let decimal = match text.contains(['e', 'E']) {
        true => Decimal::from_scientific(text).ok()?,
        false => Decimal::from_str_exact(text).ok()?,
    };
    let normal = decimal.normalize();
    let places = usize::try_from(normal.scale().max(2)).unwrap_or(2);
    Some(format!("{normal:.places$}"))
}

#[cfg(test)]
mod tests {
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
}
