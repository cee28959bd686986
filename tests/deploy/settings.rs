//! Settings that `deploy/` names are the program's, and those that hang together do.

use std::collections::BTreeSet;
use std::process::Command;

use super::{WORKER, files, is_name, read, root, values};

/// What begins a setting of ours, and nothing else's.
const PREFIXES: [&str; 15] = [
    "EKO_",
    "ORPHAN_",
    "AMQP_",
    "WORKER_",
    "RETRY_",
    "OTP_",
    "SETTLE_",
    "REFUND_",
    "LEDGER_",
    "ADMIN_",
    "AUDIT_",
    "LOG_",
    "SHUTDOWN_",
    "RUST_",
    "OTEL_",
];

/// Every whole word, letters of which are those of names.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_name(c)).filter(|word| !word.is_empty())
}

/// A duration such as `45s`.
fn seconds(duration: &str) -> u64 {
    let digits = duration.trim_matches('"').trim_end_matches('s');
    digits.parse().unwrap_or_else(|_| panic!("{duration} is not in seconds"))
}

/// Every variable that the program's help names.
pub(super) fn known_settings() -> BTreeSet<String> {
    let help = Command::new(WORKER).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let name =
        |part: &str| part.trim_start().chars().take_while(|c| is_name(*c)).collect::<String>();
    // The help is wrapped: a name may begin the next line.
    help.split("[env:").skip(1).map(name).collect()
}

#[test]
fn every_setting_that_deploy_names_is_one_of_the_program_s() {
    let known = known_settings();
    assert!(known.contains("EKO_TIMEOUT") && known.contains("AMQP_URL_FILE"), "{known:?}");
    let mut named = BTreeSet::new();
    for (path, text) in files("deploy") {
        for word in words(&text) {
            let is_ours = PREFIXES.iter().any(|prefix| word.starts_with(prefix))
                && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            if is_ours && !path.starts_with("deploy/test/") {
                let is_known = known.contains(word);
                assert!(is_known, "{path}: {word}");
                named.insert(word.to_owned());
            }
        }
    }
    assert!(named.len() > 10, "{named:?}");
}

#[test]
fn whoever_stops_a_worker_waits_longer_than_its_own_grace_time() {
    // the last events and their confirms, after the grace time of the calls
    const MARGIN: u64 = 10;
    let setting = read("deploy/k8s/base/worker.env");
    let grace = seconds(values(&setting, "SHUTDOWN_GRACE=")[0]);
    let call = seconds(values(&setting, "EKO_TIMEOUT=")[0]);
    let pod = seconds(
        values(&read("deploy/k8s/base/deployment.yaml"), "terminationGracePeriodSeconds:")[0],
    );
    assert!(
        pod >= grace + MARGIN,
        "the pod is killed after {pod} s, the worker needs {grace} s and {MARGIN} s"
    );
    assert!(grace > call, "a call may take {call} s, the worker waits {grace} s for it");
    for (path, text) in files("deploy/k8s") {
        let is_other = path.ends_with("base/worker.env");
        assert!(is_other || values(&text, "SHUTDOWN_GRACE=").is_empty(), "{path} sets it anew");
    }

    let compose = read("deploy/compose.yaml");
    let grace = seconds(values(&compose, "SHUTDOWN_GRACE:")[0]);
    let container = seconds(values(&compose, "stop_grace_period:")[0]);
    assert!(container >= grace + MARGIN, "{container} s for {grace} s");

    let unit = read("deploy/systemd/eko-worker.service");
    let grace = seconds(values(&unit, "Environment=SHUTDOWN_GRACE=")[0]);
    let service = seconds(values(&unit, "TimeoutStopSec=")[0]);
    assert!(service >= grace + MARGIN, "{service} s for {grace} s");
}

#[test]
fn as_many_workers_are_started_as_the_fleet_s_rate_limit_keeps_busy() {
    let number =
        |text: &str, key| -> u32 { values(text, key)[0].trim_matches('"').parse().unwrap() };
    let scaled = read("deploy/k8s/components/keda/scaledobject.yaml");
    let most = number(&scaled, "maxReplicaCount:");
    let surge = number(&read("deploy/k8s/base/deployment.yaml"), "maxSurge:");
    let rate = number(&read("deploy/k8s/overlays/prod/worker.env"), "EKO_RATE_LIMIT=");
    // A worker with fewer calls a second only waits for the others.
    let each = 5;
    assert!(
        (most + surge) * each <= rate,
        "{most} workers and {surge} in a rollout share {rate} calls a second"
    );
}

#[test]
fn the_folders_that_compose_mounts_are_there() {
    let compose = read("deploy/compose.yaml");
    let mounted: Vec<&str> =
        values(&compose, "./").into_iter().map(|line| line.split(':').next().unwrap()).collect();
    assert!(mounted.len() > 5, "{mounted:?}");
    for path in mounted {
        assert!(root().join("deploy").join(path).exists(), "{path}");
    }
    let provider = read("deploy/grafana/provisioning/dashboards/eko-worker.yaml");
    let folder = values(&provider, "path:")[0];
    assert!(compose.contains(&format!("eko-worker.json:{folder}/")), "{folder} is not mounted");
}
