use insta::assert_snapshot;

use super::*;
use crate::outcome::{Code, ConfirmedBy, Refusal};

fn told(outcome: &Outcome) -> Event {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let about = About {
        command_id: "ord-7731-refund",
        event_id: "ord-7731-refund",
        kind: Some(Kind::Refund),
        subject: Some("13192443"),
        correlation_id: Some("ord-7731"),
        attempts: 1,
        trace: &Trace::read(parent, Some("vendor=1")).unwrap(),
        span: 0xab,
    };
    Event::new(&about, outcome, "2026-11-21T09:00:01.215Z".parse().unwrap())
}

fn pretty(event: &Event) -> String {
    let value: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

fn answer() -> Answer {
    Answer {
        http_status: 200,
        status: Some(0),
        response_status_id: Some(0),
        response_type_id: Some(74),
        message: Some("Refund done".to_owned()),
    }
}

fn success() -> Outcome {
    let mut receipt = Receipt::default();
    receipt.put("tid", "13192443");
    receipt.put("refund_tid", "2147591637");
    receipt.put("empty", "");
    Outcome::Succeeded { confirmed_by: ConfirmedBy::Response, receipt, answer: Some(answer()) }
}

#[test]
fn a_success_is_told_as_the_contract_shows_it() {
    assert_snapshot!(pretty(&told(&success())), @r#"
    {
      "causationid": "ord-7731-refund",
      "correlationid": "ord-7731",
      "data": {
        "attempts": 1,
        "command_id": "ord-7731-refund",
        "confirmed_by": "response",
        "eko": {
          "http_status": 200,
          "message": "Refund done",
          "response_status_id": 0,
          "response_type_id": 74,
          "status": 0
        },
        "result": {
          "refund_tid": "2147591637",
          "tid": "13192443"
        }
      },
      "datacontenttype": "application/json",
      "id": "ord-7731-refund.succeeded",
      "source": "/eko-worker",
      "specversion": "1.0",
      "subject": "13192443",
      "time": "2026-11-21T09:00:01.215Z",
      "traceparent": "00-0af7651916cd43dd8448eb211c80319c-00000000000000ab-01",
      "tracestate": "vendor=1",
      "type": "eko.refund.succeeded"
    }
    "#);
}

#[test]
fn a_refusal_tells_why_and_what_eko_said() {
    let problem = Problem::new(Code::WrongOtp, "Eko refused: Wrong OTP");
    let event = told(&Outcome::Rejected(Refusal { problem, answer: answer() }));
    assert_snapshot!(pretty(&event), @r#"
    {
      "causationid": "ord-7731-refund",
      "correlationid": "ord-7731",
      "data": {
        "attempts": 1,
        "command_id": "ord-7731-refund",
        "eko": {
          "http_status": 200,
          "message": "Refund done",
          "response_status_id": 0,
          "response_type_id": 74,
          "status": 0
        },
        "error": {
          "code": "wrong_otp",
          "message": "Eko refused: Wrong OTP"
        }
      },
      "datacontenttype": "application/json",
      "id": "ord-7731-refund.rejected",
      "source": "/eko-worker",
      "specversion": "1.0",
      "subject": "13192443",
      "time": "2026-11-21T09:00:01.215Z",
      "traceparent": "00-0af7651916cd43dd8448eb211c80319c-00000000000000ab-01",
      "tracestate": "vendor=1",
      "type": "eko.refund.rejected"
    }
    "#);
}

#[test]
fn every_outcome_has_its_own_id_and_type_and_is_read_back_whole() {
    let problem = || Problem::new(Code::Timeout, "why");
    for (outcome, name) in [
        (success(), "succeeded"),
        (Outcome::Rejected(Refusal { problem: problem(), answer: answer() }), "rejected"),
        (Outcome::Expired(problem()), "expired"),
        (Outcome::Failed(problem()), "failed"),
        (Outcome::Unresolved(problem()), "unresolved"),
        (Outcome::Invalid(problem()), "invalid"),
    ] {
        let event = told(&outcome);
        assert_eq!(event.id, format!("ord-7731-refund.{name}"));
        assert_eq!(event.message_type, format!("eko.refund.{name}"));
        assert_eq!(Event::read(event.body.clone()).unwrap(), event);
    }
}

#[test]
fn the_result_can_be_told_again_for_another_command() {
    let receipt = told(&success()).receipt();
    assert_eq!(receipt.get("refund_tid"), Some("2147591637"));
}

#[test]
fn a_message_of_no_kind_is_told_of_as_a_command() {
    let about = About {
        command_id: "0123abcd",
        event_id: "0123abcd",
        kind: None,
        subject: None,
        correlation_id: None,
        attempts: 0,
        trace: &Trace::new(7),
        span: 1,
    };
    let problem = Problem::new(Code::MalformedJson, "the message is empty");
    let event =
        Event::new(&about, &Outcome::Invalid(problem), "2026-11-21T09:00:00Z".parse().unwrap());
    assert_snapshot!(pretty(&event), @r#"
    {
      "causationid": "0123abcd",
      "data": {
        "attempts": 0,
        "command_id": "0123abcd",
        "error": {
          "code": "malformed_json",
          "message": "the message is empty"
        }
      },
      "datacontenttype": "application/json",
      "id": "0123abcd.invalid",
      "source": "/eko-worker",
      "specversion": "1.0",
      "time": "2026-11-21T09:00:00.000Z",
      "traceparent": "00-00000000000000000000000000000007-0000000000000001-01",
      "type": "eko.command.invalid"
    }
    "#);
}
