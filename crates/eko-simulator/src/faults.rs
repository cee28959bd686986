//! The table of misbehaviours: their numbers in tids, their names, what each does.

use std::fmt::Write;

use crate::call::Endpoint::{self, Inquiry, Refund, RefundOtp, TransferOtp};

/// One kind of misbehaviour.
pub(crate) struct Row {
    /// Its three digits in a tid.
    pub(crate) code: u16,
    pub(crate) name: &'static str,
    /// The endpoints that it befalls unless an endpoint is named.
    pub(crate) on: &'static [Endpoint],
    pub(crate) act: Act,
    /// The sentence in `--help`.
    pub(crate) tells: &'static str,
}

/// What is done instead of, or with, the normal answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A refusal with Eko's number.
    Refuse(i64, &'static str),
    /// A refusal that only its text explains: status 1, `response_status_id` -1.
    RefuseText(&'static str),
    /// Status 1, `response_status_id` -2.
    InProgress,
    /// An authentication error: Eko's number in an answer with that HTTP status.
    Auth(u16, i64, &'static str),
    /// An HTTP status with the body that a gateway gives it.
    Http(u16),
    /// Bytes that cannot be read.
    Garble(Garble),
    /// The connection is reset.
    Reset,
    /// No answer, ever.
    Silence,
    /// The call takes effect some time after this answer, or after none.
    Late(Way),
    /// As that, but the request is held on its way: Eko judges its timestamp when it arrives.
    Held(Way),
    /// The refund is taken up, its transaction stays in the first `tx_status`, then gets the second.
    Pending(u8, u8),
    /// The normal answer in another of its known forms.
    Form(Form),
}

/// What a client gets whose call takes effect later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Nothing,
    Reset,
    /// The HTTP status of a gateway.
    Http(u16),
    /// What Eko answers to a copy of a request that has arrived before.
    Copy,
}

/// Ways in which the bytes of an answer are unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Garble {
    Html,
    Empty,
    /// Content-Length is larger than what is sent.
    Truncated,
    /// The JSON ends in the middle, the HTTP message is whole.
    CutJson,
    Huge,
    Slow,
    NotObject,
    NoStatus,
    DuplicateKeys,
    NotUtf8,
}

/// Known forms of answers beside the documented samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Qr,
    RsMinusOne,
    Status2133,
    OtherTypes,
    ExtraFields,
    Claimed,
    ClaimedNull,
    InvalidParams,
    NoOtpRefId,
    TidInvalid,
    ShowsOtp,
    Disagree,
    OtherTid,
    UnknownTx,
    NoTx,
}

/// Which edition of a misbehaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edition {
    /// The call has no effect.
    Plain,
    /// The call takes effect before the misbehaviour.
    Done,
    /// Eko's number stands in `response_status_id`, status is 1.
    Rs,
}

/// A misbehaviour in one edition.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) row: &'static Row,
    pub(crate) edition: Edition,
}

impl Fault {
    /// Finds a fault by its name: a row's, with `_done` or `_rs` for the other editions.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let find = |name: &str| ROWS.iter().find(|row| row.name == name);
        let edition = |row, edition| Some(Self { row, edition });
        if let Some(row) = find(name) {
            return edition(row, Edition::Plain);
        }
        if let Some(row) = name.strip_suffix("_done").and_then(find) {
            return edition(row, Edition::Done);
        }
        let row = name.strip_suffix("_rs").and_then(find)?;
        matches!(row.act, Act::Refuse(..)).then_some(Self { row, edition: Edition::Rs })
    }

    /// The name by which `from_name` finds it.
    pub(crate) fn name(self) -> String {
        let suffix = match self.edition {
            Edition::Plain => "",
            Edition::Done => "_done",
            Edition::Rs => "_rs",
        };
        format!("{}{suffix}", self.row.name)
    }

    /// The fault that a tid asks for at the `nth` call (from 1) of an endpoint.
    pub(crate) fn from_tid(tid: &str, endpoint: Endpoint, nth: u64) -> Option<Self> {
        let (edition, code, times) = digits(tid)?;
        let row = ROWS.iter().find(|row| row.code == code)?;
        let edition = match edition {
            Edition::Rs if !matches!(row.act, Act::Refuse(..)) => return None,
            edition => edition,
        };
        if row.on == [Inquiry] && endpoint == Refund {
            // Without an unclear refund a client would never inquire about this tid.
            return if nth == 1 {
                Self::from_name("http_500").map(|f| Self { edition, ..f })
            } else {
                None
            };
        }
        let due = times == 0 || nth <= times;
        (due && row.on.contains(&endpoint)).then_some(Self { row, edition })
    }
}

