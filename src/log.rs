//! The log: one subscriber, text for people or JSON for machines.

mod outlet;

use std::io;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::Serializer as _;
use serde::ser::{Error as _, SerializeMap as _};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{self, FmtContext};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use outlet::Outlet;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For a person at a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info";

/// lapin logs each failed connection, each message that is returned and each look for what is not there
/// as a fault, where our own lines say more: it is shown only where `RUST_LOG` names it.
const QUIET: &str = "lapin";

/// The target of lines about what people did.
const AUDIT: &str = "audit";

/// Starts logging to standard error, until `Lines` is dropped. `filter` is `RUST_LOG`.
///
/// # Errors
/// Where the filter cannot be read.
pub(crate) fn start(format: Format, filter: Option<&str>) -> Result<Lines, String> {
    let filter = filter.filter(|filter| !filter.is_empty()).unwrap_or(DEFAULT_FILTER);
    let quiet = if filter.contains(QUIET) { String::new() } else { format!(",{QUIET}=off") };
    let filter = EnvFilter::try_new(format!("{filter}{quiet}"));
    let filter = filter.map_err(|error| format!("RUST_LOG: {error}"))?;
    let outlet = Outlet::start(io::stderr()).map_err(|error| format!("no log: {error}"))?;
    let lines = fmt::layer().with_writer(outlet.clone());
    let lines = match format {
        Format::Text => lines.with_target(false).boxed(),
        Format::Json => lines.event_format(JsonLine).boxed(),
    };
    let started =
        tracing_subscriber::registry().with(filter).with(FilterFn::new(may_show)).with(lines);
    // A second start in one process keeps the first one's subscriber, and the thread behind it.
    if started.try_init().is_ok() {
        OUTLET.get_or_init(|| outlet);
        std::panic::set_hook(Box::new(panicked));
    }
    Ok(Lines)
}

/// Where lines go, once there is a log.
static OUTLET: OnceLock<Outlet> = OnceLock::new();

/// Writes what was logged so far and ends: before the process does. Where nobody reads, it does not
/// wait for long.
pub(crate) fn end() {
    if let Some(outlet) = OUTLET.get() {
        outlet.end();
    }
}

/// How many lines were dropped so far, since nobody read them or they could not be written.
pub(crate) fn dropped() -> u64 {
    OUTLET.get().map_or(0, Outlet::dropped)
}

/// Says so like everything else: the standard library would wait for whoever reads standard error.
fn panicked(panic: &PanicHookInfo<'_>) {
    let why = panic.payload_as_str().unwrap_or("no reason is told");
    let at = panic.location().map(tracing::field::display);
    tracing::error!(why, at, "a thread panicked: this is a bug in eko-worker");
}

/// Ends the log however `run` ends.
pub(crate) struct Lines;

impl Drop for Lines {
    fn drop(&mut self) {
        end();
    }
}

/// Whatever `RUST_LOG` asks for: below a warning, the libraries of the wire print the frames
/// and bodies that they carry, OTPs and keys included.
fn may_show(line: &Metadata<'_>) -> bool {
    let target = line.target();
    target.starts_with("eko_") || target == AUDIT || *line.level() <= Level::WARN
}

/// How long a line mostly is at most, in bytes.
const LINE: usize = 512;

/// The same lines as tracing-subscriber's own JSON, at a third of its cost: that one hands each
/// word of a line on by itself and looks each time whether it is UTF-8.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "a line tells when it was written")]
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let line = line(event, Timestamp::now()).map_err(|_| std::fmt::Error)?;
        writer.write_str(&line)
    }
}

fn line(event: &Event<'_>, at: Timestamp) -> serde_json::Result<String> {
    let mut line = Vec::with_capacity(LINE);
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", &format_args!("{at:.6}"))?;
    map.serialize_entry("level", event.metadata().level().as_str())?;
    let mut fields = SerdeMapVisitor::new(map);
    event.record(&mut fields);
    let mut map = fields.take_serializer()?;
    map.serialize_entry("target", event.metadata().target())?;
    map.end()?;
    line.push(b'\n');
    String::from_utf8(line).map_err(serde_json::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Where lines are written to.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        /// Its one line without the time, and that time.
        fn line(&self) -> (String, Timestamp) {
            let line = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let rest = line.strip_prefix("{\"timestamp\":\"").unwrap();
            let (time, rest) = rest.split_once('"').unwrap();
            assert_eq!(time.len(), "2026-11-21T20:59:16.000000Z".len(), "{time}");
            (rest.to_owned(), time.parse().unwrap())
        }
    }

    fn write_one(subscriber: impl Subscriber + Send + Sync) {
        let nothing: Option<&str> = None;
        let error = io::Error::other("no \"disk\"\nat all");
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(
                text = "a \"quote\", a \\, a\ttab, é and \u{1}",
                unsigned = u64::MAX,
                signed = -7,
                float = 0.5,
                flag = true,
                nothing,
                %error,
                debug = ?Some("x"),
                "told {}", "twice"
            );
        });
    }

    #[test]
    fn a_line_is_what_the_library_would_write() {
        let (ours, theirs) = (Page::default(), Page::default());
        let page = |page: &Page| {
            let page = page.clone();
            fmt::layer().with_writer(move || page.clone())
        };
        let json = page(&theirs).json().flatten_event(true);
        let json = json.with_current_span(false).with_span_list(false);
        write_one(tracing_subscriber::registry().with(page(&ours).event_format(JsonLine)));
        write_one(tracing_subscriber::registry().with(json));
        let ((ours, before), (theirs, after)) = (ours.line(), theirs.line());
        assert_eq!(ours, theirs);
        assert!(theirs.contains("\"message\":\"told twice\""), "{theirs}");
        assert!(before <= after && after.duration_since(before).as_secs() < 60);
    }
}
