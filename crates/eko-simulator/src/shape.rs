//! Whether a request has exactly the documented shape of its endpoint.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use url::form_urlencoded;

use crate::call::{self, Endpoint};

/// What is wrong, by field.
pub(crate) type Problems = Vec<(String, &'static str)>;

/// A rule for one field: the reason against a value, if there is one.
type Rule = fn(&Value) -> Option<&'static str>;

/// A documented field: its name, whether it must be there, its rule.
type Field = (&'static str, bool, Rule);

/// A JSON object with its fields in order and duplicates kept, so that duplicates can be refused.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(String, Value)>);

impl Fields {
    /// The value of a field as text: digits alike whether they came as a string or as a number.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    fields.push(pair);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Reads the body of a POST and checks it; what it may hold depends on tid or rail, too.
pub(crate) fn body(endpoint: Endpoint, reference: &str, bytes: &[u8]) -> Result<Fields, Problems> {
    let fields: Fields = serde_json::from_slice(bytes)
        .map_err(|_| vec![("body".to_owned(), "is not a JSON object")])?;
    checked(fields, documented(endpoint, reference))
}

/// Reads the query of an inquiry and checks it.
pub(crate) fn query(text: &str) -> Result<Fields, Problems> {
    let pairs = form_urlencoded::parse(text.as_bytes());
    let fields =
        pairs.map(|(key, value)| (key.into_owned(), Value::String(value.into_owned()))).collect();
    checked(Fields(fields), documented(Endpoint::Inquiry, ""))
}

fn checked(fields: Fields, documented: &[Field]) -> Result<Fields, Problems> {
    let mut problems = Problems::new();
    for (at, (key, value)) in fields.0.iter().enumerate() {
        let rule = documented.iter().find(|(name, ..)| name == key).map(|(_, _, rule)| rule);
        let reason = match rule {
            _ if fields.0[..at].iter().any(|(earlier, _)| earlier == key) => Some("is there twice"),
            Some(rule) => rule(value),
            None if key == "client_ref_id" => Some("must not be sent here"),
            None => Some("is not documented"),
        };
        problems.extend(reason.map(|reason| (key.clone(), reason)));
    }
    for (name, required, _) in documented {
        if *required && !fields.0.iter().any(|(key, _)| key == name) {
            problems.push(((*name).to_owned(), "is missing"));
        }
    }
    if problems.is_empty() { Ok(fields) } else { Err(problems) }
}

/// The documented fields of an endpoint.
fn documented(endpoint: Endpoint, reference: &str) -> &'static [Field] {
    match endpoint {
        Endpoint::RefundOtp => &[("initiator_id", true, mobile)],
        Endpoint::Refund => &[
            ("initiator_id", true, mobile),
            ("user_code", true, user_code),
            ("otp", true, otp),
            ("otp_ref_id", false, text),
            ("service_code", false, whole_number),
            ("state", false, whole_number),
        ],
        Endpoint::TransferOtp if call::is_wallet(reference) => &[
            ("initiator_id", true, mobile),
            ("user_code", false, user_code),
            ("customer_id", true, mobile),
            ("recipient_id", true, whole_number),
            ("amount", true, above_zero),
            ("client_ref_id", false, self::reference),
            ("service_code", true, whole_number),
            ("beneficiary_id", true, digits),
        ],
        Endpoint::TransferOtp => &[
            ("initiator_id", true, mobile),
            ("user_code", true, user_code),
            ("customer_id", true, mobile),
            ("recipient_id", true, whole_number),
            ("amount", true, above_zero),
            ("client_ref_id", false, self::reference),
        ],
        Endpoint::Inquiry => &[("initiator_id", true, mobile), ("user_code", true, user_code)],
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn mobile(value: &Value) -> Option<&'static str> {
    match value.as_str() {
        None => Some("is not a string"),
        Some(text) if text.len() == 10 && all_digits(text) => None,
        Some(_) => Some("is not 10 digits"),
    }
}

fn user_code(value: &Value) -> Option<&'static str> {
    match value.as_str() {
        None => Some("is not a string"),
        Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric()) => None,
        Some(_) => Some("is not a user code"),
    }
}

/// An OTP is an integer; only one that begins with 0, which no JSON number can, is a string.
fn otp(value: &Value) -> Option<&'static str> {
    let (digits, is_string) = match value {
        Value::Number(number) => (number.to_string(), false),
        Value::String(text) => (text.clone(), true),
        _ => return Some("is not an integer"),
    };
    if is_string != digits.starts_with('0') {
        return Some("is not an integer");
    }
    let fits = (4..=8).contains(&digits.len()) && all_digits(&digits);
    (!fits).then_some("is not 4 to 8 digits")
}

fn text(value: &Value) -> Option<&'static str> {
    match value.as_str() {
        None => Some("is not a string"),
        Some("") => Some("is empty"),
        Some(_) => None,
    }
}

fn whole_number(value: &Value) -> Option<&'static str> {
    // The text tells 80 from 80.0 and 8e1, which a client that computes amounts may send.
    (!(value.is_number() && all_digits(&value.to_string()))).then_some("is not a whole number")
}

fn above_zero(value: &Value) -> Option<&'static str> {
    whole_number(value)
        .or_else(|| (value.to_string().trim_matches('0').is_empty()).then_some("is not above 0"))
}

fn digits(value: &Value) -> Option<&'static str> {
    match value.as_str() {
        None => Some("is not a string"),
        Some(text) if !text.is_empty() && all_digits(text) => None,
        Some(_) => Some("is not digits"),
    }
}

