use jsonschema::Validator;
use proptest::prelude::*;
use proptest::string::string_regex;
use serde_json::{Map, Number};

use super::super::{Defaults, parse};
use super::*;
use crate::privacy::Mobile;

/// Values that are wrong almost everywhere, or right somewhere by luck.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u32..1_000).prop_map(|n| json!(f64::from(n) + 0.5)),
        // serde_json keeps the decimal point, or writes an exponent
        any::<u32>().prop_map(|n| json!(f64::from(n))),
        (1_u32..10, 0_i32..25)
            .prop_map(|(n, exponent)| json!(f64::from(n) * 10_f64.powi(exponent))),
        Just(json!("9999-12-31T23:59:59Z")),
        "0{0,20}".prop_map(Value::from),
        "[0-9]{0,22}".prop_map(Value::from),
        "[A-Za-z0-9 ._:/-]{0,66}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!("2026-11-21T09:10:00Z")),
        Just(json!("2026-11-21T09:10:00")),
    ]
}

/// Values that a schema of ours allows, read off the schema.
fn instance(schema: &Value) -> BoxedStrategy<Value> {
    if let Some(value) = schema.get("const") {
        return Just(value.clone()).boxed();
    }
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        let any: Vec<_> = any.iter().map(instance).collect();
        return proptest::strategy::Union::new(any).boxed();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return prop::sample::select(values.clone()).boxed();
    }
    match &schema["type"] {
        Value::String(name) => of_type(name, schema),
        Value::Array(names) => {
            let names = names.iter().map(|name| of_type(name.as_str().unwrap(), schema));
            proptest::strategy::Union::new(names.collect::<Vec<_>>()).boxed()
        }
        _ => odd_value().boxed(),
    }
}

fn of_type(name: &str, schema: &Value) -> BoxedStrategy<Value> {
    let bound = |name: &str| schema[name].as_u64().unwrap();
    match name {
        "null" => Just(Value::Null).boxed(),
        "integer" => (bound("minimum")..=bound("maximum"), any::<bool>())
            .prop_map(|(number, has_point)| whole(number, has_point))
            .boxed(),
        "string" if schema["format"] == "date-time" => (
            prop_oneof![1970_u32..9999, Just(9999_u32)],
            1_u32..13,
            1_u32..29,
            0_u32..24,
            prop::sample::select(&["Z", "+05:30"]),
        )
            .prop_map(|(year, month, day, hour, offset)| {
                json!(format!("{year}-{month:02}-{day:02}T{hour:02}:59:00.5{offset}"))
            })
            .boxed(),
        "string" if schema.get("pattern").is_none() && schema.get("minLength").is_none() => {
            "[ -~]{0,40}".prop_map(Value::from).boxed()
        }
        "string" => match schema.get("pattern").and_then(Value::as_str) {
            Some(pattern) => {
                let bare = pattern.trim_start_matches('^').trim_end_matches('$');
                let not = schema.pointer("/not/pattern").map(|not| not == "^0+$");
                string_regex(bare)
                    .unwrap()
                    .prop_filter("a number above 0", move |text| {
                        not.is_none() || text.bytes().any(|byte| byte != b'0')
                    })
                    .prop_map(Value::from)
                    .boxed()
            }
            None => {
                let bare = format!("[ -~]{{{},{}}}", bound("minLength"), bound("maxLength"));
                string_regex(&bare).unwrap().prop_map(Value::from).boxed()
            }
        },
        "object" => object(schema),
        other => panic!("the test knows no {other}: {schema}"),
    }
}

/// A whole number, with a decimal point where 53 bits hold it.
fn whole(number: u64, has_point: bool) -> Value {
    match u32::try_from(number) {
        Ok(small) if has_point => json!(f64::from(small)),
        Ok(_) | Err(_) => json!(number),
    }
}

fn object(schema: &Value) -> BoxedStrategy<Value> {
    let required = schema["required"].as_array().unwrap();
    let mut members = Just(Map::new()).boxed();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let member = if required.contains(&json!(name)) {
            instance(property).prop_map(Some).boxed()
        } else {
            prop::option::of(instance(property)).boxed()
        };
        let name = name.clone();
        members = (members, member)
            .prop_map(move |(mut members, member)| {
                members.extend(member.map(|value| (name.clone(), value)));
                members
            })
            .boxed();
    }
    let members = members.prop_map(Value::Object);
    if schema.get("if").is_none() {
        return members.boxed();
    }
    let condition = validator(schema);
    members.prop_filter("its condition", move |object| condition.is_valid(object)).boxed()
}

fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

fn is_command(body: &Value) -> Result<(), String> {
    let defaults = Defaults {
        initiator_id: Some(Mobile::new("9962981729")),
        user_code: Some("20810200".to_owned()),
    };
    let parsed = parse(body.to_string().as_bytes(), None, &defaults);
    parsed.command.map(drop).map_err(|invalid| invalid.problem.message)
}

