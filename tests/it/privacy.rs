//! Invariant 7, as one proof: OTPs, mobile numbers and keys are planted wherever a command, a
//! setting or an answer of Eko can carry them, and looked for wherever the worker writes.
//!
//! What a message's own publisher wrote is not looked at where the contract has it kept: the body
//! and the headers of a parked or dead-lettered command.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::load::store::Store;
use crate::rig::broker::Message;
use crate::rig::command::{
    CUSTOMER, Edit, OTP, OTP_REF, command, refund, refund_otp, transfer_otp,
};
use crate::rig::event::Event;
use crate::rig::stub::Answer;
use crate::rig::worker::{Settings, Worker};
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, INITIATOR, Rig, eventually};

/// Another customer's OTP, which no integer can hold.
const ZERO_OTP: &str = "08462951";
/// Another operator's number, in a command.
const OTHER_INITIATOR: &str = "9871203465";
/// What a key is changed to.
const NEW_KEY: &str = "planted-newer-developer-key-5e1f";
/// A password of broker and ledger.
const PASSWORD: &str = "planted-password-77ab";

/// All that is planted.
const PLANTED: [&str; 10] = [
    OTP,
    ZERO_OTP,
    CUSTOMER,
    INITIATOR,
    OTHER_INITIATOR,
    DEVELOPER_KEY,
    ACCESS_KEY,
    NEW_KEY,
    PASSWORD,
    OTP_REF,
];

/// A secret in every form that a careless line would write it in.
fn forms(secret: &str) -> Vec<String> {
    let each = |form: fn(u8) -> String| secret.bytes().map(form).collect::<String>();
    let mut forms = vec![
        secret.to_owned(),
        each(|byte| format!("{byte:02x}")),
        each(|byte| format!("{byte:02X}")),
        each(|byte| format!("%{byte:02X}")),
        url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        format!("{secret:?}").trim_matches('"').to_owned(),
        secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", "),
    ];
    // A number that went through a float.
    if let Some((first, rest)) =
        secret.split_at_checked(1).filter(|_| secret.parse::<u64>().is_ok())
    {
        forms.push(format!("{first}.{rest}e{}", rest.len()));
    }
    // Within something longer, its first byte stands at any of three places of a group.
    for before in 0..3 {
        let padded = [vec![0; before], secret.as_bytes().to_vec()].concat();
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded);
            // The characters that hold nothing but its bits.
            let from = (before * 8).div_ceil(6);
            let to = padded.len() * 8 / 6;
            forms.push(text[from..to].to_owned());
        }
    }
    forms
}

/// What was found where.
#[derive(Default)]
struct Search {
    forms: BTreeMap<&'static str, Vec<String>>,
    leaks: Vec<String>,
    /// How many bytes were looked at, by the kind of place.
    seen: BTreeMap<&'static str, usize>,
}

impl Search {
    fn new() -> Self {
        let forms = PLANTED.map(|secret| (secret, forms(secret))).into();
        Self { forms, ..Self::default() }
    }

    fn look(&mut self, place: &'static str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        *self.seen.entry(place).or_default() += bytes.len();
        // A character for each byte: what is planted is ASCII, and a text is searched fast.
        let text: String = bytes.iter().copied().map(char::from).collect();
        // The reference of an OTP session may stand in an event, which the ledger keeps.
        let may_be =
            |secret: &str| secret == OTP_REF && ["an event", "the ledger"].contains(&place);
        for (secret, forms) in self.forms.iter().filter(|(secret, _)| !may_be(secret)) {
            if let Some(form) = forms.iter().find(|form| text.contains(form.as_str())) {
                let shown: String = text.chars().take(600).collect();
                self.leaks.push(format!("{secret} as {form} in {place}: {shown}"));
            }
        }
    }

    fn event(&mut self, event: &Event) {
        self.look("an event", &event.message.body);
        self.look("an event's properties", format!("{:?}", event.message.properties));
        self.headers("an event's properties", &event.message, |_| true);
    }

    /// The headers that the worker itself writes beside those that came with the command.
    fn copy(&mut self, place: &'static str, message: &Message) {
        let is_own = |name: &str| name.starts_with("eko-") || name == "traceparent";
        self.headers(place, message, is_own);
        self.look(place, &message.routing_key);
    }

