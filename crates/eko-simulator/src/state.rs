//! What the simulator remembers: transactions, what was done to them, and who asked how.

use std::collections::{HashMap, VecDeque};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::call::Endpoint;
use crate::faults;
use crate::plan::Plan;
use crate::signature::{Keys, SeenTimestamps};

/// Calls kept for one tid; older ones are forgotten, only counted.
const CALLS_KEPT: usize = 20;

/// Bad requests kept with their reasons.
const BAD_REQUESTS_KEPT: usize = 100;

/// The `refund_tid` of the first execution, from Eko's sample.
const FIRST_REFUND_TID: u64 = 2_147_591_637;

/// Everything that changes while the simulator runs.
pub(crate) struct State {
    pub(crate) keys: Keys,
    /// The HTTP status of what is signed with other ones.
    pub(crate) refused_with: u16,
    pub(crate) stamps: SeenTimestamps,
    pub(crate) plan: Plan,
    pub(crate) latency_ms: u64,
    pub(crate) clock_offset_ms: i64,
    /// Whether a refunded transaction is refunded again when asked again.
    pub(crate) careless: bool,
    records: HashMap<String, Record>,
    pub(crate) calls: [u64; 4],
    pub(crate) rejected_signatures: u64,
    bad_requests: VecDeque<String>,
    bad_request_count: u64,
    pub(crate) in_flight: u64,
    pub(crate) max_concurrent: u64,
    overlapping_refunds: u64,
    executions: u64,
    tids_executed: u64,
    executed_twice: Vec<String>,
    otps_sent: u64,
}

/// What is known of one tid, or of one recipient.
#[derive(Default)]
pub(crate) struct Record {
    /// None for a recipient.
    pub(crate) tx_status: Option<u8>,
    /// The only right OTP; None: any but the two documented wrong ones.
    pub(crate) otp: Option<String>,
    otp_ref_id: Option<String>,
    executions: u64,
    otps_sent: u64,
    /// Well-formed, well-signed calls of each endpoint.
    pub(crate) counts: [u64; 4],
    refunds_in_flight: u64,
    calls: VecDeque<Entry>,
}

/// One call in the list of a tid.
pub(crate) struct Entry {
    pub(crate) endpoint: Endpoint,
    pub(crate) at_ms: u64,
    pub(crate) fault: Option<String>,
    pub(crate) executed: bool,
    /// The HTTP status of the answer.
    pub(crate) http: u16,
    /// Why the call was not even looked at, if so.
    pub(crate) refused: Option<String>,
    /// `name: value` lines, names as they were on the wire.
    pub(crate) headers: Box<str>,
    pub(crate) body: Box<str>,
}

impl State {
    /// A fresh Eko that knows one pair of keys, and refuses timestamps that are too old for it.
    pub(crate) fn new(keys: Keys, plan: Plan, stamp_tolerance_ms: u64) -> Self {
        Self {
            keys,
            refused_with: 401,
            stamps: SeenTimestamps::new(stamp_tolerance_ms),
            plan,
            latency_ms: 0,
            clock_offset_ms: 0,
            careless: false,
            records: HashMap::new(),
            calls: [0; 4],
            rejected_signatures: 0,
            bad_requests: VecDeque::new(),
            bad_request_count: 0,
            in_flight: 0,
            max_concurrent: 0,
            overlapping_refunds: 0,
            executions: 0,
            tids_executed: 0,
            executed_twice: Vec::new(),
            otps_sent: 0,
        }
    }

    /// The record of a tid or, for `transfer_otp`, of a recipient.
    pub(crate) fn record(&mut self, key: &str, endpoint: Endpoint) -> &mut Record {
        if !self.records.contains_key(key) {
            self.records.insert(key.to_owned(), Record::default());
        }
        let record = self.records.get_mut(key).expect("it was put there above");
        if endpoint != Endpoint::TransferOtp && record.tx_status.is_none() {
            record.tx_status = Some(faults::first_tx_status(key));
        }
        record
    }

    /// Executes a refund and returns its `refund_tid`.
    pub(crate) fn execute(&mut self, tid: &str) -> u64 {
        let record = self.record(tid, Endpoint::Refund);
        record.tx_status = Some(4);
        record.executions += 1;
        let count = record.executions;
        match count {
            1 => self.tids_executed += 1,
            2 => self.executed_twice.push(tid.to_owned()),
            _ => {}
        }
        self.executions += 1;
        FIRST_REFUND_TID + self.executions - 1
    }

