use super::super::{Event, example};
use super::*;
use crate::outcome::OutcomeName;

/// The schema, but for what a later version may add: nothing that it does not name is allowed.
fn closed(mut schema: Value) -> Value {
    fn close(schema: &mut Value) {
        if let Value::Object(members) = schema {
            members.values_mut().for_each(close);
            if members.contains_key("properties") {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
        }
    }
    close(&mut schema);
    schema
}

fn validator(schema: &Value) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

fn kinds() -> impl Iterator<Item = Option<Kind>> {
    Kind::ALL.into_iter().map(Some).chain([None])
}

#[test]
fn the_outcomes_are_all_that_there_are() {
    assert_eq!(SHAPES.map(|shape| shape.outcome), OutcomeName::ALL.map(OutcomeName::as_str));
}

#[test]
fn every_event_keeps_to_its_schema_and_to_no_other() {
    let mut seen = 0;
    for kind in kinds() {
        for (outcome, _) in outcomes(kind) {
            let body = example(kind, outcome);
            assert_eq!(Event::read(body.clone()).unwrap().outcome.as_str(), outcome);
            let event: Value = serde_json::from_slice(&body).unwrap();
            for other in kinds() {
                for (told, _) in outcomes(other) {
                    let is_its_own = (kind, outcome) == (other, told);
                    let schema = closed(schema(other, told));
                    assert_eq!(validator(&schema).is_valid(&event), is_its_own, "{told}: {event}");
                    seen += 1;
                }
            }
        }
    }
    assert_eq!(seen, 19 * 19);
}

#[test]
fn a_code_of_a_later_version_is_none_of_this_one_s_examples_and_is_let_through() {
    let schema = schema(Some(Kind::Refund), "rejected");
    let code = schema.pointer("/properties/data/properties/error/properties/code").unwrap();
    let examples = code["examples"].as_array().unwrap();
    assert!(examples.contains(&json!("wrong_otp")) && !examples.contains(&json!("later_code")));
    let mut event: Value =
        serde_json::from_slice(&example(Some(Kind::Refund), "rejected")).unwrap();
    event["data"]["error"]["code"] = json!("later_code");
    assert!(validator(&schema).is_valid(&event));
}

#[test]
fn an_event_that_lacks_something_or_has_too_much_is_refused() {
    let schema = closed(schema(Some(Kind::Refund), "rejected"));
    let event: Value = serde_json::from_slice(&example(Some(Kind::Refund), "rejected")).unwrap();
    for pointer in
        ["/id", "/subject", "/data/error/code", "/data/eko/http_status", "/data/attempts"]
    {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let mut less = event.clone();
        less.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        assert!(!validator(&schema).is_valid(&less), "without {pointer}");
    }
    for (pointer, value) in [
        ("/data/error/code", json!("Odd code")),
        ("/data/error/code", json!(5)),
        ("/data/eko/status", json!("302")),
        ("/data/attempts", json!(-1)),
        ("/time", json!("today")),
    ] {
        let mut other = event.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert!(!validator(&schema).is_valid(&other), "{other}");
    }
    let mut more = event;
    more["data"]["confirmed_by"] = json!("response");
    assert!(!validator(&schema).is_valid(&more), "{more}");
}