/// The `tx_status` with which an unknown tid begins: 3 (refund pending) unless the tid says other.
pub(crate) fn first_tx_status(tid: &str) -> u8 {
    match digits(tid) {
        Some((_, code @ 0..=6, _)) => u8::try_from(code).unwrap_or(3),
        _ => 3,
    }
}

/// Takes `99`, `98` or `97`, three digits of code and one of times from the front of a tid.
fn digits(tid: &str) -> Option<(Edition, u16, u64)> {
    let edition = match tid.get(..2)? {
        "99" => Edition::Plain,
        "98" => Edition::Rs,
        "97" => Edition::Done,
        _ => return None,
    };
    Some((edition, tid.get(2..5)?.parse().ok()?, tid.get(5..6)?.parse().ok()?))
}

/// The chapter of `--help` on tids and faults.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "Transactions\n  Every tid of 1 to 19 digits exists and is in refund pending (tx_status 3). A refund of it\n  \
         is executed with any OTP but 000000 (wrong) and 999999 (expired). A tid is an integer: 007 is 7.\n\n\
         Tids that misbehave (for transfer_otp the recipient_id; inquiries read the tid of their path)\n  \
         99 CCC T …  the call has no effect and is answered as code CCC of the table says\n  \
         98 CCC T …  the same refusal, with Eko's number in response_status_id and status 1\n  \
         97 CCC T …  the call takes effect, then is answered as the table says\n  \
         T is for how many calls of each endpoint: 1 to 9 for the first so many, 0 for every one.\n  \
         9950320001 answers 503 twice, then behaves; 9765210001 refunds, then is silent once.\n  \
         99 00S T …  behaves, but begins with tx_status S (0 to 6) instead of 3\n  \
         Codes from 800 befall inquiries; the first refund of such a tid is answered 500.\n\n\
         For --fault and /control/fault: a name of the table; name_rs is 98, name_done is 97.\n\n",
    );
    for row in ROWS {
        let on: Vec<_> = row.on.iter().map(|endpoint| endpoint.as_str()).collect();
        let on = if row.on == POSTS { "every POST".to_owned() } else { on.join(", ") };
        writeln!(text, "  {:03} {:<20} {} [{on}]", row.code, row.name, row.tells)
            .expect("a String takes every line");
    }
    text.push_str(
        "\nControl, all JSON: POST /control/fault {tid?, endpoint?, fault, times?, after_ms?, probability?,\n  \
         retry_after?}, DELETE /control/faults, GET /control/faults (this table), POST /control/transaction\n  \
         {tid, tx_status, otp?}, /control/latency {ms}, /control/clock {offset_ms}, /control/keys\n  \
         {developer_key, access_key, http?} (the status for others, 401), /control/careless {careless}: a\n  refunded tid is refunded again.\n  \
         GET /state, /state/summary, /state/{tid}.",
    );
    text
}

const POSTS: &[Endpoint] = &[Refund, RefundOtp, TransferOtp];

const fn row(
    code: u16,
    name: &'static str,
    on: &'static [Endpoint],
    act: Act,
    tells: &'static str,
) -> Row {
    Row { code, name, on, act, tells }
}

