//! Families whose label combinations all exist from the start, at 0: without that, the first
//! failure is invisible to `rate()`.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry,
};

use crate::broker::WaitingQueue;
use crate::eko::Endpoint;
use crate::verdict::{Reading, Verdict};

/// Makes families whose label combinations all exist from the start.
pub(super) struct MetricBuilder(Registry);

pub(super) type Labels<'a> = &'a [(&'a str, Vec<&'static str>)];

impl MetricBuilder {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self(Registry::new_custom(Some("eko_worker".to_owned()), None)?))
    }

    pub(super) fn counter(
        &self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
    ) -> Result<IntCounterVec, prometheus::Error> {
        let family = IntCounterVec::new(Opts::new(name, help), &names(labels))?;
        for values in combinations(labels) {
            family.with_label_values(&values);
        }
        self.register(family)
    }

    /// Verdicts for the kinds' endpoints, readings for inquiries.
    pub(super) fn requests(&self) -> Result<IntCounterVec, prometheus::Error> {
        let opts = Opts::new("eko_requests_total", "Calls of Eko by what came of them.");
        let family = IntCounterVec::new(opts, &["endpoint", "verdict"])?;
        for endpoint in Endpoint::ALL {
            let verdicts: &[&str] = match endpoint {
                Endpoint::Of(_) => &Verdict::NAMES,
                Endpoint::Inquiry => &Reading::NAMES,
            };
            for verdict in verdicts {
                family.with_label_values(&[endpoint.as_str(), verdict]);
            }
        }
        self.register(family)
    }

    /// One for each queue in which commands wait.
    pub(super) fn by_waiting_queue(
        &self,
        name: &str,
        help: &str,
    ) -> Result<IntCounterVec, prometheus::Error> {
        let family = IntCounterVec::new(Opts::new(name, help), &["kind", "queue"])?;
        for queue in WaitingQueue::all() {
            family.with_label_values(&[queue.kind().as_str(), &queue.name()]);
        }
        self.register(family)
    }

    pub(super) fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let family = IntGaugeVec::new(Opts::new(name, help), &names(labels))?;
        for values in combinations(labels) {
            family.with_label_values(&values);
        }
        self.register(family)
    }

    pub(super) fn float_gauge(
        &self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
    ) -> Result<GaugeVec, prometheus::Error> {
        let family = GaugeVec::new(Opts::new(name, help), &names(labels))?;
        for values in combinations(labels) {
            family.with_label_values(&values);
        }
        self.register(family)
    }

    /// One whose series are there only while their values are known.
    pub(super) fn late_gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        self.register(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn plain_counter(
        &self,
        name: &str,
        help: &str,
    ) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(name, help)?)
    }

    pub(super) fn plain(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.register(Gauge::new(name, help)?)
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: Labels<'_>,
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let family = HistogramVec::new(opts, &names(labels))?;
        for values in combinations(labels) {
            family.with_label_values(&values);
        }
        self.register(family)
    }

    /// What does not change while the process runs, and the registry itself.
    pub(super) fn constants(self, prefix: &str) -> Result<Registry, prometheus::Error> {
        let revision = option_env!("EKO_WORKER_REVISION").unwrap_or("unknown");
        let opts = Opts::new("build_info", "This program, and whose queues it works on.");
        let info = self.register(IntGaugeVec::new(opts, &["version", "revision", "prefix"])?)?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, prefix]).set(1);
        Ok(self.0)
    }

    fn register<C: Collector + Clone + 'static>(&self, family: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }
}

fn names<'a>(labels: Labels<'a>) -> Vec<&'a str> {
    labels.iter().map(|(name, _)| *name).collect()
}

fn combinations(labels: Labels<'_>) -> Vec<Vec<&'static str>> {
    labels.iter().fold(vec![Vec::new()], |combinations, (_, values)| {
        let longer = |combination: &Vec<&'static str>| {
            let extend = |value: &&'static str| [combination.clone(), vec![*value]].concat();
            values.iter().map(extend).collect::<Vec<_>>()
        };
        combinations.iter().flat_map(longer).collect()
    })
}

/// The standard `process_*` metrics, which have no prefix of ours.
pub(super) struct ProcessCollectors;

impl ProcessCollectors {
    /// Adds them to a scrape.
    #[cfg(target_os = "linux")]
    pub(super) fn encode(text: &mut Vec<u8>) -> Result<(), prometheus::Error> {
        use prometheus::process_collector::ProcessCollector;
        use prometheus::{Encoder as _, TextEncoder};

        TextEncoder::new().encode(&ProcessCollector::for_self().collect(), text)
    }

    /// Adds nothing: they are read from Linux's `/proc`.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn encode(_text: &mut Vec<u8>) -> Result<(), prometheus::Error> {
        Ok(())
    }
}