/// A kind, and a command that its schema allows.
fn command() -> impl Strategy<Value = (Kind, Value)> {
    prop::sample::select(&Kind::ALL)
        .prop_flat_map(|kind| instance(&schema(kind)).prop_map(move |body| (kind, body)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_schema_allows_the_parser_takes((kind, body) in command()) {
        prop_assert!(validator(&schema(kind)).is_valid(&body), "{body}");
        prop_assert_eq!(is_command(&body), Ok(()), "{}", body);
    }

    #[test]
    fn whatever_is_changed_schema_and_parser_judge_it_alike(
        (kind, mut body) in command(),
        in_data in prop::bool::weighted(0.8),
        at in any::<prop::sample::Index>(),
        change in change(),
    ) {
        let schema = schema(kind);
        let place = if in_data { "/properties/data/properties" } else { "/properties" };
        let known = schema.pointer(place).unwrap().as_object().unwrap();
        let name = at.get(&known.keys().collect::<Vec<_>>()).as_str();
        let members = if in_data { &mut body["data"] } else { &mut body };
        let members = members.as_object_mut().unwrap();
        match &change {
            Change::Gone => drop(members.remove(name)),
            Change::Unknown(suffix) => drop(members.insert(format!("{name}{suffix}"), json!(1))),
            Change::To(value) => drop(members.insert(name.to_owned(), value.clone())),
            Change::Longer => match members.get_mut(name) {
                Some(Value::String(text)) => text.push('0'),
                Some(Value::Number(number)) => {
                    let longer = number.as_u64().and_then(|number| number.checked_mul(10));
                    *number = longer.unwrap_or(0).into();
                }
                _ => {}
            },
            Change::Shorter => {
                if let Some(Value::String(text)) = members.get_mut(name) {
                    text.pop();
                }
            }
        }
        let (judged, parsed) = (validator(&schema).is_valid(&body), is_command(&body));
        // The schema asks publishers for strings in what the parser takes whatever it is.
        let is_lenient = !in_data && LENIENT.contains(&name);
        if is_lenient && matches!(change, Change::To(_)) {
            prop_assert_eq!(parsed, Ok(()));
            return Ok(());
        }
        prop_assert_eq!(judged, parsed.is_ok(), "{:?}: {}", parsed, body);
    }
}

/// Attributes that nothing depends on.
const LENIENT: [&str; 5] = ["source", "specversion", "time", "traceparent", "tracestate"];

/// What is done to one field of a command.
#[derive(Clone, Debug)]
enum Change {
    Gone,
    Unknown(&'static str),
    Longer,
    Shorter,
    To(Value),
}

/// Values are odd ones, or such as another field may have: near enough to be mistaken.
fn change() -> impl Strategy<Value = Change> {
    let fields = Kind::ALL.map(|kind| schema(kind)["properties"]["data"]["properties"].take());
    let fields = fields.iter().flat_map(|fields| fields.as_object().unwrap().values());
    let field = proptest::strategy::Union::new(fields.map(instance).collect::<Vec<_>>());
    prop_oneof![
        1 => Just(Change::Gone),
        1 => prop::sample::select(&["_", "S", "s", "9", " ", "é"]).prop_map(Change::Unknown),
        2 => Just(Change::Longer),
        2 => Just(Change::Shorter),
        4 => odd_value().prop_map(Change::To),
        4 => field.prop_map(Change::To),
    ]
}

#[test]
fn every_field_tells_what_it_is() {
    for kind in Kind::ALL {
        let schema = schema(kind);
        let data = &schema["properties"]["data"];
        assert_eq!(data["additionalProperties"], json!(false), "a mistyped field is an error");
        for properties in [&schema["properties"], &data["properties"]] {
            for (name, property) in properties.as_object().unwrap() {
                let about = property["description"].as_str().unwrap_or_default();
                assert!(!about.is_empty(), "{kind:?}: {name}");
            }
        }
    }
}

#[test]
fn numbers_as_large_as_the_digits_allow_are_taken() {
    let schema = schema(Kind::RefundOtp);
    for (tid, is_taken) in [
        ("9999999999999999999", true),
        ("10000000000000000000", false),
        ("13.0", true),
        ("1.3e1", true),
        ("1.3", false),
        ("0", false),
    ] {
        let tid: Number = tid.parse().unwrap();
        let body = json!({"id": "a", "type": "eko.refund_otp.request", "data": {"tid": tid}});
        assert_eq!(validator(&schema).is_valid(&body), is_taken, "{body}");
        assert_eq!(is_command(&body).is_ok(), is_taken, "{body}");
    }
}
