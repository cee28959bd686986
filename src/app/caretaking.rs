//! While a session lasts: exchanges and bindings are declared again now and then, and what waits
//! since a subscriber refused it is counted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::broker::{Caretaker, Error};
use crate::command::Kind;
use crate::metrics::Metrics;

/// How often: about so long nothing reaches a queue whose binding was removed.
const EVERY: Duration = Duration::from_secs(10);

/// Takes care until something is there that is not what the worker needs, other than what was
/// `known` when the session began: then a new session is due, which pauses what needs it.
pub(super) async fn take_care(
    caretaker: Caretaker,
    metrics: Arc<Metrics>,
    mut known: Vec<String>,
) -> String {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match caretaker.mend().await {
            Ok(()) => known.clear(),
            Err(Error::Topology(why)) if !known.contains(&why) => return why,
            Err(error) => tracing::debug!(%error, "exchanges and bindings could not be checked"),
        }
        for kind in Kind::ALL {
            match caretaker.refused_waiting(kind).await {
                Ok(Some(count)) => metrics.refused_waiting(kind, count),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the waiting messages could not be counted"),
            }
        }
    }
}
