//! Strings out of JSON that was read before.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The string that a value is, borrowed unless something in it is escaped; `None` for any other
/// value.
pub fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if !quoted.as_bytes().contains(&b'\\') {
        return Some(Cow::Borrowed(quoted));
    }
    serde_json::from_str(raw.get()).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Option<String> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        string(raw).map(Cow::into_owned)
    }

    #[test]
    fn what_is_no_string_is_none() {
        for json in ["5", "-1.5e3", "true", "null", "{}", "[\"a\"]", "{\"a\":\"b\"}"] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn an_escape_that_is_half_a_character_is_none() {
        assert_eq!(read(r#""\ud800""#), None);
    }

    proptest! {
        #[test]
        fn any_string_is_what_serde_reads(text: String, space in "[ \t\n]{0,3}") {
            let plain = serde_json::to_string(&text).unwrap();
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
            let escaped = format!("\"{}\"", units.collect::<String>());
            for json in [plain, escaped] {
                let serdes: String = serde_json::from_str(&json).unwrap();
                prop_assert_eq!(read(&format!("{space}{json}{space}")), Some(serdes));
            }
        }
    }
}
