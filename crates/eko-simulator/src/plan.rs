//! Which fault befalls a call: what was ordered for it, else what its tid says, else chance.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::call::Endpoint;
use crate::faults::Fault;

/// An order for misbehaviour.
pub(crate) struct Order {
    pub(crate) tid: Option<String>,
    /// None: the endpoints of the fault's row.
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) fault: Fault,
    /// None: for ever.
    pub(crate) times: Option<u32>,
    pub(crate) probability: f64,
    pub(crate) details: Details,
}

/// What an order may add to its fault.
#[derive(Clone, Default)]
pub(crate) struct Details {
    pub(crate) after_ms: Option<u64>,
    pub(crate) retry_after: Option<String>,
}

/// One call, as far as the choice depends on it.
pub(crate) struct Occasion<'a> {
    pub(crate) endpoint: Endpoint,
    /// The tid, for `transfer_otp` the `recipient_id`.
    pub(crate) key: &'a str,
    /// The how manieth call of this endpoint with this key, from 1.
    pub(crate) nth: u64,
}

/// All orders in force.
#[derive(Default)]
pub(crate) struct Plan {
    by_tid: HashMap<String, Vec<Order>>,
    for_all: Vec<Order>,
    seed: u64,
}

impl Plan {
    /// An empty plan; the draws of chance follow from the seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Adds an order; later orders are looked at after earlier ones.
    pub(crate) fn add(&mut self, order: Order) {
        match &order.tid {
            Some(tid) => self.by_tid.entry(tid.clone()).or_default().push(order),
            None => self.for_all.push(order),
        }
    }

    /// Forgets all orders; what tids say stays.
    pub(crate) fn clear(&mut self) {
        self.by_tid.clear();
        self.for_all.clear();
    }

    /// Chooses for one call.
    pub(crate) fn choose(&mut self, occasion: &Occasion<'_>) -> Option<(Fault, Details)> {
        let seed = self.seed;
        let mine =
            self.by_tid.get_mut(occasion.key).and_then(|orders| take(orders, occasion, seed));
        if self.by_tid.get(occasion.key).is_some_and(Vec::is_empty) {
            self.by_tid.remove(occasion.key);
        }
        mine.or_else(|| {
            let fault = Fault::from_tid(occasion.key, occasion.endpoint, occasion.nth)?;
            Some((fault, Details::default()))
        })
        .or_else(|| take(&mut self.for_all, occasion, seed))
    }
}

fn take(orders: &mut Vec<Order>, occasion: &Occasion<'_>, seed: u64) -> Option<(Fault, Details)> {
    let at = orders.iter().position(|order| {
        let here = match order.endpoint {
            Some(endpoint) => endpoint == occasion.endpoint,
            None => order.fault.row.on.contains(&occasion.endpoint),
        };
        here && order.times != Some(0) && draw(order.fault, occasion, seed) < order.probability
    })?;
    let order = &mut orders[at];
    let chosen = (order.fault, order.details.clone());
    if let Some(times) = &mut order.times {
        *times -= 1;
        if *times == 0 {
            orders.remove(at);
        }
    }
    Some(chosen)
}

/// A draw depends on the seed and the call alone, so it is the same however calls interleave.
fn draw(fault: Fault, occasion: &Occasion<'_>, seed: u64) -> f64 {
    let mut hasher = DefaultHasher::new();
    let endpoint = occasion.endpoint;
    (seed, fault.row.code, fault.name(), endpoint, occasion.key, occasion.nth).hash(&mut hasher);
    fastrand::Rng::with_seed(hasher.finish()).f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(tid: Option<&str>, fault: &str, times: Option<u32>, probability: f64) -> Order {
        Order {
            tid: tid.map(str::to_owned),
            endpoint: None,
            fault: Fault::from_name(fault).unwrap(),
            times,
            probability,
            details: Details::default(),
        }
    }

    fn name(plan: &mut Plan, key: &str, nth: u64) -> Option<String> {
        let endpoint = Endpoint::Refund;
        plan.choose(&Occasion { endpoint, key, nth }).map(|(fault, _)| fault.name())
    }

    #[test]
    fn an_order_for_a_tid_counts_before_the_tid_and_that_before_orders_for_all() {
        let mut plan = Plan::new(0);
        plan.add(order(None, "http_500", None, 1.0));
        plan.add(order(Some("9950310001"), "html", Some(1), 1.0));
        assert_eq!(name(&mut plan, "9950310001", 1).as_deref(), Some("html"));
        assert_eq!(name(&mut plan, "9950310001", 1).as_deref(), Some("http_503"));
        assert_eq!(name(&mut plan, "9950310001", 2).as_deref(), Some("http_500"));
        plan.clear();
        assert_eq!(name(&mut plan, "9950310001", 3), None);
    }

    #[test]
    fn an_order_befalls_only_the_endpoints_of_its_row_unless_it_names_one() {
        let mut plan = Plan::new(0);
        let inquiry = |plan: &mut Plan| {
            plan.choose(&Occasion { endpoint: Endpoint::Inquiry, key: "1", nth: 1 }).is_some()
        };
        plan.add(order(None, "http_500", None, 1.0));
        assert!(!inquiry(&mut plan));
        plan.add(Order { endpoint: Some(Endpoint::Inquiry), ..order(None, "html", None, 1.0) });
        assert!(inquiry(&mut plan));
    }

    #[test]
    fn draws_follow_the_seed_and_the_probability() {
        let draws = |seed| -> Vec<bool> {
            let mut plan = Plan::new(seed);
            plan.add(order(None, "http_500", None, 0.3));
            (1..=2000).map(|tid| name(&mut plan, &format!("1{tid}"), 1).is_some()).collect()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let hits = draws(7).into_iter().filter(|hit| *hit).count();
        assert!((500..700).contains(&hits), "{hits} of 2000 at 0.3");
    }
}