    fn headers(&mut self, place: &'static str, message: &Message, of: impl Fn(&str) -> bool) {
        let headers = message.properties.headers().clone().unwrap_or_default();
        for name in headers.inner().keys().filter(|name| of(name.as_str())) {
            let value = message.header(name.as_str()).unwrap_or_default();
            self.look(place, format!("{name}: {value}"));
        }
    }

    /// The ledger's files as they are now, also what is not checkpointed yet.
    fn ledger_files(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("ledger") {
                self.look("the ledger", std::fs::read(path).unwrap());
            }
        }
    }

    async fn admin(&mut self, rig: &mut Rig) {
        for path in ["/metrics", "/readyz", "/healthz"] {
            self.look("an answer of the admin server", rig.worker().get(path).await.1);
        }
    }

    /// Runs a subcommand, and looks at all that it says.
    async fn subcommand(&mut self, arguments: &[&str], settings: &Settings) -> i32 {
        let (code, out, err) = Worker::output(arguments, settings).await;
        assert!(!(out.is_empty() && err.is_empty()), "{arguments:?} says nothing");
        self.look("what a subcommand prints", out);
        self.look("what a subcommand prints", err);
        code
    }

    /// Fails on any leak, and where a place had nothing to look at.
    fn done(self, places: &[&str]) {
        for place in places {
            assert!(self.seen.get(place).is_some_and(|bytes| *bytes > 0), "{place} was not seen");
        }
        assert!(self.leaks.is_empty(), "{} leaks:\n{}", self.leaks.len(), self.leaks.join("\n"));
    }
}

fn planted_properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, secret) in [("otp", OTP), ("x-mobile", CUSTOMER), ("eko", DEVELOPER_KEY)] {
        headers.insert(name.into(), AMQPValue::LongString(secret.into()));
    }
    // No traceparent can be read out of it.
    let parent = format!("00-{OTP}{OTP}{OTP}{OTP}-{CUSTOMER}-01");
    headers.insert("tracestate-of-ours".into(), AMQPValue::LongString(parent.as_str().into()));
    BasicProperties::default().with_headers(headers)
}

/// Commands that end in each way, and what the simulator does to them.
fn commands() -> Vec<(Value, &'static str, &'static str)> {
    let zero = json!(ZERO_OTP);
    vec![
        (refund("p-ok", "801"), "", "succeeded"),
        (refund("p-zero", "802").with("/data/otp", zero.clone()), "", "succeeded"),
        (refund("p-number", "803").with("/data/otp", json!(73_519_346)), "", "succeeded"),
        (
            refund("p-initiator", "804").with("/data/initiator_id", json!(OTHER_INITIATOR)),
            "",
            "succeeded",
        ),
        (refund_otp("p-otp", "805"), "shows_otp", "succeeded"),
        (transfer_otp("p-transfer", "REQ-1"), "", "succeeded"),
        // Attributes that nobody reads may hold anything.
        (refund("p-attributes", "818").with("/subject", json!(CUSTOMER)), "", "succeeded"),
        (refund("p-wrong", "806"), "wrong_otp", "rejected"),
        (refund("p-expired-otp", "807"), "otp_expired", "rejected"),
        (refund("p-unknown", "808"), "unknown_code", "rejected"),
        (refund("p-invalid-params", "809"), "zero_invalid_params", "rejected"),
        (refund("p-503", "810"), "http_503", "succeeded"),
        (refund_otp("p-429", "811"), "http_429", "succeeded"),
        (refund("p-silence", "812"), "silence_done", "succeeded"),
        (refund("p-html", "813"), "html_done", "succeeded"),
        (refund("p-cut", "814"), "cut_json_done", "succeeded"),
        (refund("p-hold", "815"), "hold_for_good", "unresolved"),
        (refund_otp("p-reset", "816"), "reset", "succeeded"),
        (refund("p-late", "817").with("/expirytime", json!("2020-01-01T00:00:00Z")), "", "expired"),
        (refund("p-ok", "801").with("/data/otp", zero), "", "invalid"),
        (refund("p-known", "801"), "", "succeeded"),
    ]
}

