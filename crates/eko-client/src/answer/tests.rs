//! Each row of the answer tables with its fixture (`tests/fixtures/eko`). What a row means is
//! written down here by hand, from Eko's documents and what was observed of it.

#![expect(clippy::too_many_lines, reason = "a table is as long as what it lists")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use eko_core::command::{Defaults, parse};
use eko_core::privacy::Mobile;
use eko_core::verdict::Reading;

const TID: &str = "13192443";

fn command(kind: Kind) -> Command {
    let body = match kind {
        Kind::RefundOtp => {
            r#"{"id":"a","type":"eko.refund_otp.request","data":{"tid":"13192443"}}"#
        }
        Kind::Refund => {
            r#"{"id":"a","type":"eko.refund.request","data":{"tid":"13192443","otp":"123456"}}"#
        }
        Kind::TransferOtp => {
            r#"{"id":"a","type":"eko.transfer_otp.request","data":{"recipient_id":98765,
                "amount":500,"customer_id":"9123456789","client_ref_id":"REQ-20260101-001"}}"#
        }
    };
    let defaults = Defaults {
        initiator_id: Some(Mobile::new("9962981729")),
        user_code: Some("20810200".to_owned()),
    };
    parse(body.as_bytes(), None, &defaults).command.unwrap()
}

fn with_own_account(kind: Kind) -> Command {
    let mut command = command(kind);
    command.has_own_account = true;
    command
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/eko").join(name)
}

fn answered(folder_name: &str, file: &str, status: u16) -> HttpAnswer {
    let body = std::fs::read(folder(folder_name).join(file)).unwrap();
    HttpAnswer { status, after: None, body: Some(body) }
}

/// A verdict in a few words; an unlisted answer ends with `?`.
fn words(read: &Read<Verdict>) -> String {
    let words = match &read.meaning {
        Verdict::Done(..) => "done".to_owned(),
        Verdict::Refused(refusal) => format!("refused {}", refusal.problem.code.as_str()),
        Verdict::NotNow { cause, .. } => format!("not now {}", cause.as_str()),
        Verdict::Unclear { cause, fallback, .. } => {
            let then = match fallback {
                Fallback::Repeat => "repeat".to_owned(),
                Fallback::Wait => "wait".to_owned(),
                Fallback::Refuse(refusal) => format!("refuse {}", refusal.problem.code.as_str()),
            };
            format!("unclear {}, else {then}", cause.as_str())
        }
    };
    if read.is_known { words } else { format!("{words}?") }
}

