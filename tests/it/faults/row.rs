//! One row of a table in `docs/reliability.md`.

use std::fmt::Write as _;
use std::time::Duration;

/// From this place on, rows stand in the table of what one message, one queue or one client is the
/// cause of.
const ONE_CAUSE: u32 = 400;

/// What was seen of one fault.
#[derive(Default)]
pub(super) struct Row {
    /// Where it stands in the table, and what goes wrong.
    pub(super) order: u32,
    pub(super) fault: &'static str,
    /// How long, how often or how much of it.
    pub(super) extent: String,
    pub(super) commands: usize,
    /// The longest time without any event.
    pub(super) gap: Duration,
    /// The longest time without a command of the struck kinds that ended, and without one of another.
    pub(super) gaps: (Option<Duration>, Duration),
    /// From the end of the fault to the next event.
    pub(super) recovery: Duration,
    /// From the end of the fault to the end of the last command that was published before it.
    pub(super) settled: Duration,
    /// From the broker's port being open to consuming again.
    pub(super) consuming: Option<Duration>,
    /// How often a worker connected anew.
    pub(super) sessions: usize,
    pub(super) repeats: usize,
    pub(super) lost: usize,
    pub(super) twice: usize,
    /// Outcomes that are not true, or not what they must be.
    pub(super) wrong: usize,
}

impl Row {
    /// The row as Markdown.
    fn text(&self) -> String {
        let mut text = format!("| {} | {} | {} ", self.fault, self.extent, self.commands);
        let some = |time: Option<Duration>| time.map_or_else(|| "–".to_owned(), seconds);
        let times = if self.order < ONE_CAUSE {
            let (gap, recovery, settled) = (self.gap, self.recovery, self.settled);
            vec![seconds(gap), seconds(recovery), seconds(settled), some(self.consuming)]
        } else {
            vec![some(self.gaps.0), seconds(self.gaps.1), seconds(self.settled)]
        };
        for time in times {
            write!(text, "| {time} ").unwrap();
        }
        let Self { sessions, repeats, lost, twice, wrong, .. } = self;
        write!(text, "| {sessions} | {repeats} | {lost} | {twice} | {wrong} |").unwrap();
        text
    }

    /// Says it, and leaves it where `scripts/faults` collects the rows.
    pub(super) fn keep(&self) {
        keep(self.order, &self.text());
    }
}

/// Says loudly that a fault was not tried, in the table, too.
pub(super) fn skip(order: u32, fault: &str, why: &str) {
    eprintln!("!!! SKIPPED: {fault}: {why}");
    let rest = if order < ONE_CAUSE { " |".repeat(10) } else { " |".repeat(9) };
    keep(order, &format!("| {fault} | **not run**: {why} |{rest}"));
}

fn keep(order: u32, text: &str) {
    println!("{text}");
    if let Ok(dir) = std::env::var("EKO_FAULTS_ROWS") {
        std::fs::write(format!("{dir}/{order:03}.md"), format!("{text}\n")).unwrap();
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