/// Messages that are no commands, with what is personal in the field that is wrong.
fn invalid() -> Vec<Vec<u8>> {
    let mut n = 0;
    let mut next_id = || {
        n += 1;
        format!("p-broken-{n}")
    };
    let mut broken = |pointer: &str, value: Value| {
        refund(&next_id(), "820").with(pointer, value).to_string().into_bytes()
    };
    let named = format!("otp_{OTP}");
    let mut messages = vec![
        broken("/data/otp", json!(format!("{OTP}0"))),
        broken("/data/otp", json!({ "is": OTP })),
        broken("/data/otp", json!([OTP, CUSTOMER])),
        broken("/data/otpp", json!(OTP)),
        broken(&format!("/data/{CUSTOMER}"), json!(CUSTOMER)),
        broken(&format!("/data/{named}"), json!(true)),
        broken("/data/tid", json!(format!("{CUSTOMER}{CUSTOMER}"))),
        broken("/data/tid", json!(format!("OTP {OTP} of {CUSTOMER}"))),
        broken("/data/otp_ref_id", json!({ "ref": OTP_REF })),
        broken("/data/initiator_id", json!(format!("+91{OTHER_INITIATOR}"))),
        broken("/data/user_code", json!([CUSTOMER])),
        broken("/data/service_code", json!(CUSTOMER)),
        broken("/expirytime", json!(format!("in {OTP} s"))),
        broken("/type", json!(format!("eko.{OTP}.request"))),
        broken("/data", json!(format!("otp {OTP}"))),
        format!("{{\"otp\": \"{OTP}\", \"mobile\": {CUSTOMER}").into_bytes(),
        format!("otp={OTP}&customer_id={CUSTOMER}&key={DEVELOPER_KEY}").into_bytes(),
        [b"\xff\xfe{", OTP.as_bytes()].concat(),
        format!("{{\"id\":\"p-twice\",\"data\":{{\"otp\":\"{OTP}\",\"otp\":\"{ZERO_OTP}\"}}}}")
            .into_bytes(),
        json!({ "id": "p-no-type", "data": { "otp": OTP, "customer_id": CUSTOMER } })
            .to_string()
            .into_bytes(),
    ];
    let mut transfer = |pointer: &str, value: Value| {
        transfer_otp(&next_id(), "REQ-2").with(pointer, value).to_string().into_bytes()
    };
    messages.extend([
        transfer("/data/customer_id", json!(format!("+91{CUSTOMER}"))),
        transfer("/data/customer_id", json!({ "mobile": CUSTOMER })),
        transfer("/data/recipient_id", json!(format!("{CUSTOMER}.5"))),
        transfer("/data/amount", json!(format!("-{CUSTOMER}"))),
        transfer("/data/client_ref_id", json!(format!("{CUSTOMER} {CUSTOMER}"))),
    ]);
    messages
}

/// A rig that tells everything it knows, its keys in files.
async fn telling_rig(store: &Store) -> Rig {
    let rig = Rig::builder()
        .set("RUST_LOG", "trace")
        .impatient()
        .set("SETTLE_GIVE_UP", "20s")
        .eko_tolerates("5s")
        .set("RETRY_INITIAL", "250ms");
    let mut rig = rig.start_without_worker().await;
    if let Store::Postgres { .. } = store {
        let url = store.url(Path::new("")).replacen('@', &format!(":{PASSWORD}@"), 1);
        rig.settings.insert("LEDGER_URL".to_owned(), url);
    }
    let file = rig.path("developer-key");
    std::fs::write(&file, DEVELOPER_KEY).unwrap();
    rig.settings.remove("EKO_DEVELOPER_KEY");
    rig.settings.insert("EKO_DEVELOPER_KEY_FILE".to_owned(), file.display().to_string());
    rig
}

