//! How Eko misbehaves during a soak, by chance, in every way that leaves an outcome open.

use serde_json::json;

use crate::rig::simulator::Simulator;

/// How long after its call a late effect comes: before the call's own timeout is over.
const LATE_MS: u32 = 500;

/// Faults, the endpoint where it is not the fault's usual ones, and their probability.
const FAULTS: [(&str, &str, f64); 35] = [
    ("reset", "", 0.010),
    ("reset_done", "", 0.015),
    ("silence", "", 0.005),
    ("silence_done", "", 0.010),
    ("late", "", 0.005),
    ("late_502", "", 0.005),
    ("http_500", "", 0.010),
    ("http_503_done", "", 0.010),
    ("http_429", "", 0.005),
    ("html", "", 0.005),
    ("html_done", "", 0.010),
    ("truncated", "", 0.005),
    ("truncated_done", "", 0.010),
    ("empty_done", "", 0.005),
    ("duplicate_keys", "", 0.005),
    ("in_progress", "", 0.020),
    ("bank_unavailable", "", 0.020),
    ("bank_unavailable_rs", "", 0.010),
    ("wrong_otp", "", 0.020),
    ("wrong_otp_rs", "", 0.005),
    ("tid_not_found", "", 0.010),
    ("sender_limit", "", 0.020),
    ("unknown_code", "", 0.005),
    ("not_refundable", "", 0.005),
    ("zero_invalid_params", "refund", 0.005),
    ("awaited", "", 0.003),
    ("claimed", "refund", 0.002),
    ("qr", "", 0.020),
    ("other_types", "", 0.020),
    ("inquiry_500", "", 0.050),
    ("inquiry_html", "", 0.020),
    ("inquiry_reset", "", 0.020),
    ("inquiry_silence", "", 0.010),
    ("inquiry_not_found", "", 0.020),
    ("inquiry_disagrees", "", 0.020),
];

/// Orders all of them.
pub(super) async fn order_all(simulator: &Simulator) {
    simulator.latency(40).await;
    for (fault, endpoint, probability) in FAULTS {
        let mut order = json!({ "fault": fault, "probability": probability });
        if !endpoint.is_empty() {
            order["endpoint"] = json!(endpoint);
        }
        if fault.starts_with("late") || fault == "awaited" {
            order["after_ms"] = json!(LATE_MS);
        }
        if fault == "http_429" {
            order["retry_after"] = json!("1");
        }
        simulator.control("fault", &order).await;
    }
}

/// Eko is back, no better than before.
pub(super) async fn end_outage(simulator: &Simulator) {
    simulator.behave().await;
    order_all(simulator).await;
}
