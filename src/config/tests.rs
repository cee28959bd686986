use clap::Parser;
use secrecy::ExposeSecret as _;

use super::*;
use crate::credential::Refreshed;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

const KEYS: [&str; 2] = ["--eko-developer-key=developer", "--eko-access-key=access"];

fn config(flags: &[&str]) -> Result<Config, Problems> {
    let flags = ["eko-worker"].iter().chain(&KEYS).chain(flags);
    Config::new(&Cli::parse_from(flags).args)
}

fn problems(flags: &[&str]) -> Vec<String> {
    config(flags).map(drop).expect_err("a problem").0
}

#[test]
fn the_defaults_are_the_contract_s() {
    let config = config(&[]).unwrap();
    assert_eq!(config.broker.urls.value().len(), 1);
    assert_eq!(config.broker.prefix, "eko");
    assert_eq!((config.breaker.concurrency, config.broker.prefetch), (64, 128));
    assert_eq!(config.eko.base_url.as_str(), "https://staging.eko.in/ekoapi/v3");
    assert_eq!(config.eko.timeout, Duration::from_secs(30));
    assert_eq!(config.eko.stamp_age, Duration::ZERO);
    assert_eq!(config.policy.stamp_tolerance, Duration::from_secs(120));
    assert_eq!(config.policy.retry.initial, Duration::from_millis(500));
    assert_eq!(config.policy.retry.max, Duration::from_secs(300));
    assert_eq!(config.policy.give_up_otp, Duration::from_secs(120));
    assert_eq!(config.policy.give_up_refund, Duration::from_secs(86_400));
    assert_eq!(config.policy.settle.initial, Duration::from_secs(5));
    assert_eq!(config.policy.settle_quiet, Duration::from_secs(30));
    assert_eq!(config.policy.refund_max_attempts, 3);
    assert!(!config.policy.preflight);
    assert_eq!(config.retention, Duration::from_secs(90 * 86_400));
    assert_eq!(config.admin_addr.to_string(), "127.0.0.1:9464");
    assert_eq!(config.shutdown_grace, Duration::from_secs(25));
    assert!(config.lease >= config.eko.timeout);
    assert!(config.lease <= config.eko.timeout + Duration::from_secs(60));
}

#[test]
fn yes_and_no_are_said_in_the_usual_words() {
    for (given, expected) in [
        ("=yes", true),
        ("=on", true),
        ("=1", true),
        ("=True", true),
        ("", true),
        ("=no", false),
        ("=off", false),
        ("=0", false),
        ("=FALSE", false),
    ] {
        let flags = ["--worker-adaptive", "--ledger-adopt"].map(|flag| format!("{flag}{given}"));
        let config = config(&flags.each_ref().map(String::as_str)).unwrap();
        assert_eq!(
            (config.breaker.is_adaptive, config.adopts_ledger),
            (expected, expected),
            "{given}"
        );
    }
    let defaults = config(&[]).unwrap();
    assert!(defaults.breaker.is_adaptive && !defaults.adopts_ledger);
}

