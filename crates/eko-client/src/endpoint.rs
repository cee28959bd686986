//! Eko's endpoints: path, query and body of each call.

use serde::Serialize;
use url::Url;

use eko_core::command::{Command, GivenOtp, Kind, Request};

/// One of the four calls that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The endpoint of a kind.
    Of(Kind),
    /// Transaction Inquiry.
    Inquiry,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 4] = [
        Self::Of(Kind::RefundOtp),
        Self::Of(Kind::Refund),
        Self::Of(Kind::TransferOtp),
        Self::Inquiry,
    ];

    /// The word, as in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Of(kind) => kind.as_str(),
            Self::Inquiry => "inquiry",
        }
    }
}

#[derive(Serialize)]
struct RefundOtpBody<'a> {
    initiator_id: &'a str,
}

#[derive(Serialize)]
struct RefundBody<'a> {
    initiator_id: &'a str,
    user_code: &'a str,
    otp: WireOtp<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    otp_ref_id: Option<&'a str>,
    service_code: u32,
    state: u32,
}

/// An OTP on the wire: the documented integer, unless that would lose a leading zero.
#[derive(Serialize)]
#[serde(untagged)]
enum WireOtp<'a> {
    Number(u32),
    Text(&'a str),
}

impl<'a> WireOtp<'a> {
    fn new(digits: &'a str) -> Self {
        match digits.parse() {
            Ok(number) if !digits.starts_with('0') => Self::Number(number),
            _ => Self::Text(digits),
        }
    }
}

#[derive(Serialize)]
struct TransferOtpBody<'a> {
    initiator_id: &'a str,
    user_code: &'a str,
    client_ref_id: &'a str,
    recipient_id: u64,
    amount: u64,
    customer_id: &'a str,
    #[serde(flatten)]
    wallet: Option<WalletBody<'a>>,
}

/// What the rail of a wallet takes besides.
#[derive(Serialize)]
struct WalletBody<'a> {
    service_code: u32,
    beneficiary_id: &'a str,
}

/// The body of a command's call; `None` for one whose OTP is still sealed.
pub fn body(command: &Command) -> Option<Vec<u8>> {
    let body = match &command.request {
        Request::RefundOtp(data) => {
            serde_json::to_vec(&RefundOtpBody { initiator_id: data.initiator_id.expose() })
        }
        Request::Refund(data) => {
            let GivenOtp::Open(otp) = &data.otp else { return None };
            serde_json::to_vec(&RefundBody {
                initiator_id: data.initiator_id.expose(),
                user_code: &data.user_code,
                otp: WireOtp::new(otp.expose()),
                otp_ref_id: data.otp_ref_id.as_ref().map(|reference| reference.expose()),
                service_code: data.service_code,
                state: data.state,
            })
        }
        Request::TransferOtp(data) => serde_json::to_vec(&TransferOtpBody {
            initiator_id: data.initiator_id.expose(),
            user_code: &data.user_code,
            client_ref_id: &data.client_ref_id,
            recipient_id: data.recipient_id,
            amount: data.amount,
            customer_id: data.customer_id.expose(),
            wallet: data.wallet.as_ref().map(|wallet| WalletBody {
                service_code: wallet.service_code,
                beneficiary_id: &wallet.beneficiary_id,
            }),
        }),
    };
    // A struct of strings and numbers always serialises.
    body.ok()
}

/// The address of a command's call.
pub fn url(base: &Url, command: &Command) -> Url {
    match &command.request {
        Request::RefundOtp(data) => {
            under(base, &["customer", "payment", "refund", &data.tid, "otp"])
        }
        Request::Refund(data) => under(base, &["customer", "payment", "refund", &data.tid]),
        Request::TransferOtp(data) => {
            under(base, &["customer", "payment", data.rail.as_str(), "otp"])
        }
    }
}

/// The address of a Transaction Inquiry by tid.
pub(super) fn inquiry_url(base: &Url, tid: &str, initiator_id: &str, user_code: &str) -> Url {
    let mut url = inquiry_path(base, tid);
    url.query_pairs_mut()
        .append_pair("initiator_id", initiator_id)
        .append_pair("user_code", user_code);
    url
}

/// The same without its query.
pub(super) fn inquiry_path(base: &Url, tid: &str) -> Url {
    under(base, &["tools", "reference", "transaction", tid])
}

