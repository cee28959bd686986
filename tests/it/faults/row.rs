//! One row of the table in `docs/reliability.md`.

use std::fmt::Write as _;
use std::time::Duration;

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
    /// From the end of the fault to the next event.
    pub(super) recovery: Duration,
    /// From the end of the fault to the end of the last command that was published before it.
    pub(super) settled: Duration,
    /// From the broker's port being open to consuming again.
    pub(super) consuming: Option<Duration>,
    pub(super) repeats: usize,
    pub(super) lost: usize,
    pub(super) twice: usize,
    /// Outcomes that are not true, or not what they must be.
    pub(super) wrong: usize,
}

impl Row {
    /// The row as Markdown.
    fn text(&self) -> String {
        let consuming = self.consuming.map_or_else(|| "–".to_owned(), seconds);
        let mut text = format!("| {} | {} | {} ", self.fault, self.extent, self.commands);
        for cell in
            [&seconds(self.gap), &seconds(self.recovery), &seconds(self.settled), &consuming]
        {
            write!(text, "| {cell} ").unwrap();
        }
        let Self { repeats, lost, twice, wrong, .. } = self;
        write!(text, "| {repeats} | {lost} | {twice} | {wrong} |").unwrap();
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
    keep(order, &format!("| {fault} | **not run**: {why} | | | | | | | | | |"));
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