    /// "Sends" an OTP and returns its `otp_ref_id`, which has the alphabet of Eko's samples.
    pub(crate) fn send_otp(&mut self, key: &str, endpoint: Endpoint) -> String {
        self.otps_sent += 1;
        let number = self.otps_sent;
        let otp_ref_id = match endpoint {
            Endpoint::TransferOtp => format!("TXNOTP{number:011}"),
            _ => STANDARD.encode(Sha256::digest(format!("{key} {number}"))),
        };
        let record = self.record(key, endpoint);
        record.otps_sent += 1;
        record.otp_ref_id = Some(otp_ref_id.clone());
        otp_ref_id
    }

    /// Notes a request of the wrong shape.
    pub(crate) fn bad_request(&mut self, reason: String) {
        self.bad_request_count += 1;
        if self.bad_requests.len() == BAD_REQUESTS_KEPT {
            self.bad_requests.pop_front();
        }
        self.bad_requests.push_back(reason);
    }

    /// Notes a call in the list of its tid.
    pub(crate) fn note(&mut self, key: &str, entry: Entry) {
        let record = self.record(key, entry.endpoint);
        if record.calls.len() == CALLS_KEPT {
            record.calls.pop_front();
        }
        record.calls.push_back(entry);
    }

    /// A call of an endpoint came in; for a refund, with its tid.
    pub(crate) fn enter(&mut self, refund: Option<&str>) {
        self.in_flight += 1;
        self.max_concurrent = self.max_concurrent.max(self.in_flight);
        if let Some(tid) = refund {
            let record = self.record(tid, Endpoint::Refund);
            record.refunds_in_flight += 1;
            let overlaps = record.refunds_in_flight > 1;
            self.overlapping_refunds += u64::from(overlaps);
        }
    }

    /// The call was answered, or its client has gone.
    pub(crate) fn leave(&mut self, refund: Option<&str>) {
        self.in_flight -= 1;
        if let Some(tid) = refund {
            self.record(tid, Endpoint::Refund).refunds_in_flight -= 1;
        }
    }

    /// The whole state.
    pub(crate) fn whole(&self) -> Value {
        let inquiries = |record: &Record| record.counts[Endpoint::Inquiry as usize];
        let mut whole = self.totals();
        whole["executions"] = self.by_key(|record| above_zero(record.executions));
        whole["inquiries"] = self.by_key(|record| above_zero(inquiries(record)));
        whole["otps_sent"] = self.by_key(|record| above_zero(record.otps_sent));
        whole["transactions"] = self.by_key(|record| record.tx_status.map(Value::from));
        whole["bad_requests"] = self.bad_requests.iter().cloned().collect();
        whole
    }

    /// Totals only, whose size does not grow with the number of tids.
    pub(crate) fn summary(&self) -> Value {
        let mut summary = self.totals();
        summary["executions"] = self.executions.into();
        summary["tids_executed"] = self.tids_executed.into();
        summary["executed_more_than_once"] = self.executed_twice.clone().into();
        summary["otps_sent"] = self.otps_sent.into();
        summary["bad_requests"] = self.bad_request_count.into();
        summary
    }

    fn totals(&self) -> Value {
        let calls: Value =
            Endpoint::ALL.iter().map(|e| (e.as_str(), self.calls[*e as usize])).collect();
        json!({"calls": calls, "rejected_signatures": self.rejected_signatures,
            "max_concurrent": self.max_concurrent, "in_flight": self.in_flight,
            "overlapping_refunds": self.overlapping_refunds})
    }

    fn by_key(&self, value: impl Fn(&Record) -> Option<Value>) -> Value {
        let pairs = self.records.iter().filter_map(|(key, record)| Some((key, value(record)?)));
        pairs.map(|(key, value)| (key.clone(), value)).collect()
    }

    /// All about one tid, if it was ever named.
    pub(crate) fn one(&self, key: &str) -> Option<Value> {
        let record = self.records.get(key)?;
        let counts: Value =
            Endpoint::ALL.iter().map(|e| (e.as_str(), record.counts[*e as usize])).collect();
        let calls: Vec<Value> = record.calls.iter().map(Entry::show).collect();
        Some(json!({"tx_status": record.tx_status, "executions": record.executions,
            "otps_sent": record.otps_sent, "otp_ref_id": record.otp_ref_id, "accepted": counts,
            "calls": calls}))
    }
}

impl Entry {
    fn show(&self) -> Value {
        let body = serde_json::from_str(&self.body).unwrap_or_else(|_| json!(&*self.body));
        let headers: Vec<_> =
            self.headers.lines().filter_map(|line| line.split_once(": ")).collect();
        let at = i64::try_from(self.at_ms)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        json!({"endpoint": self.endpoint.as_str(), "at": at.map(|at| at.to_string()),
            "fault": self.fault, "executed": self.executed, "http": self.http,
            "refused": self.refused, "headers": headers, "body": body})
    }
}

fn above_zero(count: u64) -> Option<Value> {
    (count > 0).then(|| count.into())
}
