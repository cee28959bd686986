//! `data` of each kind as it was given: which fields there are.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::rules;

/// `data` of a `refund_otp` as it was given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundOtpData<'a> {
    /// Eko's id of the failed transfer: a number above 0, which leading zeros do not change.
    #[serde(borrow)]
    #[schemars(with = "rules::Tid")]
    pub(super) tid: Option<&'a RawValue>,
    /// The API user's registered mobile number; else the worker's `EKO_INITIATOR_ID`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::Mobile>")]
    pub(super) initiator_id: Option<&'a RawValue>,
}

/// `data` of a `refund` as it was given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundData<'a> {
    /// Eko's id of the failed transfer: a number above 0, which leading zeros do not change.
    #[serde(borrow)]
    #[schemars(with = "rules::Tid")]
    pub(super) tid: Option<&'a RawValue>,
    /// What the customer read out: required unless `otp_sealed` is given. As a string, where it begins
    /// with 0.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::Otp>")]
    pub(super) otp: Option<&'a RawValue>,
    /// In place of `otp`: a libsodium sealed box for the worker's public key, in base64, of
    /// `{"id": …, "otp": …}` with the command's id.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::OtpSealed>")]
    pub(super) otp_sealed: Option<&'a RawValue>,
    /// The `otp_ref_id` of the event that told of the OTP; counted in bytes.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::OtpRefId>")]
    pub(super) otp_ref_id: Option<&'a RawValue>,
    /// Eko's code of the retailer that the service is run for; else the worker's `EKO_USER_CODE`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::UserCode>")]
    pub(super) user_code: Option<&'a RawValue>,
    /// The API user's registered mobile number; else the worker's `EKO_INITIATOR_ID`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::Mobile>")]
    pub(super) initiator_id: Option<&'a RawValue>,
    /// Eko's fixed code, 80 unless given.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::FixedCode>")]
    pub(super) service_code: Option<&'a RawValue>,
    /// Eko's fixed state, 1 unless given.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::FixedCode>")]
    pub(super) state: Option<&'a RawValue>,
}

/// `data` of a `transfer_otp` as it was given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferOtpData<'a> {
    /// Eko's id of the recipient; no leading 0.
    #[serde(borrow)]
    #[schemars(with = "rules::RecipientId")]
    pub(super) recipient_id: Option<&'a RawValue>,
    /// Whole rupees.
    #[serde(borrow)]
    #[schemars(with = "rules::Amount")]
    pub(super) amount: Option<&'a RawValue>,
    /// The sender's mobile number.
    #[serde(borrow)]
    #[schemars(with = "rules::Mobile")]
    pub(super) customer_id: Option<&'a RawValue>,
    /// Eko's code of the retailer that the service is run for; else the worker's `EKO_USER_CODE`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::UserCode>")]
    pub(super) user_code: Option<&'a RawValue>,
    /// The API user's registered mobile number; else the worker's `EKO_INITIATOR_ID`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::Mobile>")]
    pub(super) initiator_id: Option<&'a RawValue>,
    /// Your reference at Eko; else one made from the command's id.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::ClientRefId>")]
    pub(super) client_ref_id: Option<&'a RawValue>,
    /// Over which rail the transfer is to go; `dmt-fino` unless given.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::Rail>")]
    pub(super) rail: Option<&'a RawValue>,
    /// Eko's id of the recipient's bank account: required for a `ppi` rail, and for no other.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::BeneficiaryId>")]
    pub(super) beneficiary_id: Option<&'a RawValue>,
    /// Eko's fixed code, 80 unless given: for a `ppi` rail only.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::FixedCode>")]
    pub(super) service_code: Option<&'a RawValue>,
}
