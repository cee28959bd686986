//! Commands to publish: valid ones, and edits that make them otherwise.

use serde_json::{Value, json};

/// An OTP that no timestamp and no id resembles, so that a leak is seen.
pub(crate) const OTP: &str = "73519346";
/// The customer's mobile number in transfer commands.
pub(crate) const CUSTOMER: &str = "9123456789";
/// The reference of an OTP; it stays out of logs.
pub(crate) const OTP_REF: &str =
    "zCISyglexo0Pjqp4YrS2ssweuD9v1c3aLKGxjTW8wU7An8Wem1UyNws5830yh7q/sf5J4R3BY=";

/// A command of `kind` with this id and data.
pub(crate) fn command(kind: &str, id: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/it", "type": format!("eko.{kind}.request"),
        "data": data,
    })
}

/// A refund of `tid`.
pub(crate) fn refund(id: &str, tid: &str) -> Value {
    command("refund", id, json!({ "tid": tid, "otp": OTP, "otp_ref_id": OTP_REF }))
}

/// An order for a refund OTP of `tid`.
pub(crate) fn refund_otp(id: &str, tid: &str) -> Value {
    command("refund_otp", id, json!({ "tid": tid }))
}

/// An order for a transfer OTP, told apart by its `client_ref_id`.
pub(crate) fn transfer_otp(id: &str, client_ref_id: &str) -> Value {
    let data = json!({
        "recipient_id": 98765, "amount": 500, "customer_id": CUSTOMER,
        "client_ref_id": client_ref_id,
    });
    command("transfer_otp", id, data)
}

/// Edits of a command, for tables of cases.
pub(crate) trait Edit {
    /// With the value at this JSON pointer set, its last segment new or not.
    fn with(self, pointer: &str, value: Value) -> Value;
    /// With the member at this JSON pointer taken away.
    fn without(self, pointer: &str) -> Value;
}

impl Edit for Value {
    fn with(mut self, pointer: &str, value: Value) -> Value {
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        let parent = self.pointer_mut(parent).and_then(Self::as_object_mut).unwrap();
        parent.insert(member.to_owned(), value);
        self
    }

    fn without(mut self, pointer: &str) -> Value {
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        let parent = self.pointer_mut(parent).and_then(Self::as_object_mut).unwrap();
        parent.remove(member).unwrap_or_else(|| panic!("nothing at {pointer}"));
        self
    }
}

/// A string member of a command or an event.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no string at {pointer} in {value}"))
}