fn under(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    // Only an address that cannot be a base has no path, and settings let none through.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use eko_core::command::{Defaults, parse};
    use eko_core::privacy::{Mobile, Otp};

    fn command(body: &str) -> Command {
        let defaults = Defaults {
            initiator_id: Some(Mobile::new("9962981729")),
            user_code: Some("20810200".to_owned()),
        };
        parse(body.as_bytes(), None, &defaults).command.unwrap()
    }

    fn sent(body_of_command: &str) -> (String, serde_json::Value) {
        let base = Url::parse("https://staging.eko.in/ekoapi/v3").unwrap();
        let command = command(body_of_command);
        let body = serde_json::from_slice(&body(&command).unwrap()).unwrap();
        (url(&base, &command).to_string(), body)
    }

    #[test]
    fn a_refund_otp_is_asked_for_as_documented() {
        let (url, body) =
            sent(r#"{"id":"a","type":"eko.refund_otp.request","data":{"tid":"13192443"}}"#);
        assert_eq!(url, "https://staging.eko.in/ekoapi/v3/customer/payment/refund/13192443/otp");
        assert_eq!(body, serde_json::json!({"initiator_id": "9962981729"}));
    }

    #[test]
    fn a_refund_is_asked_for_as_documented() {
        let (url, body) = sent(
            r#"{"id":"a","type":"eko.refund.request","data":{"tid":13192443,"otp":"123456",
                "otp_ref_id":"zCISyglexo0Pjqp4YrS2ssweuD9v1c3aLKGxjTW8wU7An8Wem1UyNws5830yh7q/sf5J4R3BY="}}"#,
        );
        assert_eq!(url, "https://staging.eko.in/ekoapi/v3/customer/payment/refund/13192443");
        let documented = serde_json::json!({
            "initiator_id": "9962981729",
            "user_code": "20810200",
            "otp": 123_456,
            "otp_ref_id": "zCISyglexo0Pjqp4YrS2ssweuD9v1c3aLKGxjTW8wU7An8Wem1UyNws5830yh7q/sf5J4R3BY=",
            "service_code": 80,
            "state": 1,
        });
        assert_eq!(body, documented);
    }

    #[test]
    fn a_sealed_otp_gives_no_body_until_it_is_opened() {
        let sealed = command(
            r#"{"id":"a","type":"eko.refund.request","data":{"tid":"1","otp_sealed":"AAAA"}}"#,
        );
        assert_eq!(body(&sealed), None);
        let opened = body(&sealed.with_otp(Otp::new("123456"))).unwrap();
        assert!(String::from_utf8(opened).unwrap().contains("\"otp\":123456"));
    }

    #[test]
    fn an_otp_with_a_leading_zero_goes_as_a_string() {
        let (_, body) =
            sent(r#"{"id":"a","type":"eko.refund.request","data":{"tid":"1","otp":"012345"}}"#);
        assert_eq!(body["otp"], serde_json::json!("012345"));
        assert_eq!(body.get("otp_ref_id"), None);
    }

    #[test]
    fn a_transfer_otp_is_asked_for_as_documented() {
        let (url, body) = sent(
            r#"{"id":"a","type":"eko.transfer_otp.request","data":{"recipient_id":"98765",
                "amount":500,"customer_id":9123456789,"client_ref_id":"REQ-20260101-001"}}"#,
        );
        assert_eq!(url, "https://staging.eko.in/ekoapi/v3/customer/payment/dmt-fino/otp");
        let documented = serde_json::json!({
            "initiator_id": "9962981729",
            "user_code": "20810200",
            "client_ref_id": "REQ-20260101-001",
            "recipient_id": 98765,
            "amount": 500,
            "customer_id": "9123456789",
        });
        assert_eq!(body, documented);
    }

    #[test]
    fn a_transfer_otp_of_a_wallet_goes_to_its_rail_with_two_fields_more() {
        for rail in ["ppi-digikhata", "ppi-levin"] {
            let (url, body) = sent(&format!(
                r#"{{"id":"a","type":"eko.transfer_otp.request","data":{{"rail":"{rail}",
                    "recipient_id":10017740,"amount":110,"customer_id":"9444444444",
                    "client_ref_id":"REQ-20260101-001","beneficiary_id":40367}}}}"#,
            ));
            let path = format!("https://staging.eko.in/ekoapi/v3/customer/payment/{rail}/otp");
            assert_eq!(url, path);
            let documented = serde_json::json!({
                "initiator_id": "9962981729",
                "user_code": "20810200",
                "client_ref_id": "REQ-20260101-001",
                "recipient_id": 10_017_740,
                "amount": 110,
                "customer_id": "9444444444",
                "service_code": 80,
                "beneficiary_id": "40367",
            });
            assert_eq!(body, documented);
        }
    }

    #[test]
    fn an_inquiry_names_the_tid_and_both_parameters() {
        let base = Url::parse("https://api.eko.in:25002/ekoicici/v3/").unwrap();
        let url = inquiry_url(&base, "13192443", "9962981729", "a b");
        assert_eq!(
            url.as_str(),
            "https://api.eko.in:25002/ekoicici/v3/tools/reference/transaction/13192443?initiator_id=9962981729&user_code=a+b"
        );
    }
}
