//! Mixed commands on real processes, and the exact account of what became of each: what the soak
//! and the fault suite stand on.

pub(crate) mod evidence;
pub(crate) mod node;
pub(crate) mod orders;
pub(crate) mod report;
pub(crate) mod store;
pub(crate) mod world;