/// Every row. Refusals have Eko's number where it has three digits, HTTP answers their status.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row(302, "wrong_otp", &[Refund], Act::Refuse(302, "Wrong OTP"), "302 with invalid_params.otp"),
    row(303, "otp_expired", &[Refund], Act::Refuse(303, "OTP expired"), "303"),
    row(347, "insufficient_balance", &[Refund], Act::Refuse(347, "Insufficient balance"), "347"),
    row(168, "tid_not_found", &[Refund, RefundOtp], Act::Refuse(168, "TID does not exist"), "168"),
    row(463, "user_not_found", POSTS, Act::Refuse(463, "User not found"), "463 (transfer_otp: with invalid_params.customer_id)"),
    row(346, "user_code_refused", POSTS, Act::Refuse(346, "User code is not valid"), "346"),
    row(297, "input_refused", POSTS, Act::Refuse(1297, "Input is not valid"), "1297"),
    row(461, "invalid_params", POSTS, Act::Refuse(461, "Invalid params"), "461 with invalid_params"),
    row(36, "sender_limit", &[TransferOtp], Act::Refuse(36, "Sender limit exhausted"), "36"),
    row(945, "beneficiary_limit", &[TransferOtp], Act::Refuse(945, "Beneficiary limit exhausted"), "945"),
    row(314, "monthly_limit", &[TransferOtp], Act::Refuse(314, "Sender monthly limit exhausted"), "314"),
    row(544, "bank_unavailable", POSTS, Act::Refuse(544, "Transaction not processed, bank not available"), "544"),
    row(319, "invalid_sender", POSTS, Act::Refuse(319, "Invalid Sender/Initiator"), "319"),
    row(998, "production_key", POSTS, Act::RefuseText("Kindly use your production key"), "a text only"),
    row(999, "unknown_code", POSTS, Act::Refuse(1999, "Something is not right"), "1999, which no table names"),
    row(720, "already_refunded", &[Refund, RefundOtp], Act::RefuseText("Transaction is already in refunded state."), "a text only"),
    row(721, "not_refundable", &[Refund, RefundOtp], Act::RefuseText("Transaction is not in a refundable state."), "a text only"),
    row(722, "agent_not_allowed", POSTS, Act::RefuseText("Agent not allowed"), "a text only"),
    row(723, "no_key", POSTS, Act::RefuseText("No Key for Response"), "a text only"),
    row(102, "in_progress", POSTS, Act::InProgress, "response_status_id -2, another transaction in progress"),
    row(401, "http_401", POSTS, Act::Auth(401, 2483, "Invalid developer_key"), "HTTP 401, 2483"),
    row(481, "gateway_401", POSTS, Act::Http(401), "HTTP 401, plain text of a gateway"),
    row(484, "bad_signature", POSTS, Act::Auth(401, 2484, "Invalid secret-key"), "HTTP 401, 2484"),
    row(485, "stamp_refused", POSTS, Act::Auth(401, 2485, "secret-key-timestamp is expired or was used before"), "HTTP 401, 2485"),
    row(483, "auth_403", POSTS, Act::Auth(403, 2483, "Invalid developer_key"), "HTTP 403 as older documents say, 2483"),
    row(482, "auth_200", POSTS, Act::Auth(200, 2484, "Invalid secret-key"), "HTTP 200 with status 2484"),
    row(301, "redirect", POSTS, Act::Http(302), "HTTP 302 to the same URL"),
    row(305, "redirect_301", POSTS, Act::Http(301), "HTTP 301 to the same URL"),
    row(307, "redirect_307", POSTS, Act::Http(307), "HTTP 307 to the same URL"),
    row(400, "http_400", POSTS, Act::Http(400), "HTTP 400"),
    row(403, "http_403", POSTS, Act::Http(403), "HTTP 403, plain text of a gateway"),
    row(404, "http_404", POSTS, Act::Http(404), "HTTP 404, plain text of a gateway"),
    row(405, "http_405", POSTS, Act::Http(405), "HTTP 405"),
    row(408, "http_408", POSTS, Act::Http(408), "HTTP 408"),
    row(409, "http_409", POSTS, Act::Http(409), "HTTP 409"),
    row(413, "http_413", POSTS, Act::Http(413), "HTTP 413"),
    row(415, "http_415", POSTS, Act::Http(415), "HTTP 415"),
    row(422, "http_422", POSTS, Act::Http(422), "HTTP 422"),
    row(429, "http_429", POSTS, Act::Http(429), "HTTP 429 with Retry-After: 2"),
    row(500, "http_500", POSTS, Act::Http(500), "HTTP 500"),
    row(502, "http_502", POSTS, Act::Http(502), "HTTP 502, HTML"),
    row(503, "http_503", POSTS, Act::Http(503), "HTTP 503, HTML"),
    row(504, "http_504", POSTS, Act::Http(504), "HTTP 504, HTML"),
    row(601, "html", POSTS, Act::Garble(Garble::Html), "HTTP 200 with HTML"),
    row(602, "empty", POSTS, Act::Garble(Garble::Empty), "HTTP 200 without a body"),
    row(603, "truncated", POSTS, Act::Garble(Garble::Truncated), "Content-Length is larger than what comes"),
    row(604, "cut_json", POSTS, Act::Garble(Garble::CutJson), "half a JSON text"),
    row(605, "huge", POSTS, Act::Garble(Garble::Huge), "a body of 2 MiB (97: around a success)"),
    row(606, "slow", POSTS, Act::Garble(Garble::Slow), "one byte each 100 ms (97: of a success)"),
    row(607, "not_object", POSTS, Act::Garble(Garble::NotObject), "a JSON array"),
    row(608, "no_status", POSTS, Act::Garble(Garble::NoStatus), "an object without status"),
    row(609, "duplicate_keys", POSTS, Act::Garble(Garble::DuplicateKeys), "status twice, 0 and 302"),
    row(610, "not_utf8", POSTS, Act::Garble(Garble::NotUtf8), "bytes that are not UTF-8"),
    row(651, "reset", POSTS, Act::Reset, "the connection is reset"),
    row(652, "silence", POSTS, Act::Silence, "no answer, ever"),
    row(653, "late", POSTS, Act::Late(Way::Nothing), "no answer, takes effect after 2 s (after_ms)"),
    row(654, "late_502", POSTS, Act::Late(Way::Http(502)), "HTTP 502 at once, takes effect after 2 s (after_ms)"),
    row(655, "resent", POSTS, Act::Late(Way::Copy), "a copy came first, this one is answered 401, 2485; the first takes effect after 2 s (after_ms)"),
    row(656, "held", POSTS, Act::Held(Way::Nothing), "no answer; on its way for 2 s (after_ms), executed if its timestamp is accepted then"),
    row(657, "held_reset", POSTS, Act::Held(Way::Reset), "the connection is reset; on its way as 656"),
    row(658, "held_503", POSTS, Act::Held(Way::Http(503)), "HTTP 503, HTML; on its way as 656"),
    row(659, "held_403", POSTS, Act::Held(Way::Http(403)), "HTTP 403, plain text of a gateway; on its way as 656"),
    row(701, "qr", &[Refund, RefundOtp, TransferOtp], Act::Form(Form::Qr), "takes effect, success in the QR edition"),
    row(702, "rs_minus_1", POSTS, Act::Form(Form::RsMinusOne), "takes effect, success with response_status_id -1"),
    row(703, "claimed", POSTS, Act::Form(Form::Claimed), "status 0, data {}"),
    row(704, "claimed_null", POSTS, Act::Form(Form::ClaimedNull), "status 0, data null"),
    row(705, "zero_invalid_params", POSTS, Act::Form(Form::InvalidParams), "status 0 with invalid_params: Wrong TID or OTP {2} {3}"),
    row(706, "awaited", &[Refund], Act::Pending(2, 4), "tx_status 2, after 2 s (after_ms) refunded"),
    row(707, "hold", &[Refund], Act::Pending(5, 4), "tx_status 5, after 2 s (after_ms) refunded"),
    row(708, "response_awaited", &[Refund], Act::Pending(6, 4), "tx_status 6, after 2 s (after_ms) refunded"),
    row(709, "awaited_then_back", &[Refund], Act::Pending(2, 3), "tx_status 2, after 2 s (after_ms) refund pending again"),
    row(710, "hold_for_good", &[Refund], Act::Pending(5, 5), "tx_status 5, stays so"),
    row(711, "no_otp_ref_id", &[RefundOtp, TransferOtp], Act::Form(Form::NoOtpRefId), "takes effect, otp_ref_id is empty"),
    row(712, "tid_invalid", &[RefundOtp], Act::Form(Form::TidInvalid), "status 0 with invalid_params.tid"),
    row(713, "status_2133", &[TransferOtp], Act::Form(Form::Status2133), "takes effect, success as 2133/1/2133"),
    row(714, "other_types", POSTS, Act::Form(Form::OtherTypes), "takes effect, numbers as strings and strings as numbers"),
    row(715, "extra_fields", POSTS, Act::Form(Form::ExtraFields), "takes effect, success with fields that no document names"),
    row(716, "shows_otp", &[RefundOtp], Act::Form(Form::ShowsOtp), "takes effect, the OTP is in the answer, as staging does"),
    row(800, "inquiry_500", &[Inquiry], Act::Http(500), "HTTP 500"),
    row(801, "inquiry_html", &[Inquiry], Act::Garble(Garble::Html), "HTTP 200 with HTML"),
    row(802, "inquiry_empty", &[Inquiry], Act::Garble(Garble::Empty), "HTTP 200 without a body"),
    row(803, "inquiry_reset", &[Inquiry], Act::Reset, "the connection is reset"),
    row(804, "inquiry_silence", &[Inquiry], Act::Silence, "no answer, ever"),
    row(805, "inquiry_429", &[Inquiry], Act::Http(429), "HTTP 429 with Retry-After: 2"),
    row(806, "inquiry_403", &[Inquiry], Act::Http(403), "HTTP 403"),
    row(810, "inquiry_disagrees", &[Inquiry], Act::Form(Form::Disagree), "tx_status differs between top level and data"),
    row(811, "inquiry_other_tid", &[Inquiry], Act::Form(Form::OtherTid), "the answer is about another tid"),
    row(812, "inquiry_unknown_tx", &[Inquiry], Act::Form(Form::UnknownTx), "tx_status 9"),
    row(813, "inquiry_no_tx", &[Inquiry], Act::Form(Form::NoTx), "no tx_status"),
    row(814, "inquiry_qr", &[Inquiry], Act::Form(Form::Qr), "the QR edition: tx_status in both places, tid a number"),
    row(815, "inquiry_rs_minus_1", &[Inquiry], Act::Form(Form::RsMinusOne), "success with response_status_id -1"),
    row(863, "inquiry_user", &[Inquiry], Act::Refuse(463, "User not found"), "463"),
    row(868, "inquiry_none", &[Inquiry], Act::RefuseText("No transaction found"), "a text only"),
    row(869, "inquiry_not_found", &[Inquiry], Act::Refuse(69, "failed!inquired.tx.not.found"), "69 with invalid_params.tid"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(tid: &str, endpoint: Endpoint, nth: u64) -> Option<String> {
        Fault::from_tid(tid, endpoint, nth).map(Fault::name)
    }

    #[test]
    fn codes_and_names_are_unique_and_names_are_found() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!((7..=999).contains(&row.code), "{}", row.name);
            for later in &ROWS[at + 1..] {
                assert_ne!(row.code, later.code);
                assert_ne!(row.name, later.name);
            }
            assert_eq!(Fault::from_name(row.name).unwrap().row.code, row.code);
        }
        assert_eq!(Fault::from_name("wrong_otp_rs").unwrap().edition, Edition::Rs);
        assert_eq!(Fault::from_name("silence_done").unwrap().edition, Edition::Done);
        assert!(Fault::from_name("silence_rs").is_none());
        assert!(Fault::from_name("nonsense").is_none());
    }

    #[test]
    fn a_tid_says_edition_code_and_times() {
        assert_eq!(chosen("9950320001", Refund, 2).as_deref(), Some("http_503"));
        assert_eq!(chosen("9950320001", Refund, 3), None);
        assert_eq!(chosen("9950300001", Refund, 1000).as_deref(), Some("http_503"));
        assert_eq!(chosen("9950320001", Inquiry, 1), None);
        assert_eq!(chosen("9830210001", Refund, 1).as_deref(), Some("wrong_otp_rs"));
        assert_eq!(chosen("9765210001", Refund, 1).as_deref(), Some("silence_done"));
        assert_eq!(chosen("9303200001", Refund, 1), None);
        assert_eq!(chosen("99503", Refund, 1), None, "too short");
        assert_eq!(chosen("9930210001", RefundOtp, 1), None, "not of this endpoint");
    }

    #[test]
    fn an_inquiry_fault_makes_the_first_refund_unclear() {
        assert_eq!(chosen("9980120001", Refund, 1).as_deref(), Some("http_500"));
        assert_eq!(chosen("9780120001", Refund, 1).as_deref(), Some("http_500_done"));
        assert_eq!(chosen("9980120001", Refund, 2), None);
        assert_eq!(chosen("9980120001", Inquiry, 2).as_deref(), Some("inquiry_html"));
        assert_eq!(chosen("9980120001", Inquiry, 3), None);
    }

    #[test]
    fn a_tid_says_its_first_tx_status() {
        assert_eq!(first_tx_status("13192443"), 3);
        assert_eq!(first_tx_status("9900400001"), 4);
        assert_eq!(first_tx_status("9900000001"), 0);
        assert_eq!(first_tx_status("9950300001"), 3);
    }
}