async fn search_a_whole_run(store: Store) {
    let mut rig = telling_rig(&store).await;
    rig.start_worker().await;
    let parked = rig.broker.watch_parked().await;
    rig.forgive_bad_requests();
    let mut search = Search::new();
    for (command, fault, outcome) in commands() {
        if !fault.is_empty() {
            let tid = command["data"]["tid"].as_str().unwrap();
            let kind = command["type"].as_str().unwrap().split('.').nth(1).unwrap();
            rig.simulator().fault(tid, kind, fault, 1).await;
        }
        rig.publish_with(&command, planted_properties()).await;
        let event = rig.next_event().await;
        assert_eq!(event.outcome(), outcome, "{}", event.body);
        search.event(&event);
    }
    for body in invalid() {
        rig.publish_raw(&body).await;
        let event = rig.next_event().await;
        assert_eq!(event.outcome(), "invalid", "{}", String::from_utf8_lossy(&body));
        search.event(&event);
    }
    search.admin(&mut rig).await;
    search.ledger_files(rig.path("").as_path());
    pause_and_change_the_key(&mut rig, &mut search).await;
    while let Some(dead) = rig.broker.get("dead").await {
        search.copy("a dead letter's headers", &dead);
    }
    for copy in parked.stop().await {
        search.copy("a parked copy's headers", &copy);
    }
    rig.stop_worker().await;
    search.look("the log", rig.log());
    search.ledger_files(rig.path("").as_path());
    search.look("the ledger", store.dump().await);
    subcommands(&rig, &mut search).await;
    rig.finish().await;
    store.remove().await;
    search.done(&[
        "the log",
        "the ledger",
        "an event",
        "an event's properties",
        "an answer of the admin server",
        "a parked copy's headers",
        "a dead letter's headers",
        "what a subcommand prints",
    ]);
}

/// Keys that Eko refuses pause consumption; new ones, read again, end it.
async fn pause_and_change_the_key(rig: &mut Rig, search: &mut Search) {
    let keys = json!({ "developer_key": NEW_KEY, "access_key": ACCESS_KEY });
    rig.simulator().control("keys", &keys).await;
    let waiting = ["p-key-1", "p-key-2", "p-key-3"];
    for (id, tid) in waiting.iter().zip(["831", "832", "833"]) {
        rig.publish(&refund(id, tid)).await;
    }
    let paused = [("kind", "refund"), ("reason", "unauthorized")];
    rig.until_metrics("it pauses", |metrics| metrics.value("paused", &paused) == 1.0).await;
    search.admin(rig).await;
    let file = rig.path("developer-key");
    std::fs::remove_file(&file).unwrap();
    rig.worker().process.signal("HUP");
    let worker = rig.worker();
    eventually("it says that the key cannot be read", async || {
        worker.log().contains("could not be read again").then_some(())
    })
    .await;
    std::fs::write(&file, NEW_KEY).unwrap();
    rig.worker().process.signal("HUP");
    for event in rig.events_of(waiting).await.values() {
        assert_eq!(event.outcome(), "succeeded", "{}", event.body);
        search.event(event);
    }
}

/// What `show` tells, and what is said of settings that are wrong.
async fn subcommands(rig: &Rig, search: &mut Search) {
    let settings = &rig.settings;
    for what in ["p-ok", "801", "p-wrong", "p-hold", "p-broken-1", "p-transfer", "none"] {
        search.subcommand(&["show", what], settings).await;
    }
    // Measured to a second, so a tolerance of one is not enough.
    let mut true_ones = settings.clone();
    for (name, value) in [("EKO_STAMP_TOLERANCE", "5s"), ("SETTLE_GIVE_UP", "60s")] {
        true_ones.insert(name.to_owned(), value.to_owned());
    }
    assert_eq!(search.subcommand(&["check"], &true_ones).await, 0);
    let with_password = |url: &str| url.replacen("guest:guest@", &format!("guest:{PASSWORD}@"), 1);
    for (name, value) in [
        ("AMQP_URL", with_password(&settings["AMQP_URL"])),
        ("AMQP_URL", format!("amqp://guest:{PASSWORD}@127.0.0.1:1/%2f")),
        ("AMQP_URL", format!("amqp://guest:{PASSWORD}@rabbit.example.com/%2f")),
        ("AMQP_URL", format!("amqpx://guest:{PASSWORD}@127.0.0.1:port/%2f")),
        ("LEDGER_URL", format!("postgres://eko:{PASSWORD}@127.0.0.1:1/eko")),
        ("LEDGER_URL", format!("postgres://eko:{PASSWORD}@127.0.0.1:port/eko?x=y")),
        ("LEDGER_URL", format!("mysql://eko:{PASSWORD}@127.0.0.1/eko")),
        ("EKO_BASE_URL", format!("https://eko:{PASSWORD}@eko.example.com/v3")),
        ("EKO_ACCESS_KEY", format!("{ACCESS_KEY}\n{DEVELOPER_KEY}")),
        ("EKO_INITIATOR_ID", format!("+91{INITIATOR}")),
        ("EKO_USER_CODE", format!("{CUSTOMER} {OTP}")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("grpc://otel:{PASSWORD}@127.0.0.1:4317")),
    ] {
        let mut wrong = settings.clone();
        wrong.insert(name.to_owned(), value);
        search.subcommand(&["check"], &wrong).await;
    }
}