#[test]
fn every_wrong_setting_is_named_with_the_reason() {
    for (flag, expected) in [
        (
            "--amqp-url=http://host",
            "AMQP_URL: node 1: must be amqp:// or amqps:// addresses such as amqp://user:password@host:5672/%2f",
        ),
        (
            "--amqp-url=amqp://127.0.0.1,amqp://rabbit.example.com",
            "AMQP_URL: node 2: plain amqp is only allowed to loopback: use amqps, or set AMQP_ALLOW_PLAINTEXT=true",
        ),
        (
            "--amqp-ca-file=ca.pem",
            "AMQP_CA_FILE: is only used with amqps, but AMQP_URL has no amqps address: remove it, or use amqps",
        ),
        ("--worker-adaptive=maybe", "WORKER_ADAPTIVE: must be true or false (or yes or no)"),
        ("--amqp-prefix=", "AMQP_PREFIX: must be 1 to 100 of A-Z a-z 0-9 . _ -"),
        (
            "--eko-base-url=http://eko.example/v3",
            "EKO_BASE_URL: plain http is only allowed to loopback: use https, or set EKO_ALLOW_HTTP=true",
        ),
        ("--eko-base-url=ftp://eko.example", "EKO_BASE_URL: must begin with https://"),
        ("--eko-ca-file=no/such/file", "EKO_CA_FILE: cannot read no/such/file"),
        (
            "--eko-base-url=https://user:pw@eko.example/v3",
            "EKO_BASE_URL: must be a scheme, a host and a path, and nothing else",
        ),
        (
            "--eko-timeout=30",
            "EKO_TIMEOUT: must be a duration above 0 such as 500ms, 30s, 5m, 24h or 90d",
        ),
        (
            "--eko-timeout=0s",
            "EKO_TIMEOUT: must be a duration above 0 such as 500ms, 30s, 5m, 24h or 90d",
        ),
        ("--eko-initiator-id=12", "EKO_INITIATOR_ID: must have 10 digits"),
        ("--eko-user-code=a b", "EKO_USER_CODE: must be 1 to 32 letters, digits, _ or -"),
        ("--worker-concurrency=0", "WORKER_CONCURRENCY: must be a whole number from 1 to 10000"),
        ("--worker-rate-limit=none", "WORKER_RATE_LIMIT: must be a whole number above 0"),
        ("--eko-rate-limit=0", "EKO_RATE_LIMIT: must be a whole number from 1 to 1000"),
        ("--eko-rate-limit=1001", "EKO_RATE_LIMIT: must be a whole number from 1 to 1000"),
        ("--retry-max=2h", "RETRY_MAX: must be at most 1h"),
        ("--retry-initial=6m", "RETRY_INITIAL: must be at most RETRY_MAX"),
        (
            "--settle-quiet=10s",
            "SETTLE_QUIET: must be at least EKO_TIMEOUT: a call may still be under way at Eko that long",
        ),
        ("--refund-max-attempts=0", "REFUND_MAX_ATTEMPTS: must be a whole number above 0"),
        ("--refund-preflight=never", "REFUND_PREFLIGHT: must be redelivered or always"),
        ("--ledger-url=mysql://host/db", "LEDGER_URL: must be"),
        (
            "--admin-addr=localhost",
            "ADMIN_ADDR: must be an address and a port such as 127.0.0.1:9464",
        ),
        ("--log-format=xml", "LOG_FORMAT: must be text or json"),
    ] {
        let problems = problems(&[flag]);
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{problems:?}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_with_the_sum() {
    let told = |flags: &[&str]| config(flags).map(drop).err().map(|problems| problems.0);
    let age = "EKO_STAMP_AGE: EKO_STAMP_AGE 100s + EKO_TIMEOUT 30s = 130s is more than \
               EKO_STAMP_TOLERANCE 120s: Eko would refuse a call that leaves at the last moment of \
               its time";
    assert_eq!(told(&["--eko-stamp-age=100s"]), Some(vec![age.to_owned()]));
    assert_eq!(told(&["--eko-stamp-age=90s"]), None, "just as much");
    let timeout = told(&["--eko-timeout=121s", "--settle-quiet=121s"]).unwrap();
    assert!(timeout[0].contains("EKO_STAMP_AGE 0s + EKO_TIMEOUT 121s = 121s"), "{timeout:?}");

    let give_up = "SETTLE_GIVE_UP: must be more than EKO_STAMP_TOLERANCE 120s + SETTLE_QUIET \
                   30500ms = 150500ms: no refund could be proven not executed before it is given up";
    let flags = ["--settle-quiet=30500ms", "--settle-give-up=150500ms"];
    assert_eq!(told(&flags), Some(vec![give_up.to_owned()]));
    assert_eq!(told(&["--settle-quiet=30500ms", "--settle-give-up=150501ms"]), None);
    let lower = ["--eko-stamp-tolerance=60s", "--settle-give-up=100s", "--eko-stamp-age=30s"];
    assert_eq!(told(&lower), None);
}

#[test]
fn all_problems_are_told_at_once_and_no_secret_is() {
    let cli = Cli::parse_from([
        "eko-worker",
        "--amqp-url=amqp-typo://user:hunter2@host",
        "--admin-addr=nowhere",
        "--retry-max=never",
    ]);
    let problems = Config::new(&cli.args).map(drop).unwrap_err();
    let told = problems.to_string();
    for name in ["AMQP_URL", "ADMIN_ADDR", "RETRY_MAX", "EKO_DEVELOPER_KEY", "EKO_ACCESS_KEY"] {
        assert!(problems.0.iter().any(|problem| problem.starts_with(name)), "{name}: {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn a_secret_may_come_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "amqps://user:hunter2@one,amqps://user:hunter2@two\n").unwrap();
    let flag = format!("--amqp-url-file={}", file.path().display());
    let config = config(&[&flag]).unwrap();
    assert_eq!(config.broker.urls.value().len(), 2);
    let shown = format!("{config:?}");
    for secret in ["hunter2", "developer\"", "access\""] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn plain_amqp_may_be_allowed() {
    let url = "--amqp-url=amqp://rabbit.example.com";
    assert!(config(&[url, "--amqp-allow-plaintext"]).is_ok());
    assert!(config(&[url, "--amqp-allow-plaintext=false"]).is_err());
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let key = rcgen::KeyPair::generate().unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    let names = vec!["eko-worker".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let certificate = file("certificate", &certificate.pem());
    let (key, other) = (file("key", &key.serialize_pem()), file("other", &other.serialize_pem()));
    let empty = file("empty", "nothing");
    let missing = dir.path().join("missing").display().to_string();
    let told = |ca: &str, certificate: &str, key: &str| {
        let flags = [
            "--amqp-url=amqps://rabbit.example.com".to_owned(),
            format!("--amqp-ca-file={ca}"),
            format!("--amqp-client-cert-file={certificate}"),
            format!("--amqp-client-key-file={key}"),
        ];
        config(&flags.each_ref().map(String::as_str)).map(drop)
    };
    assert_eq!(told(&certificate, &certificate, &key), Ok(()));
    for (ca, own, its_key, expected) in [
        (&missing, &certificate, &key, "AMQP_CA_FILE: cannot read"),
        (&empty, &certificate, &key, "AMQP_CA_FILE: "),
        (&certificate, &missing, &key, "AMQP_CLIENT_CERT_FILE: cannot read"),
        (&certificate, &certificate, &missing, "AMQP_CLIENT_KEY_FILE: cannot read"),
        (&certificate, &certificate, &other, "AMQP_CLIENT_CERT_FILE: does not go with its key"),
        (&certificate, &certificate, &String::new(), "AMQP_CLIENT_KEY_FILE: is missing"),
        (&certificate, &String::new(), &key, "AMQP_CLIENT_CERT_FILE: is missing"),
    ] {
        let problems = told(ca, own, its_key).unwrap_err().0;
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{problems:?}");
    }
}

#[test]
fn a_secret_given_twice_is_refused() {
    let told = problems(&["--eko-access-key-file=somewhere"]);
    assert_eq!(
        told,
        [
            "EKO_ACCESS_KEY: is given twice, as EKO_ACCESS_KEY and as EKO_ACCESS_KEY_FILE: remove one of them"
        ]
    );
}

#[test]
fn a_missing_secret_file_is_named() {
    let told = problems(&["--amqp-url-file=no/such/file"]);
    assert!(told[0].starts_with("AMQP_URL_FILE: cannot read no/such/file"), "{told:?}");
}

#[test]
fn every_variable_of_the_sample_is_a_setting() {
    let sample = include_str!("../../deploy/eko-worker.env");
    let is_setting = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let command = <Cli as clap::CommandFactory>::command();
    let known: Vec<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned))
        .collect();
    let mut named = 0;
    for line in sample.lines().filter(is_setting) {
        let (name, _) = line.split_once('=').unwrap();
        assert!(known.iter().any(|known| known == name), "{name}");
        named += 1;
    }
    assert!(named > 8 && known.len() > 25);
}

/// All that is told of wrong settings, with the keys in place.
fn told(flags: &[&str]) -> String {
    problems(flags).join("\n")
}

#[test]
fn a_setting_under_which_a_guarantee_would_be_lost_is_refused_with_the_reason() {
    const LOOPBACK: &str = "--eko-base-url=http://127.0.0.1:1/v3";
    for (flags, name, reason) in [
        (&["--ledger-retention=1s"][..], "LEDGER_RETENTION", "executed twice"),
        (&[LOOPBACK, "--ledger-retention=24h"], "LEDGER_RETENTION", "must be at least 86550s"),
        (
            &["--ledger-retention=24h", "--retry-give-up-refund=1h"],
            "LEDGER_RETENTION",
            "SETTLE_GIVE_UP",
        ),
        (
            &["--ledger-retention=47h", "--retry-give-up-otp=48h"],
            "LEDGER_RETENTION",
            "RETRY_GIVE_UP_OTP, EKO_STAMP_TOLERANCE and SETTLE_QUIET",
        ),
        (
            &["--ledger-retention=59m", "--retry-give-up-refund=10m", "--settle-give-up=10m"],
            "LEDGER_RETENTION",
            "must be at least 3600s",
        ),
        (&["--settle-quiet=14s", "--eko-timeout=10s"], "SETTLE_QUIET", "must be at least 15s"),
        (&["--eko-stamp-tolerance=59s"], "EKO_STAMP_TOLERANCE", "must be at least 60s"),
        (&["--eko-timeout=4s"], "EKO_TIMEOUT", "must be at least 5s"),
        (&["--orphan-after=119s"], "ORPHAN_AFTER", "must be at least 120s"),
    ] {
        let told = problems(flags);
        let is_named =
            |told: &String| told.starts_with(&format!("{name}: ")) && told.contains(reason);
        assert!(told.iter().any(is_named), "{flags:?}: {told:?}");
    }
    for flags in [
        &["--ledger-retention=86550s"][..],
        &["--settle-quiet=15s", "--eko-timeout=5s", "--eko-stamp-tolerance=60s"],
        &[LOOPBACK, "--settle-quiet=1s", "--eko-timeout=1s", "--eko-stamp-tolerance=1s"],
        &["--orphan-after=2m"],
        &[LOOPBACK, "--orphan-after=1s"],
        &["--ledger-retention=1h", "--retry-give-up-refund=10m", "--settle-give-up=10m"],
    ] {
        assert!(config(flags).is_ok(), "{flags:?}: {}", told(flags));
    }
}

#[test]
fn all_floors_are_told_at_once_and_beside_other_problems() {
    let flags =
        ["--ledger-retention=1s", "--settle-quiet=1s", "--eko-timeout=1s", "--log-format=xml"];
    let told = problems(&flags);
    for name in ["LEDGER_RETENTION", "SETTLE_QUIET", "EKO_TIMEOUT", "LOG_FORMAT"] {
        assert!(told.iter().any(|told| told.starts_with(name)), "{name}: {told:?}");
    }
    let cli = Cli::parse_from(["eko-worker", "--ledger-retention=1s"]);
    let without_keys = Config::new(&cli.args).map(drop).unwrap_err();
    assert!(without_keys.to_string().contains("LEDGER_RETENTION"), "{without_keys}");
}

#[test]
fn nothing_of_a_malformed_address_is_told_but_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    for (url, expected) in urls::tests::MALFORMED {
        for (name, flag, scheme) in
            [("AMQP_URL", "amqp-url", "amqps"), ("LEDGER_URL", "ledger-url", "postgres")]
        {
            let url = url.replace('S', scheme);
            std::fs::write(&path, &url).unwrap();
            for flag in [format!("--{flag}={url}"), format!("--{flag}-file={}", path.display())] {
                let told = told(&[&flag]);
                assert!(told.starts_with(name) && told.contains(expected), "{url}: {told}");
                assert!(!told.contains("hunter2"), "{url}: {told}");
            }
        }
    }
    let second = told(&["--amqp-url=amqps://one.example.com,amqps://user:hunter2@two:x"]);
    assert!(second.starts_with("AMQP_URL: node 2: has an invalid port"), "{second}");
    assert!(told(&["--amqp-url="]).starts_with("AMQP_URL: is empty"));
    assert!(told(&["--ledger-url= "]).starts_with("LEDGER_URL: is empty"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (key, url) = (file("key", "\u{feff}secret\r\n"), file("url", "\u{feff}amqps://one\r\n"));
    let cli = Cli::parse_from([
        "eko-worker",
        "--eko-developer-key=developer",
        &format!("--eko-access-key-file={key}"),
        &format!("--amqp-url-file={url}"),
    ]);
    let config = Config::new(&cli.args).unwrap();
    assert_eq!(config.eko.keys.access_key.value().expose_secret(), "secret");
    assert_eq!(config.broker.urls.value()[0].expose_secret(), "amqps://one");
    let cli = Cli::parse_from(["eko-worker", KEYS[0], "--eko-access-key=\u{feff}secret"]);
    let told = Config::new(&cli.args).map(drop).unwrap_err().to_string();
    assert_eq!(
        told,
        "EKO_ACCESS_KEY: holds a byte order mark, an invisible character: take it out"
    );
}

#[test]
fn a_secret_that_was_written_anew_is_read_again_and_checked_as_the_first_was() {
    let folder = tempfile::tempdir().unwrap();
    let (amqp, ledger) = (folder.path().join("amqp"), folder.path().join("ledger"));
    std::fs::write(&amqp, "amqps://worker:first@one").unwrap();
    std::fs::write(&ledger, "postgres://worker:first@127.0.0.1/eko").unwrap();
    let config = config(&[
        &format!("--amqp-url-file={}", amqp.display()),
        &format!("--ledger-url-file={}", ledger.display()),
    ]);
    let config = config.unwrap();
    let url = config.ledger.url_in_file().unwrap();
    for refused in ["amqp://worker:second@one", "amqps://worker:sec ond@one", ""] {
        std::fs::write(&amqp, refused).unwrap();
        assert_eq!(config.broker.urls.refresh(), Refreshed::Failed, "{refused}");
    }
    for refused in ["postgres://worker:second@db/eko", "sqlite://eko-worker.db"] {
        std::fs::write(&ledger, refused).unwrap();
        assert_eq!(url.refresh(), Refreshed::Failed, "{refused}");
    }
    std::fs::write(&amqp, "amqps://worker:second@one\n").unwrap();
    std::fs::write(&ledger, "postgres://worker:second@127.0.0.1/eko\n").unwrap();
    assert_eq!((config.broker.urls.refresh(), url.refresh()), (Refreshed::New, Refreshed::New));
    assert_eq!(config.broker.urls.value()[0].expose_secret(), "amqps://worker:second@one");
}

#[test]
fn plain_text_to_the_ledger_beyond_loopback_must_be_allowed() {
    let url = "--ledger-url=postgres://worker:hunter2@db.example.com/eko";
    for plain in [url.to_owned(), format!("{url}?sslmode=disable"), format!("{url}?sslmode=prefer")]
    {
        let told = told(&[&plain]);
        assert!(told.starts_with("LEDGER_URL: plain text is only allowed to loopback"), "{told}");
        assert!(config(&[&plain, "--ledger-allow-plaintext"]).is_ok());
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        assert!(config(&[&format!("{url}?sslmode={mode}")]).is_ok(), "{mode}");
    }
    assert!(config(&["--ledger-url=postgres://worker@127.0.0.1/eko"]).is_ok());
    let told = told(&["--ledger-ca-file=/ca.pem"]);
    assert!(told.starts_with("LEDGER_CA_FILE: is only used with TLS, but LEDGER_URL"), "{told}");
}

#[test]
fn a_tid_on_the_command_line_has_one_form() {
    #[derive(Parser)]
    struct Inquire {
        #[command(flatten)]
        args: InquireArgs,
    }
    let tid = |tid: &str| {
        let parsed = Inquire::parse_from(["inquire", tid]);
        parsed.args.tid().map(str::to_owned).ok()
    };
    assert_eq!(tid("0013"), Some("13".to_owned()));
    assert_eq!(tid("9999999999999999999"), Some("9999999999999999999".to_owned()));
    for wrong in ["0", "000", "", "1x", "00000000000000000013"] {
        assert_eq!(tid(wrong), None, "{wrong}");
    }
}
