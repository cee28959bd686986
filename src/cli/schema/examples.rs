//! Examples of commands: the least and the most that one may say, and each other way to say it.

use serde_json::{Value, json};

use crate::command::Kind;

/// A box that `PyNaCl` made, for the key of a unit test of `eko-seal`.
const SEALED: &str = "5Iwh+9iaHZEQ7eHg8SOdOdzVR9zOgI2vgAA066ieE0HR1vmDqjelqsFSS+ciieutVd+bLywo785kFm8nHli5WMS6fUMP\
    oPL8uvQKXIlUgxK9vDDDgaLXIgdz";

/// Commands of a kind, each with a name.
pub(super) fn commands(kind: Kind) -> Vec<(&'static str, Value)> {
    let (least, most) = match kind {
        Kind::RefundOtp => {
            (json!({"tid": "13192443"}), json!({"tid": 13_192_443, "initiator_id": "9962981729"}))
        }
        Kind::Refund => (
            json!({"tid": "13192443", "otp": "123456"}),
            json!({
                "tid": "13192443", "otp": "123456", "otp_ref_id": "zCISyglexo0Pjqp4",
                "user_code": "20810200", "initiator_id": "9962981729",
                "service_code": 80, "state": 1,
            }),
        ),
        Kind::TransferOtp => (
            json!({"recipient_id": 10_019_064, "amount": 500, "customer_id": "9123456789"}),
            json!({
                "recipient_id": "10019064", "amount": 500, "customer_id": "9123456789",
                "user_code": "20810200", "initiator_id": "9962981729",
                "client_ref_id": "ORD-7731",
            }),
        ),
    };
    let (id, name) = (format!("ord-7731-{}", kind.as_str().replace('_', "-")), kind.message_type());
    let with_data = |data| json!({"id": id, "type": name, "data": data});
    let mut examples = vec![("least", with_data(least))];
    if kind == Kind::Refund {
        let sealed = json!({"tid": "13192443", "otp_sealed": SEALED});
        examples.push(("sealed", with_data(sealed)));
    }
    if kind == Kind::TransferOtp {
        let wallet = json!({
            "rail": "ppi-levin", "beneficiary_id": "40367",
            "recipient_id": 10_017_740, "amount": 110, "customer_id": "9123456789",
        });
        examples.push(("wallet", with_data(wallet)));
    }
    let most = json!({
        "specversion": "1.0",
        "id": id,
        "source": "/shop/checkout",
        "type": name,
        "time": "2026-11-21T09:00:00Z",
        "expirytime": "2026-11-21T09:10:00Z",
        "correlationid": "ord-7731",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": most,
    });
    examples.push(("most", most));
    examples
}
