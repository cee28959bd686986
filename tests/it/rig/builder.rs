//! How a rig is set up.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::broker::Broker;
use super::command::{CUSTOMER, OTP};
use super::simulator::Simulator;
use super::stub::{self, Stub};
use super::worker::Settings;
use super::{ACCESS_KEY, DEVELOPER_KEY, Eko, INITIATOR, Rig, USER_CODE};

/// What a rig is built from.
pub(crate) struct Builder {
    pub(super) settings: Settings,
    pub(super) broker: Option<String>,
    pub(super) stub: bool,
    pub(super) binding: String,
    pub(super) repeats_allowed: bool,
    pub(super) stamp_tolerance: &'static str,
}

impl Builder {
    /// With this setting of the worker.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With another RabbitMQ than that of the tests.
    pub(crate) fn at(mut self, broker: &str) -> Self {
        self.broker = Some(broker.to_owned());
        self
    }

    /// With a scripted Eko in place of the simulator.
    pub(crate) fn stub(mut self) -> Self {
        self.stub = true;
        self
    }

    /// With a subscriber that binds this key only.
    pub(crate) fn subscribe(mut self, key: &str) -> Self {
        key.clone_into(&mut self.binding);
        self
    }

    /// With a simulator that refuses timestamps older than this; else it takes what real life
    /// brings, and no call is over for it when it is for the worker.
    pub(crate) fn eko_tolerates(mut self, age: &'static str) -> Self {
        self.stamp_tolerance = age;
        self
    }

    /// Where the broker may tell an event twice.
    pub(crate) fn at_least_once(mut self) -> Self {
        self.repeats_allowed = true;
        self
    }

    /// With waiting times for tests that wait for silence or for settling.
    pub(crate) fn impatient(self) -> Self {
        self.over_after("1s")
    }

    /// Lets a call stay open for as long as a slow machine needs between its begin and its
    /// answer.
    pub(crate) fn patient(self) -> Self {
        self.over_after("30s")
    }

    /// With this time for an answer, for a timestamp to expire, and for the quiet after that.
    fn over_after(self, time: &str) -> Self {
        let names = ["EKO_TIMEOUT", "EKO_STAMP_TOLERANCE", "SETTLE_QUIET"];
        names.into_iter().fold(self, |builder, name| builder.set(name, time))
    }

    /// Starts Eko and the worker, and waits until it consumes.
    pub(crate) async fn start(self) -> Rig {
        let mut rig = self.start_without_worker().await;
        rig.start_worker().await;
        rig
    }

    /// Starts all but the worker.
    pub(crate) async fn start_without_worker(self) -> Rig {
        let dir = tempfile::Builder::new().prefix("it-").tempdir().unwrap();
        let prefix = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let broker = match &self.broker {
            Some(url) => Broker::connect_to(url, &prefix).await,
            None => Broker::connect(&prefix).await,
        };
        let events = broker.inbox("test-events", Some(("events", &self.binding))).await;
        let eko = if self.stub {
            Eko::Stub(Stub::start().await)
        } else {
            Eko::Simulator(Simulator::start_tolerating(self.stamp_tolerance).await)
        };
        let url = match &eko {
            Eko::Simulator(simulator) => simulator.url(),
            Eko::Stub(stub) => stub.url(),
        };
        let mut settings = defaults(&dir, &prefix, url);
        if let Some(broker) = &self.broker {
            settings.insert("AMQP_URL".to_owned(), broker.clone());
        }
        settings.extend(self.settings);
        let planted = [OTP, CUSTOMER, DEVELOPER_KEY, ACCESS_KEY, INITIATOR];
        Rig {
            broker,
            settings,
            events,
            eko,
            worker: None,
            logs: Vec::new(),
            seen: BTreeMap::new(),
            ends: BTreeMap::new(),
            planted: planted.map(str::to_owned).to_vec(),
            repeats_allowed: self.repeats_allowed,
            bad_requests_allowed: false,
            dir,
        }
    }
}

fn defaults(dir: &TempDir, prefix: &str, eko: &str) -> Settings {
    let ledger = dir.path().join("ledger.db");
    [
        ("AMQP_URL", Broker::url()),
        ("AMQP_PREFIX", prefix.to_owned()),
        ("EKO_BASE_URL", format!("{eko}{}", stub::BASE)),
        ("EKO_DEVELOPER_KEY", DEVELOPER_KEY.to_owned()),
        ("EKO_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("EKO_INITIATOR_ID", INITIATOR.to_owned()),
        ("EKO_USER_CODE", USER_CODE.to_owned()),
        ("EKO_TIMEOUT", "5s".to_owned()),
        ("EKO_STAMP_TOLERANCE", "5s".to_owned()),
        ("RETRY_INITIAL", "100ms".to_owned()),
        ("RETRY_MAX", "2s".to_owned()),
        ("SETTLE_POLL", "250ms".to_owned()),
        ("SETTLE_QUIET", "5s".to_owned()),
        ("OTP_RESEND_SPACING", "500ms".to_owned()),
        ("LEDGER_URL", format!("sqlite://{}", ledger.display())),
        ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
        ("SHUTDOWN_GRACE", "10s".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
