//! Addresses that are malformed: named, and nothing of their passwords is shown anywhere.

use crate::rig::Rig;
use crate::rig::worker::Worker;

const PASSWORD: &str = "hunter2";

/// `S` stands for the scheme.
const MALFORMED: [&str; 10] = [
    "S://user:hunter2@one\nS://user:hunter2@two",
    "S://user:hunter2@oneS://user:hunter2@two",
    "S://user:hunter2@one S://user:hunter2@two",
    "S://user:hun\thunter2@one",
    "S://user:hunter2%@one",
    "S://user:hunter2@one:port",
    "S://user:12/hunter2@one",
    "S://user:12?hunter2@one",
    "S://user:12#hunter2@one",
    "S://user:12@hunter2@one",
];

/// What each subcommand that takes an address is run with.
const COMMANDS: [(&str, &[&[&str]]); 2] = [
    (
        "AMQP_URL",
        &[
            &["run"],
            &["check"],
            &["check", "--json"],
            &["config"],
            &["config", "--json"],
            &["dead", "list"],
            &["publish", "refund_otp", "--tid", "1"],
        ],
    ),
    (
        "LEDGER_URL",
        &[
            &["run"],
            &["check"],
            &["check", "--json"],
            &["config"],
            &["config", "--json"],
            &["show", "1"],
        ],
    ),
];

#[tokio::test]
async fn nothing_of_a_malformed_address_is_shown_by_any_subcommand() {
    let rig = Rig::builder().stub().start_without_worker().await;
    let file = rig.path("url");
    for (setting, commands) in COMMANDS {
        let scheme = if setting == "AMQP_URL" { "amqps" } else { "postgres" };
        for (malformed, arguments) in
            MALFORMED.iter().flat_map(|url| commands.iter().map(move |command| (url, *command)))
        {
            let url = malformed.replace('S', scheme);
            std::fs::write(&file, &url).unwrap();
            let mut given = rig.settings.clone();
            given.insert(setting.to_owned(), url.clone());
            let mut in_file = rig.settings.clone();
            in_file.remove(setting);
            in_file.insert(format!("{setting}_FILE"), file.display().to_string());
            for settings in [given, in_file] {
                let (code, told, said) = Worker::output(arguments, &settings).await;
                let all = format!("{told}{said}");
                assert!(!all.contains(PASSWORD), "{arguments:?} {url:?}: {all}");
                assert!(all.contains(setting), "{arguments:?} {url:?}: {all}");
                assert_eq!(code, 2, "{arguments:?} {url:?}: {all}");
            }
        }
    }
}

#[tokio::test]
async fn a_blank_variable_is_unset() {
    let rig = Rig::builder().stub().set("EKO_STAMP_TOLERANCE", "120s");
    let rig = rig.start_without_worker().await;
    let blank = |names: &[&str]| {
        let mut settings = rig.settings.clone();
        settings.extend(names.iter().map(|name| ((*name).to_owned(), " ".to_owned())));
        settings
    };
    let all = blank(&[
        "EKO_TIMEOUT",
        "AMQP_ALLOW_PLAINTEXT",
        "AMQP_URL_FILE",
        "LEDGER_URL",
        "SETTLE_QUIET",
    ]);
    let (code, told, said) = Worker::output(&["config", "--json"], &all).await;
    assert_eq!(code, 0, "{told}{said}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let setting = |name: &str| {
        let mut settings = told["settings"].as_array().unwrap().iter();
        settings.find(|setting| setting["name"] == name).unwrap().clone()
    };
    for (name, value) in [
        ("EKO_TIMEOUT", "30s"),
        ("AMQP_ALLOW_PLAINTEXT", "false"),
        ("LEDGER_URL", "sqlite://eko-worker.db"),
    ] {
        let setting = setting(name);
        assert_eq!((&setting["value"], &setting["source"]), (&value.into(), &"default".into()));
    }
    let (code, _, said) = Worker::output(&["run"], &blank(&["EKO_DEVELOPER_KEY"])).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("EKO_DEVELOPER_KEY: is missing"), "{said}");
    // Also one that a subcommand of a subcommand takes: it gets as far as the broker.
    let settings = blank(&["AMQP_ALLOW_PLAINTEXT"]);
    let (_, told, said) = Worker::output(&["dead", "list"], &settings).await;
    assert!(said.contains("cannot read the dead letters"), "{told}{said}");
}

#[tokio::test]
async fn a_virtual_host_without_a_name_is_told_with_what_was_probably_meant() {
    let rig = Rig::builder().stub().start_without_worker().await;
    let mut settings = rig.settings.clone();
    let (server, _) = settings["AMQP_URL"].rsplit_once('/').unwrap();
    let url = format!("{server}/");
    settings.insert("AMQP_URL".to_owned(), url);
    let (code, _, said) = Worker::output(&["dead", "list"], &settings).await;
    assert_eq!(code, 1);
    assert!(said.contains("end it with /%2f for the usual one"), "{said}");
}

#[tokio::test]
async fn a_port_without_tls_says_so() {
    let rig = Rig::builder().stub().start_without_worker().await;
    let mut settings = rig.settings.clone();
    let url = settings["AMQP_URL"].replacen("amqp://", "amqps://", 1);
    settings.insert("AMQP_URL".to_owned(), url);
    let (code, _, said) = Worker::output(&["dead", "list"], &settings).await;
    assert_eq!(code, 1);
    assert!(said.contains("the port does not speak TLS: use amqp://"), "{said}");
}

#[tokio::test]
async fn a_wrong_yes_or_no_names_its_variable() {
    let rig = Rig::builder().stub().start_without_worker().await;
    let mut settings = rig.settings.clone();
    settings.insert("WORKER_ADAPTIVE".to_owned(), "maybe".to_owned());
    let (code, _, said) = Worker::output(&["run"], &settings).await;
    let why = "eko-worker: WORKER_ADAPTIVE: must be true or false (or yes or no)";
    assert_eq!((code, said.trim()), (2, why));
    settings.insert("WORKER_ADAPTIVE".to_owned(), "yes".to_owned());
    let (code, told, said) = Worker::output(&["config", "--json"], &settings).await;
    assert_eq!(code, 0, "{told}{said}");
}
