//! What a request is about: which endpoint, which transaction.

use axum::http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

/// The calls of Eko that the simulator answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Endpoint {
    /// `POST …/customer/payment/refund/{tid}`
    Refund,
    /// `POST …/customer/payment/refund/{tid}/otp`
    RefundOtp,
    /// `POST …/customer/payment/{rail}/otp`
    TransferOtp,
    /// `GET …/tools/reference/transaction/{tid}`
    Inquiry,
}

impl Endpoint {
    /// All endpoints, in the order of their counters.
    pub(crate) const ALL: [Self; 4] =
        [Self::Refund, Self::RefundOtp, Self::TransferOtp, Self::Inquiry];

    /// The name that `/state`, faults and log lines use.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::RefundOtp => "refund_otp",
            Self::TransferOtp => "transfer_otp",
            Self::Inquiry => "inquiry",
        }
    }

    /// The endpoint of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.as_str() == name)
    }
}

/// One request as it came in, whole.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    /// The header names as they were on the wire, in order.
    pub(crate) names: Vec<String>,
    pub(crate) body: Vec<u8>,
}

/// Where a request leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// To an endpoint; the reference is the tid or the rail of the path.
    To(Endpoint, &'a str),
    /// To an endpoint, with a method that it does not know.
    WrongMethod(Endpoint),
    /// Nowhere.
    Nowhere,
}

/// The rails of transfers; all but the first are wallets.
const RAILS: [&str; 3] = ["dmt-fino", "ppi-digikhata", "ppi-levin"];

/// Whether the reference of a transfer OTP is the rail of a wallet.
pub(crate) fn is_wallet(reference: &str) -> bool {
    RAILS[1..].contains(&reference)
}

/// Finds the endpoint behind a path with any prefix that ends in `/v3`.
pub(crate) fn route<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let Some((_, rest)) = path.split_once("/v3/") else {
        return Route::Nowhere;
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let (endpoint, reference) = match parts[..] {
        ["customer", "payment", "refund", tid] if !tid.is_empty() => (Endpoint::Refund, tid),
        ["customer", "payment", "refund", tid, "otp"] => (Endpoint::RefundOtp, tid),
        ["customer", "payment", rail, "otp"] if RAILS.contains(&rail) => {
            (Endpoint::TransferOtp, rail)
        }
        ["tools", "reference", "transaction", reference] => (Endpoint::Inquiry, reference),
        _ => return Route::Nowhere,
    };
    let wanted = if endpoint == Endpoint::Inquiry { Method::GET } else { Method::POST };
    if *method == wanted { Route::To(endpoint, reference) } else { Route::WrongMethod(endpoint) }
}

/// Whether a text can be a tid: 1 to 19 digits.
pub(crate) fn is_tid(text: &str) -> bool {
    (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A tid as Eko reads it: an integer, so without leading zeros. Other texts stay as they are.
pub(crate) fn as_integer(text: &str) -> &str {
    if !is_tid(text) {
        return text;
    }
    match text.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tid_is_an_integer() {
        for text in ["3100000013", "03100000013", "003100000013"] {
            assert_eq!(as_integer(text), "3100000013");
        }
        assert_eq!(as_integer("000"), "0");
        assert_eq!(as_integer("client_ref_id:007"), "client_ref_id:007");
    }

    #[test]
    fn any_prefix_that_ends_in_v3_is_a_base() {
        for base in ["/v3", "/ekoapi/v3", "/a/b/v3"] {
            let path = format!("{base}/customer/payment/refund/13192443/otp");
            assert_eq!(route(&Method::POST, &path), Route::To(Endpoint::RefundOtp, "13192443"));
            let path = format!("{base}/customer/payment/refund/13192443");
            assert_eq!(route(&Method::POST, &path), Route::To(Endpoint::Refund, "13192443"));
            for rail in RAILS {
                let path = format!("{base}/customer/payment/{rail}/otp");
                assert_eq!(route(&Method::POST, &path), Route::To(Endpoint::TransferOtp, rail));
            }
            let path = format!("{base}/tools/reference/transaction/1");
            assert_eq!(route(&Method::GET, &path), Route::To(Endpoint::Inquiry, "1"));
            assert_eq!(route(&Method::POST, &path), Route::WrongMethod(Endpoint::Inquiry));
        }
        assert_eq!(route(&Method::POST, "/v2/customer/payment/refund/1"), Route::Nowhere);
        assert_eq!(route(&Method::POST, "/v3/customer/payment/refund/1/otp/"), Route::Nowhere);
        assert_eq!(route(&Method::POST, "/v3/customer/payment/dmt/otp"), Route::Nowhere);
    }
}