fn reference(value: &Value) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match value.as_str() {
        None => Some("is not a string"),
        Some(text) if (1..=20).contains(&text.len()) && text.bytes().all(allowed) => None,
        Some(_) => Some("is not 1 to 20 of A-Z a-z 0-9 _ -"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUND: &str = r#"{"initiator_id":"9962981729","user_code":"20810200","otp":123456,
        "otp_ref_id":"zCISyglexo0Pjqp4YrS2ssweuD9v1c3aLKGxjTW8wU7An8Wem1UyNws5830yh7q/sf5J4R3BY=",
        "service_code":80,"state":1}"#;
    const TRANSFER: &str = r#"{"initiator_id":"9962981729","user_code":"20810200",
        "client_ref_id":"REQ-20260101-001","recipient_id":98765,"amount":500,
        "customer_id":"9123456789"}"#;

    fn named(endpoint: Endpoint, json: &str) -> Vec<String> {
        of_reference(endpoint, "", json)
    }

    fn of_reference(endpoint: Endpoint, reference: &str, json: &str) -> Vec<String> {
        let problems = body(endpoint, reference, json.as_bytes()).err().unwrap_or_default();
        problems.into_iter().map(|(field, reason)| format!("{field} {reason}")).collect()
    }

    #[test]
    fn the_documented_examples_are_accepted() {
        assert_eq!(
            named(Endpoint::RefundOtp, r#"{"initiator_id":"9962981729"}"#),
            [""; 0],
            "Get Refund OTP"
        );
        assert_eq!(named(Endpoint::Refund, REFUND), [""; 0], "Initiate Refund");
        assert_eq!(named(Endpoint::TransferOtp, TRANSFER), [""; 0], "Send Transaction OTP");
        assert!(query("initiator_id=9962981729&user_code=20810200").is_ok());
    }

    #[test]
    fn a_refund_of_another_shape_names_its_field() {
        for (from, to, wanted) in [
            ("\"9962981729\"", "9962981729", "initiator_id is not a string"),
            ("\"20810200\"", "20810200", "user_code is not a string"),
            ("123456", "\"123456\"", "otp is not an integer"),
            ("123456", "123.5", "otp is not 4 to 8 digits"),
            ("123456", "123", "otp is not 4 to 8 digits"),
            ("123456", "true", "otp is not an integer"),
            ("80", "\"80\"", "service_code is not a whole number"),
            ("80", "80.0", "service_code is not a whole number"),
            ("\"state\":1", "\"state\":\"1\"", "state is not a whole number"),
            ("\"state\":1", "\"state\":1,\"state\":1", "state is there twice"),
            (
                "\"state\"",
                "\"client_ref_id\":\"x\",\"state\"",
                "client_ref_id must not be sent here",
            ),
            ("\"state\"", "\"stat\"", "stat is not documented"),
            ("\"otp\":123456,", "", "otp is missing"),
        ] {
            assert!(REFUND.contains(from), "{from}");
            assert_eq!(named(Endpoint::Refund, &REFUND.replace(from, to)), [wanted]);
        }
        let leading_zero = REFUND.replace("123456", "\"012345\"");
        assert_eq!(named(Endpoint::Refund, &leading_zero), [""; 0]);
    }

    #[test]
    fn a_transfer_otp_of_another_shape_names_its_field() {
        for (from, to, wanted) in [
            ("500", "\"500\"", "amount is not a whole number"),
            ("500", "500.5", "amount is not a whole number"),
            ("500", "-5", "amount is not a whole number"),
            ("500", "0", "amount is not above 0"),
            ("98765", "\"98765\"", "recipient_id is not a whole number"),
            ("9123456789", "912345678", "customer_id is not 10 digits"),
            ("REQ-20260101-001", "REQ 1", "client_ref_id is not 1 to 20 of A-Z a-z 0-9 _ -"),
        ] {
            assert!(TRANSFER.contains(from), "{from}");
            assert_eq!(named(Endpoint::TransferOtp, &TRANSFER.replace(from, to)), [wanted]);
        }
    }

    #[test]
    fn a_transfer_otp_of_a_wallet_has_two_fields_more() {
        let wallet = TRANSFER
            .replace("\"amount\"", "\"service_code\":80,\"beneficiary_id\":\"40367\",\"amount\"");
        for rail in ["ppi-digikhata", "ppi-levin"] {
            let named = |json: &str| of_reference(Endpoint::TransferOtp, rail, json);
            assert_eq!(named(&wallet), [""; 0]);
            assert_eq!(named(&wallet.replace("\"user_code\":\"20810200\",", "")), [""; 0]);
            assert_eq!(named(TRANSFER), ["service_code is missing", "beneficiary_id is missing"]);
            for (from, to, wanted) in [
                ("\"40367\"", "40367", "beneficiary_id is not a string"),
                ("\"40367\"", "\"4a\"", "beneficiary_id is not digits"),
                (":80", ":\"80\"", "service_code is not a whole number"),
            ] {
                assert_eq!(named(&wallet.replace(from, to)), [wanted]);
            }
        }
        let refused = ["service_code is not documented", "beneficiary_id is not documented"];
        assert_eq!(of_reference(Endpoint::TransferOtp, "dmt-fino", &wallet), refused);
    }

    #[test]
    fn an_otp_request_has_one_field_and_an_inquiry_two() {
        let both = r#"{"initiator_id":"9962981729","user_code":"20810200"}"#;
        assert_eq!(named(Endpoint::RefundOtp, both), ["user_code is not documented"]);
        assert_eq!(named(Endpoint::RefundOtp, "[]"), ["body is not a JSON object"]);
        let problems = query("initiator_id=9962981729").unwrap_err();
        assert_eq!(problems, [("user_code".to_owned(), "is missing")]);
    }
}