#[tokio::test]
async fn nothing_personal_and_no_key_leaves_a_worker_with_a_ledger_in_a_file() {
    search_a_whole_run(Store::Sqlite).await;
}

#[tokio::test]
async fn nothing_personal_and_no_key_leaves_a_worker_with_a_ledger_in_postgresql() {
    if let Some(store) = Store::postgres().await {
        search_a_whole_run(store).await;
    }
}

/// Eko itself may repeat what it was sent.
#[tokio::test]
async fn what_an_answer_of_eko_repeats_goes_no_further() {
    let rig = Rig::builder().stub().set("RUST_LOG", "trace").impatient();
    let mut rig = rig.set("SETTLE_GIVE_UP", "4s").start().await;
    let said = format!(
        "OTP {OTP} of 91{CUSTOMER}, {CUSTOMER}: initiator_id {INITIATOR}, {OTHER_INITIATOR}; \
         developer_key {DEVELOPER_KEY}, ref {OTP_REF}"
    );
    let body = |status: i64| {
        json!({
            "status": status, "response_status_id": 1, "response_type_id": -1, "message": said,
            "invalid_params": { "otp": said, "mobile": CUSTOMER },
            "data": { "otp": OTP, "mobile": CUSTOMER, "customer_id": CUSTOMER, "reason": said },
        })
    };
    let mut search = Search::new();
    for (n, answer) in [
        Answer::Json(200, body(302)),
        Answer::Json(200, body(1999)),
        Answer::Json(200, body(0)),
        Answer::Json(400, body(1)),
        Answer::Text(200, "", said.clone()),
        Answer::Text(500, "x-otp: 73519346\r\n", format!("<html>{said}</html>")),
    ]
    .into_iter()
    .enumerate()
    {
        let tid = (841 + n).to_string();
        rig.stub().on_refund(&tid, [answer]);
        rig.stub().on_inquiry(&tid, [Answer::Json(200, body(0))]);
        let data = json!({
            "tid": tid, "otp": OTP, "otp_ref_id": OTP_REF, "initiator_id": OTHER_INITIATOR,
        });
        let event = rig.outcome_of(&command("refund", &format!("echo-{n}"), data)).await;
        search.event(&event);
        if matches!(event.outcome(), "unresolved" | "failed") {
            search.copy("a dead letter's headers", &rig.dead_letter(&event).await);
        }
    }
    search.admin(&mut rig).await;
    rig.stop_worker().await;
    search.look("the log", rig.log());
    search.ledger_files(rig.path("").as_path());
    for n in 0..6 {
        search.subcommand(&["show", &format!("echo-{n}")], &rig.settings).await;
    }
    rig.finish().await;
    search.done(&["the log", "the ledger", "an event", "what a subcommand prints"]);
}

#[test]
fn the_search_sees_each_form_also_within_something_longer() {
    for (place, secret) in PLANTED.iter().enumerate() {
        let long = format!("{}{secret}; and more", "x".repeat(place));
        let hex: String = long.bytes().map(|byte| format!("{byte:02x}")).collect();
        for text in
            [long.clone(), STANDARD_NO_PAD.encode(&long), URL_SAFE_NO_PAD.encode(&long), hex]
        {
            let mut search = Search::new();
            search.look("the log", &text);
            assert!(search.leaks.iter().any(|leak| leak.starts_with(secret)), "{secret} in {text}");
        }
    }
    let mut search = Search::new();
    search.look("the log", "tid 13192443, OTP XXXXXXXX, XXXXXX6789, 1763715600000");
    assert!(search.leaks.is_empty());
}