/// Checks a table against its folder, both ways: each row holds, and no fixture is unused.
fn check(folder_name: &str, rows: &[(&str, u16, &str)], read: impl Fn(&HttpAnswer) -> String) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|&(file, status, expected)| {
            let got = read(&answered(folder_name, file, status));
            (got != expected).then(|| format!("{file} {status}: {got}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let used: BTreeSet<String> = rows.iter().map(|row| row.0.to_owned()).collect();
    let there: BTreeSet<String> = std::fs::read_dir(folder(folder_name))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(used, there);
}

#[test]
fn every_answer_to_a_refund_has_its_verdict() {
    const WAIT: &str = "unclear bad_response, else wait";
    const PENDING: &str = "unclear pending, else wait";
    const AWAY: &str = "unclear eko_unavailable, else repeat";
    const UNREADABLE: &str = "unclear bad_response, else repeat";
    let command = command(Kind::Refund);
    check(
        "refund",
        &[
            ("done.json", 200, "done"),
            ("done.json", 201, "done"),
            ("done_with_minus_one.json", 200, "done"),
            ("done_with_tx_status.json", 200, "done"),
            ("done_types_swapped.json", 200, "done"),
            ("done_unreadable_amount.json", 200, "done"),
            ("done_extra_fields.json", 200, "done"),
            ("done_qr.json", 200, "done"),
            ("invalid_params_otp.json", 200, "unclear bad_response, else refuse wrong_otp"),
            ("invalid_params_other.json", 200, "unclear bad_response, else refuse invalid_params"),
            (
                "invalid_parameters_spelling.json",
                200,
                "unclear bad_response, else refuse wrong_otp",
            ),
            ("invalid_params_yet_refunded.json", 200, WAIT),
            ("claimed_no_data.json", 200, WAIT),
            ("claimed_data_null.json", 200, WAIT),
            ("claimed_data_empty.json", 200, WAIT),
            ("claimed_refund_tid_empty.json", 200, WAIT),
            ("another_tid.json", 200, WAIT),
            ("initiated_by_status_id.json", 200, PENDING),
            ("refund_initiated_by_status_id.json", 200, PENDING),
            ("on_hold_by_status_id.json", 200, PENDING),
            ("tx_status_2_in_data.json", 200, PENDING),
            ("tx_status_3_in_data.json", 200, PENDING),
            ("tx_status_5_in_data.json", 200, PENDING),
            ("tx_status_6_in_data.json", 200, PENDING),
            ("tx_status_9_in_data.json", 200, PENDING),
            ("tx_status_2_on_top.json", 200, PENDING),
            ("tx_status_disagree.json", 200, PENDING),
            ("tx_status_no_number.json", 200, PENDING),
            ("status_id_unknown.json", 200, "unclear bad_response, else wait?"),
            ("wrong_otp_in_status.json", 200, "refused wrong_otp"),
            ("wrong_otp_in_status_id.json", 200, "refused wrong_otp"),
            ("otp_expired_in_status.json", 200, "refused otp_expired"),
            ("otp_expired_in_status_id.json", 200, "refused otp_expired"),
            ("insufficient_balance_in_status.json", 200, "refused insufficient_balance"),
            ("insufficient_balance_in_status_id.json", 200, "refused insufficient_balance"),
            ("tid_not_found_in_status.json", 200, "refused tid_not_found"),
            ("tid_not_found_in_status_id.json", 200, "refused tid_not_found"),
            ("tid_69_in_status.json", 200, "refused tid_not_found"),
            ("tid_69_in_status_id.json", 200, "refused tid_not_found"),
            ("user_not_found_in_status.json", 200, "refused user_not_found"),
            ("user_not_found_in_status_id.json", 200, "refused user_not_found"),
            ("code_346_in_status.json", 200, "refused agent_not_allowed"),
            ("code_346_in_status_id.json", 200, "refused agent_not_allowed"),
            ("code_1297_in_status.json", 200, "refused agent_not_allowed"),
            ("code_1297_in_status_id.json", 200, "refused agent_not_allowed"),
            ("code_461_in_status.json", 200, "refused invalid_params"),
            ("code_461_in_status_id.json", 200, "refused invalid_params"),
            ("code_461_of_otp.json", 200, "refused wrong_otp"),
            ("agent_not_allowed.json", 200, "refused agent_not_allowed"),
            ("no_key_for_response.json", 200, "refused eko_refused"),
            ("already_refunded.json", 200, WAIT),
            ("not_refundable.json", 200, "unclear bad_response, else refuse not_refundable"),
            ("in_progress.json", 200, "unclear in_progress, else repeat"),
            ("in_progress_status_0.json", 200, "unclear in_progress, else repeat"),
            ("bank_not_available.json", 200, "unclear bank_unavailable, else repeat"),
            ("bank_not_available_in_status_id.json", 200, "unclear bank_unavailable, else repeat"),
            ("invalid_initiator.json", 200, "unclear misconfigured, else repeat"),
            ("production_key.json", 200, "unclear unauthorized, else repeat"),
            ("auth_2483.json", 401, "unclear unauthorized, else repeat"),
            ("auth_2484.json", 401, "unclear unauthorized, else repeat"),
            ("auth_2484.json", 500, "unclear unauthorized, else repeat"),
            ("auth_2485.json", 401, "unclear clock, else repeat"),
            ("auth_2485.json", 403, "unclear clock, else repeat"),
            ("auth_2486.json", 401, "unclear clock, else repeat"),
            ("auth_2487.json", 401, "unclear unauthorized, else repeat"),
            ("unknown_code.json", 200, "unclear bad_response, else refuse eko_refused?"),
            ("unknown_code_2133.json", 200, "unclear bad_response, else refuse eko_refused?"),
            ("generic_failure.json", 200, "unclear bad_response, else refuse eko_refused?"),
            ("refused_yet_refunded.json", 200, WAIT),
            ("refused_yet_tx_4.json", 200, WAIT),
            ("refused_yet_tx_2.json", 200, PENDING),
            ("refused_of_another_tid.json", 200, "unclear bad_response, else refuse wrong_otp"),
            ("bank_not_available_yet_tx_4.json", 200, "unclear bank_unavailable, else wait"),
            ("bank_not_available_yet_tx_2.json", 200, "unclear bank_unavailable, else wait"),
            ("invalid_initiator_yet_refunded.json", 200, "unclear misconfigured, else wait"),
            ("unknown_code_yet_refunded.json", 200, "unclear bad_response, else wait?"),
            ("auth_2485_yet_tx_4.json", 401, "unclear clock, else wait"),
            ("in_progress_yet_tx_2.json", 200, "unclear in_progress, else wait"),
            ("not_refundable_tx_0.json", 200, "unclear bad_response, else refuse not_refundable"),
            ("generic_failure_tx_0.json", 200, "unclear bad_response, else wait?"),
            ("claimed_refund_tid_zero.json", 200, WAIT),
            ("claimed_refund_tid_template.json", 200, WAIT),
            ("claimed_refund_tid_on_top.json", 200, WAIT),
            ("done_template_with_tx_status.json", 200, "done"),
            ("page.html", 200, AWAY),
            ("page.html", 500, "unclear eko_unavailable, else repeat"),
            ("page.html", 502, "unclear eko_unavailable, else repeat"),
            ("done.json", 503, "unclear eko_unavailable, else wait"),
            ("done.json", 301, "unclear misconfigured, else wait"),
            ("done.json", 403, "unclear unauthorized, else wait"),
            ("done.json", 404, "unclear misconfigured, else wait"),
            ("done.json", 422, "unclear bad_response, else wait?"),
            (
                "user_not_found_in_status.json",
                403,
                "unclear bad_response, else refuse user_not_found",
            ),
            (
                "code_346_in_status_id.json",
                404,
                "unclear bad_response, else refuse agent_not_allowed",
            ),
            ("refused_yet_refunded.json", 403, WAIT),
            ("already_refunded.json", 403, "unclear unauthorized, else repeat"),
            ("user_not_found_in_status.json", 503, "unclear eko_unavailable, else repeat"),
            ("user_not_found_in_status.json", 429, "unclear rate_limited, else repeat"),
            ("done.json", 429, "unclear rate_limited, else wait"),
            ("empty.txt", 200, AWAY),
            ("truncated.json", 200, WAIT),
            ("array.json", 200, UNREADABLE),
            ("string.json", 200, AWAY),
            ("status_missing.json", 200, WAIT),
            ("status_no_number.json", 200, WAIT),
            ("status_twice.json", 200, WAIT),
            ("refund_tid_twice.json", 200, WAIT),
            ("threescale.txt", 403, "unclear unauthorized, else repeat"),
            ("threescale.txt", 401, "unclear unauthorized, else repeat"),
            ("no_mapping_rule.txt", 404, "unclear misconfigured, else repeat"),
            ("empty.txt", 405, "unclear misconfigured, else repeat"),
            ("empty.txt", 415, "unclear misconfigured, else repeat"),
            ("empty.txt", 301, "unclear misconfigured, else repeat"),
            ("empty.txt", 302, "unclear misconfigured, else repeat"),
            ("empty.txt", 307, "unclear misconfigured, else repeat"),
            ("limits_exceeded.txt", 429, "unclear rate_limited, else repeat"),
            ("empty.txt", 400, "unclear bad_response, else repeat?"),
            ("empty.txt", 408, "unclear bad_response, else repeat?"),
            ("empty.txt", 409, "unclear bad_response, else repeat?"),
            ("empty.txt", 413, "unclear bad_response, else repeat?"),
            ("empty.txt", 422, "unclear bad_response, else repeat?"),
            ("empty.txt", 425, "unclear bad_response, else repeat?"),
        ],
        |http| words(&verdict(&command, http)),
    );
}

#[test]
fn a_refused_account_is_the_command_s_own_fault_where_it_named_it() {
    let answer = |status: u16, code: &str| HttpAnswer {
        status,
        after: None,
        body: Some(format!("{{{code},\"message\":\"Invalid Initiator\"}}").into_bytes()),
    };
    let (plain, beside) = (r#""status":319"#, r#""status":1,"response_status_id":319"#);
    for (status, code) in [(200, plain), (403, plain), (500, plain), (200, beside)] {
        for kind in Kind::ALL {
            let answer = answer(status, code);
            let ours = words(&verdict(&command(kind), &answer));
            let own = with_own_account(kind);
            let expected = match kind {
                Kind::Refund => "unclear misconfigured, else refuse invalid_params",
                Kind::RefundOtp | Kind::TransferOtp => "refused invalid_params",
            };
            assert_eq!(words(&verdict(&own, &answer)), expected, "{kind:?} {status} {code}");
            assert!(ours.contains("misconfigured") && !ours.contains("refuse "), "{ours}");
        }
    }
    let refunded = answer(200, r#""status":319,"data":{"refund_tid":"2147591637"}"#);
    let own = with_own_account(Kind::Refund);
    assert_eq!(words(&verdict(&own, &refunded)), "unclear misconfigured, else wait");
}

#[test]
fn every_answer_to_a_refund_otp_has_its_verdict() {
    let command = command(Kind::RefundOtp);
    check(
        "refund_otp",
        &[
            ("sent.json", 200, "done"),
            ("sent_qr.json", 200, "done"),
            ("sent_with_otp.json", 200, "done"),
            ("sent_without_reference.json", 200, "done"),
            ("invalid_tid.json", 200, "refused invalid_params"),
            ("tid_not_found.json", 200, "refused tid_not_found"),
            ("user_not_found.json", 200, "refused user_not_found"),
            ("user_not_found.json", 403, "refused user_not_found"),
            ("already_refunded.json", 200, "refused already_refunded"),
            ("not_refundable.json", 200, "refused not_refundable"),
            ("in_progress.json", 200, "not now in_progress"),
            ("bank_not_available.json", 200, "not now bank_unavailable"),
            ("unknown_code.json", 200, "unclear bad_response, else refuse eko_refused?"),
            ("page.html", 200, "unclear eko_unavailable, else repeat"),
            ("page.html", 503, "unclear eko_unavailable, else repeat"),
            ("page.html", 429, "unclear rate_limited, else repeat"),
            ("page.html", 403, "not now unauthorized"),
            ("status_missing.json", 200, "unclear bad_response, else repeat"),
        ],
        |http| words(&verdict(&command, http)),
    );
}

#[test]
fn every_answer_to_a_transfer_otp_has_its_verdict() {
    let command = command(Kind::TransferOtp);
    check(
        "transfer_otp",
        &[
            ("sent.json", 200, "done"),
            ("sent_digits.json", 200, "done"),
            ("sent_ppi.json", 200, "done"),
            ("sent_unmasked_mobile.json", 200, "done"),
            ("sent_without_reference.json", 200, "unclear bad_response, else repeat"),
            ("sender_limit.json", 200, "refused limit_exhausted"),
            ("sender_limit_in_status_id.json", 200, "refused limit_exhausted"),
            ("beneficiary_limit.json", 200, "refused limit_exhausted"),
            ("beneficiary_limit_in_status_id.json", 200, "refused limit_exhausted"),
            ("monthly_limit.json", 200, "refused limit_exhausted"),
            ("customer_not_found.json", 200, "refused user_not_found"),
            ("invalid_params.json", 200, "refused invalid_params"),
            ("status_0_invalid_params.json", 200, "refused invalid_params"),
            ("truncated.json", 200, "unclear bad_response, else repeat"),
        ],
        |http| words(&verdict(&command, http)),
    );
}

#[test]
fn every_answer_to_an_inquiry_has_its_reading() {
    let words = |http: &HttpAnswer| {
        let read = reading(TID, &[], http);
        let mut words = read.meaning.as_str().to_owned();
        if let Reading::NoAnswer(cause) = &read.meaning {
            words = format!("{words} {}", cause.as_str());
        }
        if read.is_known { words } else { format!("{words}?") }
    };
    check(
        "inquiry",
        &[
            ("tx_status_0.json", 200, "succeeded"),
            ("tx_status_1.json", 200, "failed"),
            ("tx_status_2.json", 200, "in_progress"),
            ("tx_status_3.json", 200, "refund_pending"),
            ("tx_status_4.json", 200, "refunded"),
            ("tx_status_5.json", 200, "in_progress"),
            ("tx_status_6.json", 200, "in_progress"),
            ("tx_status_7.json", 200, "in_progress"),
            ("tx_status_4_qr.json", 200, "refunded"),
            ("tx_status_3_minus_one.json", 200, "refund_pending"),
            ("tx_status_on_top.json", 200, "refund_pending"),
            ("tx_status_disagree.json", 200, "contradictory"),
            ("tx_status_no_number.json", 200, "in_progress"),
            ("tx_status_missing.json", 200, "no_answer bad_response"),
            ("another_tid.json", 200, "contradictory"),
            ("not_found_69.json", 200, "not_found"),
            ("not_found_69.json", 404, "not_found"),
            ("tx_status_3.json", 404, "no_answer misconfigured"),
            ("not_found_463.json", 200, "not_found"),
            ("not_found_text.json", 200, "not_found"),
            ("unknown_code.json", 200, "no_answer bad_response?"),
            ("page.html", 200, "no_answer eko_unavailable"),
            ("page.html", 502, "no_answer eko_unavailable"),
            ("page.html", 429, "no_answer rate_limited"),
            ("page.html", 403, "no_answer unauthorized"),
            ("page.html", 404, "no_answer misconfigured"),
            ("page.html", 400, "no_answer bad_response?"),
            ("auth_2484.json", 401, "no_answer unauthorized"),
        ],
        words,
    );
}

fn receipt(kind: Kind, file: &str) -> Vec<(String, String)> {
    match verdict(&command(kind), &answered(kind.as_str(), file, 200)).meaning {
        Verdict::Done(receipt, _) => {
            receipt.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        }
        other => panic!("{file}: {other:?}"),
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_refund_s_result_is_normalised() {
    assert_eq!(
        receipt(Kind::Refund, "done.json"),
        pairs(&[
            ("amount", "5000.00"),
            ("balance", "2222637312.86"),
            ("commission_reverse", "28.38"),
            ("currency", "INR"),
            ("fee", "50.00"),
            ("refund_tid", "2147591637"),
            ("refunded_amount", "5050.00"),
            ("tds", "7.10"),
            ("tid", "13192443"),
            ("timestamp", "2018-10-30T12:00:14.058Z"),
        ])
    );
}

#[test]
fn numbers_as_strings_and_strings_as_numbers_are_one() {
    assert_eq!(
        receipt(Kind::Refund, "done_types_swapped.json"),
        pairs(&[
            ("amount", "5000.00"),
            ("balance", "1045.00"),
            ("currency", "INR"),
            ("fee", "50.50"),
            ("refund_tid", "2147591637"),
            ("refunded_amount", "5050.00"),
            ("tid", "13192443"),
            ("timestamp", "2018-10-30T12:00:14.058Z"),
        ])
    );
}

#[test]
fn a_qr_answer_s_tid_is_the_refund_s() {
    assert_eq!(
        receipt(Kind::Refund, "done_qr.json"),
        pairs(&[
            ("amount", "499.00"),
            ("bank_ref_num", "412345678901"),
            ("client_ref_id", "REQ-1"),
            ("gst", "1.50"),
            ("refund_tid", "2147591700"),
            ("tid", "13192443"),
        ])
    );
}

#[test]
fn an_unreadable_amount_is_left_out_and_spoils_nothing() {
    let receipt = receipt(Kind::Refund, "done_unreadable_amount.json");
    assert!(receipt.iter().all(|(name, _)| name != "balance" && name != "fee"));
    assert!(receipt.contains(&("refunded_amount".to_owned(), "5050.00".to_owned())));
}

#[test]
fn an_otp_s_result_names_its_session() {
    let reference = "zCISyglexo0Pjqp4YrS2ssweuD9v1c3aLKGxjTW8wU7An8Wem1UyNws5830yh7q/sf5J4R3BY=";
    let expected = pairs(&[("otp_ref_id", reference), ("tid", TID)]);
    assert_eq!(receipt(Kind::RefundOtp, "sent.json"), expected);
    assert_eq!(receipt(Kind::RefundOtp, "sent_with_otp.json"), expected);
    assert_eq!(
        receipt(Kind::RefundOtp, "sent_without_reference.json"),
        pairs(&[("tid", TID), ("unconfirmed", "true")])
    );
    assert_eq!(
        receipt(Kind::TransferOtp, "sent.json"),
        pairs(&[
            ("client_ref_id", "REQ-20260101-001"),
            ("mobile", "XXXXXX6789"),
            ("otp_ref_id", "TXNOTP20240101001"),
        ])
    );
    assert_eq!(
        receipt(Kind::TransferOtp, "sent_digits.json"),
        pairs(&[("client_ref_id", "REQ-20260101-001"), ("otp_ref_id", "666902416")])
    );
}

#[test]
fn a_full_mobile_number_is_masked_wherever_eko_puts_it() {
    let http = answered("transfer_otp", "sent_unmasked_mobile.json", 200);
    let Verdict::Done(receipt, answer) = verdict(&command(Kind::TransferOtp), &http).meaning else {
        panic!("it was sent");
    };
    assert_eq!(receipt.get("mobile"), Some("XXXXXX6789"));
    assert_eq!(answer.message.as_deref(), Some("OTP sent to XXXXXXXXXX"));
}

#[test]
fn retry_after_goes_along() {
    let after = Some(Duration::from_secs(7));
    for status in [429, 503] {
        let http = HttpAnswer { status, after, body: Some(Vec::new()) };
        let read = verdict(&command(Kind::Refund), &http);
        assert!(
            matches!(read.meaning, Verdict::Unclear { after: got, .. } if got == after),
            "{status}"
        );
    }
}

#[test]
fn a_body_over_the_limit_leaves_everything_open() {
    let http = HttpAnswer { status: 200, after: None, body: None };
    let read = verdict(&command(Kind::Refund), &http);
    assert_eq!(words(&read), "unclear bad_response, else repeat");
}

/// An answer to an inquiry: with a `tx_status` at the top, and these further fields there and in `data`.
fn found(tx_status: u8, top: &str, data: &str) -> HttpAnswer {
    let comma = |fields: &str| if fields.is_empty() { "" } else { "," }.to_owned() + fields;
    let (top, data) = (comma(top), comma(data));
    let body =
        format!(r#"{{"status":0,"tx_status":"{tx_status}","data":{{"tid":"{TID}"{data}}}{top}}}"#);
    HttpAnswer { status: 200, after: None, body: Some(body.into_bytes()) }
}

#[test]
fn a_refund_that_waits_is_read_only_where_nothing_speaks_against_it() {
    for (top, data, expected) in [
        ("", "", "refund_pending"),
        ("", r#""refund_tid":"2147591637""#, "contradictory"),
        ("", r#""refund_tid":2147591637"#, "contradictory"),
        (r#""refund_tid":"2147591637""#, "", "contradictory"),
        ("", r#""refund_t\u0069d":"2147591637""#, "contradictory"),
        ("", r#""refund":{"refund_tid":"7"}"#, "contradictory"),
        (r#""refund_tid":"""#, r#""refund_tid":null"#, "refund_pending"),
        (r#""refund_tid":0"#, r#""refund_tid":"{2}""#, "refund_pending"),
        ("", r#""tx_status":3"#, "refund_pending"),
        ("", r#""tx_status":"""#, "refund_pending"),
        ("", r#""parts":[{"tx_status":"4"}]"#, "contradictory"),
        ("", r#""parts":[{"tx_status":" 3 "}]"#, "refund_pending"),
        ("", r#""parts":[{"tx_status":0}]"#, "contradictory"),
        ("", r#""parts":[{"tx_status":1}]"#, "contradictory"),
        ("", r#""parts":[{"tx_status":6}]"#, "contradictory"),
        ("", r#""parts":[{"tx_status":"awaited"}]"#, "contradictory"),
        ("", r#""parts":[{"tx_status":"\u0034"}]"#, "contradictory"),
        ("", r#""parts":[{"tx_status":{"id":4}}]"#, "contradictory"),
        ("", r#""parts":"{\"tx_status\":\"4\"}""#, "contradictory"),
        ("", r#""parts":"{\"tx_status\":\"3\"}""#, "refund_pending"),
        (r#""response_status_id":-1"#, "", "refund_pending"),
        (r#""response_status_id":"0""#, "", "refund_pending"),
        (r#""response_status_id":1"#, "", "refund_pending"),
        (r#""response_status_id":3"#, "", "refund_pending"),
        (r#""response_status_id":null"#, "", "refund_pending"),
        (
            r#""response_status_id":4,"message":"Refunded""#,
            r#""refunded_amount":"5050.00""#,
            "contradictory",
        ),
        (r#""response_status_\u0069d":"4""#, "", "contradictory"),
        ("", r#""response_status_id":4"#, "contradictory"),
        (r#""response_status_id":2"#, "", "in_progress"),
        (r#""response_status_id":"5""#, "", "in_progress"),
        (r#""response_status_id":-2"#, "", "in_progress"),
        (r#""response_status_id":0"#, r#""response_status_id":2"#, "in_progress"),
        (r#""response_status_id":2"#, r#""refund_tid":"7""#, "contradictory"),
        (r#""response_status_id":6"#, "", "contradictory"),
        (r#""response_status_id":302"#, "", "contradictory"),
        (r#""response_status_id":"4.0""#, "", "contradictory"),
    ] {
        let read = reading(TID, &[], &found(3, top, data)).meaning;
        assert_eq!(read.as_str(), expected, "{top} {data}");
    }
}

#[test]
fn data_that_is_a_list_is_looked_into_as_well() {
    for (data, expected) in [
        (r#"[{"tx_status":3}]"#, "refund_pending"),
        (r#"[{"tx_status":4}]"#, "contradictory"),
        (r#"[{"refund_tid":"7"}]"#, "contradictory"),
    ] {
        let body = format!(r#"{{"status":0,"tx_status":"3","data":{data}}}"#);
        let http = HttpAnswer { status: 200, after: None, body: Some(body.into_bytes()) };
        assert_eq!(reading(TID, &[], &http).meaning.as_str(), expected, "{data}");
    }
}

#[test]
fn a_final_reading_stands_unless_the_answer_tells_of_a_refund() {
    for (tx_status, name) in [(0, "succeeded"), (1, "failed")] {
        for (top, data, expected) in [
            ("", "", name),
            (r#""response_status_id":2"#, r#""parts":[{"tx_status":2}]"#, name),
            ("", r#""refund_tid":"0""#, name),
            ("", r#""refund_tid":"2147591637""#, "contradictory"),
            (r#""refund_tid":"2147591637""#, "", "contradictory"),
            ("", r#""parts":[{"tx_status":"4"}]"#, "contradictory"),
            (r#""response_status_id":4"#, "", "contradictory"),
        ] {
            let read = reading(TID, &[], &found(tx_status, top, data)).meaning;
            assert_eq!(read.as_str(), expected, "{tx_status} {top} {data}");
        }
    }
}

/// Bodies that are near enough to an envelope to get past its first checks.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("\"\"".to_owned()),
        (-3i64..6).prop_map(|n| n.to_string()),
        prop::sample::select(vec![302, 303, 347, 168, 463, 461, 544, 319, 2133, 2485, 74])
            .prop_map(|n| n.to_string()),
        (-3i64..6).prop_map(|n| format!("\"{n}\"")),
        "[ -~]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just("{}".to_owned()),
        Just("[1]".to_owned()),
    ];
    let names = prop::sample::select(vec![
        "status",
        "response_status_id",
        "response_type_id",
        "message",
        "tx_status",
        "invalid_params",
    ]);
    let data_names = prop::sample::select(vec!["tid", "refund_tid", "tx_status", "otp_ref_id"]);
    let data = prop::collection::vec((data_names, scalar.clone()), 0..5).prop_map(|fields| {
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    });
    let body = (prop::collection::vec((names, scalar), 0..7), data).prop_map(|(fields, data)| {
        let mut fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        fields.push(format!("\"data\":{data}"));
        format!("{{{}}}", fields.join(",")).into_bytes()
    });
    prop_oneof![4 => body, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// A field that tells of an execution, or of one under way, as it may be written.
fn any_evidence() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        r#""refund_tid":"2147591637""#,
        r#""refund_tid": 2147591637"#,
        r#""tx_status":4"#,
        r#""tx_status" : "4""#,
        r#""tx_status":2"#,
        r#""tx_status":"5""#,
        r#""tx_status":6"#,
        r#""tx_status":"9""#,
        r#""tx_status":"awaited""#,
    ])
    .prop_map(str::to_owned)
}

/// An answer of any code and text that holds such a field: on top, in `data`, deeper, beside another
/// one, in JSON that stands in a string, or in a body that breaks off behind it.
fn any_body_with_evidence() -> impl Strategy<Value = String> {
    let code = || {
        prop_oneof![
            -3i64..6,
            prop::sample::select(vec![
                302, 303, 347, 69, 168, 463, 346, 1297, 461, 544, 319, 2133, 2483, 2484, 2485,
                2486, 2487, 1999,
            ]),
        ]
    };
    let message = prop::sample::select(vec![
        "Wrong OTP",
        "Agent not allowed",
        "No Key for Response",
        "Transaction is already in refunded state.",
        "Transaction is not in a refundable state.",
        "Kindly use your production key",
        "Refund done",
    ]);
    let envelope = (code(), code(), message).prop_map(|(status, id, message)| {
        format!(r#""status":{status},"response_status_id":{id},"message":"{message}""#)
    });
    (envelope, any_evidence(), 0..7).prop_map(|(envelope, evidence, place)| match place {
        0 => format!("{{{envelope},{evidence}}}"),
        1 => format!(r#"{{{evidence},"data":{{"tid":"13192443"}},{envelope}}}"#),
        2 => format!(r#"{{{envelope},"data":{{{evidence}}}}}"#),
        3 => format!(r#"{{{envelope},"data":{{"refund":[{{{evidence}}}]}}}}"#),
        4 => format!(r#"{{{envelope},"tx_status":3,"data":{{{evidence}}}}}"#),
        5 => format!(r#"{{{envelope},"data":"{{{}}}"}}"#, evidence.replace('"', "\\\"")),
        _ => format!(r#"{{{envelope},"data":{{{evidence},"amount":"50"#),
    })
}

/// The same beside an inquiry's `tx_status`, or a display id that tells so.
fn any_inquired_evidence() -> impl Strategy<Value = String> {
    let display = prop::sample::select(vec![
        r#""response_status_id":4"#,
        r#""response_status_id":"2""#,
        r#""response_status_id" : 5"#,
        r#""response_status_id":"-2""#,
    ]);
    prop_oneof![2 => any_evidence(), 1 => display.prop_map(str::to_owned)]
}

/// Fields that tell nothing against a refund that waits.
fn any_noise() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        r#""message":"Refund Pending""#,
        r#""response_type_id":1472"#,
        r#""txstatus_desc":"tx_status""#,
        r#""amount":"5000.00""#,
        r#""tx_status_of":3"#,
        r#""refund":{"refund_tid":"","tx_status":null}"#,
    ]);
    prop::collection::btree_set(field, 0..4)
        .prop_map(|fields| fields.iter().map(|field| format!(",{field}")).collect())
}

/// The body of an inquiry's answer that says "3" and has such evidence beside it.
fn any_inquired_body() -> impl Strategy<Value = String> {
    (any_inquired_evidence(), any_noise(), 0_u8..6)
        .prop_map(|(evidence, noise, place)| inquired_body(&evidence, &noise, place))
}

/// An inquiry's answer that would read "refund pending" but for that evidence.
fn inquired_body(evidence: &str, noise: &str, place: u8) -> String {
    match place {
        0 => format!(r#"{{"status":0,"data":{{"tx_status":"3"{noise}}},{evidence}}}"#),
        1 => format!(r#"{{"status":0,"tx_status":3,"data":{{{evidence}{noise}}}}}"#),
        2 => {
            format!(r#"{{{evidence},"data":{{"tid":"13192443","tx_status":3}},"status":0{noise}}}"#)
        }
        3 => format!(r#"{{"status":0,"tx_status":"3","data":[{{{evidence}{noise}}}]}}"#),
        4 => format!(
            r#"{{"status":0,"data":{{"tx_status":3,"a":{{"b":[{{{evidence}}}]}}{noise}}}}}"#
        ),
        _ => {
            let quoted = evidence.replace('"', "\\\"");
            format!(r#"{{"status":0,"data":{{"tx_status":3,"raw":"{{{quoted}}}"{noise}}}}}"#)
        }
    }
}

#[test]
fn an_inquiry_reads_a_refund_that_waits_beside_what_tells_nothing() {
    for place in 0..6 {
        let body =
            inquired_body(r#""x":1"#, r#","refund":{"refund_tid":"","tx_status":null}"#, place);
        let http = HttpAnswer { status: 200, after: None, body: Some(body.clone().into_bytes()) };
        assert_eq!(reading(TID, &[], &http).meaning, Reading::RefundPending, "{body}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_refund_is_done_without_evidence(body in any_body(), status in 100u16..600) {
        let evidence = serde_json::from_slice::<serde_json::Value>(&body).ok().is_some_and(|value| {
            let is_some = |value: &serde_json::Value| match value {
                serde_json::Value::String(text) => is_id(text.trim()),
                serde_json::Value::Number(number) => is_id(&number.to_string()),
                _ => false,
            };
            let is_4 = |value: &serde_json::Value| value == 4 || value == "4";
            is_some(&value["data"]["refund_tid"])
                || is_4(&value["data"]["tx_status"])
                || is_4(&value["tx_status"])
        });
        let http = HttpAnswer { status, after: None, body: Some(body) };
        let read = verdict(&command(Kind::Refund), &http);
        let is_done = matches!(read.meaning, Verdict::Done(..));
        prop_assert!(!is_done || (evidence && (200..300).contains(&status)));
    }

    #[test]
    fn no_answer_with_evidence_allows_another_attempt(
        body in any_body_with_evidence(),
        status in prop_oneof![Just(200_u16), 100_u16..600],
    ) {
        let http = HttpAnswer { status, after: None, body: Some(body.into_bytes()) };
        let verdict = verdict(&command(Kind::Refund), &http).meaning;
        let is_safe = match &verdict {
            Verdict::Done(..) => true,
            Verdict::Unclear { fallback, .. } => *fallback == Fallback::Wait,
            Verdict::Refused(_) | Verdict::NotNow { .. } => false,
        };
        prop_assert!(is_safe, "{verdict:?}");
    }

    #[test]
    fn no_inquiry_with_evidence_reads_a_refund_that_waits(
        body in any_body_with_evidence(),
        inquired in any_inquired_body(),
        status in prop_oneof![Just(200_u16), 100_u16..600],
    ) {
        for body in [body, inquired] {
            let http = HttpAnswer { status, after: None, body: Some(body.clone().into_bytes()) };
            let read = reading(TID, &[], &http).meaning;
            prop_assert!(read != Reading::RefundPending, "{body}");
        }
    }

    #[test]
    fn no_body_reads_a_refund_that_waits_beside_a_refund_s_id_or_another_status(body in any_body()) {
        let http = HttpAnswer { status: 200, after: None, body: Some(body.clone()) };
        if reading(TID, &[], &http).meaning == Reading::RefundPending {
            let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let text = |value: &serde_json::Value| match value {
                serde_json::Value::String(text) => text.trim().to_owned(),
                other => other.to_string(),
            };
            for fields in [&value, &value["data"]] {
                prop_assert!(!is_id(&text(&fields["refund_tid"])));
                prop_assert!(!matches!(&*text(&fields["tx_status"]), "0" | "1" | "2" | "4" | "5"));
                prop_assert!(!matches!(&*text(&fields["response_status_id"]), "-2" | "2" | "4" | "5"));
            }
        }
    }

    #[test]
    fn no_answer_to_a_refund_allows_another_attempt_without_an_inquiry(
        body in any_body(),
        status in 100_u16..600,
    ) {
        let http = HttpAnswer { status, after: None, body: Some(body) };
        let verdict = verdict(&command(Kind::Refund), &http).meaning;
        prop_assert!(!matches!(verdict, Verdict::NotNow { .. }), "{verdict:?}");
        let is_success = (200..300).contains(&status);
        prop_assert!(is_success || matches!(verdict, Verdict::Unclear { .. }), "{verdict:?}");
    }

    #[test]
    fn any_body_has_a_verdict_and_a_reading(body in any_body(), status in 100u16..600) {
        let http = HttpAnswer { status, after: None, body: Some(body) };
        for kind in Kind::ALL {
            verdict(&command(kind), &http);
        }
        reading(TID, &[], &http);
    }
}

#[test]
fn the_schema_of_a_result_names_what_results_have_and_nothing_else() {
    for kind in Kind::ALL {
        let mut schema = eko_core::event::schema(Some(kind), "succeeded");
        let mut schema = schema["properties"]["data"]["properties"]["result"].take();
        schema["additionalProperties"] = false.into();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut seen = BTreeSet::new();
        for entry in std::fs::read_dir(folder(kind.as_str())).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let http = answered(kind.as_str(), &file, 200);
            if let Verdict::Done(receipt, _) = verdict(&command(kind), &http).meaning {
                let result = serde_json::to_value(&receipt).unwrap();
                assert!(validator.is_valid(&result), "{file}: {result}");
                seen.extend(receipt.fields().map(|(name, _)| name.to_owned()));
            }
        }
        let named = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(seen, named, "{kind:?}");
    }
}

#[test]
fn a_tid_with_leading_zeros_is_the_same_transaction() {
    let answer = |tid: &str| {
        let data = format!(r#"{{"tx_status":4,"tid":{tid},"refund_tid":"2147591637"}}"#);
        let body = format!(r#"{{"status":0,"response_status_id":0,"data":{data}}}"#);
        HttpAnswer { status: 200, after: None, body: Some(body.into_bytes()) }
    };
    for (tid, is_ours) in [
        (r#""0013192443""#, true),
        (r#""13192443""#, true),
        ("13192443", true),
        (r#""131924430""#, false),
    ] {
        let answer = answer(tid);
        let refunded = verdict(&command(Kind::Refund), &answer).meaning;
        assert_eq!(matches!(refunded, Verdict::Done(..)), is_ours, "{tid}: {refunded:?}");
        let inquired = reading("13192443", &[], &answer).meaning;
        assert_eq!(matches!(inquired, Reading::Refunded(..)), is_ours, "{tid}: {inquired:?}");
    }
}
