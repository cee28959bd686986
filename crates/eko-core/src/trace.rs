//! W3C trace context: the trace that a command began goes on into its event.

/// One trace, as far as this worker carries it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    trace_id: String,
    /// The span of whoever wrote the `traceparent`.
    span_id: String,
    flags: String,
    /// The vendors' part, unread.
    pub state: Option<String>,
}

impl Trace {
    /// Reads a `traceparent` of version 00 or later; `None` where it is malformed.
    pub fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        let has_rest = parts.next().is_some();
        if version == "ff" || (version == "00" && has_rest) || is_zero(trace_id) || is_zero(span_id)
        {
            return None;
        }
        Some(Self {
            trace_id: trace_id.to_owned(),
            span_id: span_id.to_owned(),
            flags: flags.to_owned(),
            state: tracestate.filter(|state| is_state(state)).map(str::to_owned),
        })
    }

    /// A new trace under a random id.
    pub fn new(random: u128) -> Self {
        Self::begun(random, true)
    }

    /// A trace that this worker has begun.
    pub fn begun(trace_id: u128, is_sampled: bool) -> Self {
        Self {
            trace_id: format!("{:032x}", trace_id.max(1)),
            span_id: String::new(),
            flags: if is_sampled { "01" } else { "00" }.to_owned(),
            state: None,
        }
    }

    /// The id that all its spans share: 32 hex digits.
    pub fn id(&self) -> &str {
        &self.trace_id
    }

    /// The span that its `traceparent` named: 16 hex digits.
    pub fn span_id(&self) -> &str {
        &self.span_id
    }

    /// Its flags, such as whether it is sampled.
    pub fn flags(&self) -> u8 {
        u8::from_str_radix(&self.flags, 16).unwrap_or_default()
    }

    /// The `traceparent` of a new span under a random id.
    pub fn parent(&self, random: u64) -> String {
        format!("00-{}-{:016x}-{}", self.trace_id, random.max(1), self.flags)
    }
}

fn hex(part: &str, length: usize) -> Option<&str> {
    let is_hex = part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (part.len() == length && is_hex).then_some(part)
}

fn is_zero(part: &str) -> bool {
    part.bytes().all(|byte| byte == b'0')
}

/// Printable ASCII of at most 512 characters, the length that the standard asks to carry.
fn is_state(state: &str) -> bool {
    (1..=512).contains(&state.len()) && state.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_goes_on_under_a_new_span() {
        let trace = Trace::read(PARENT, Some("vendor=1")).unwrap();
        assert_eq!(trace.parent(0xab), "00-0af7651916cd43dd8448eb211c80319c-00000000000000ab-01");
        assert_eq!(trace.state.as_deref(), Some("vendor=1"));
    }

    #[test]
    fn a_malformed_parent_is_no_trace() {
        for parent in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-rest",
        ] {
            assert_eq!(Trace::read(parent, None), None, "{parent}");
        }
    }
}
