//! What a subcommand prints. A reader that has gone away is no error. A standard output that cannot
//! be written, such as a full disk, is one of its own: the command goes on, and its end tells it.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The exit code where standard output could not be written: `EX_IOERR` of sysexits.h, which no
/// subcommand ends with otherwise.
const OUTPUT_FAILED: u8 = 74;

/// How long the last line of a process may take: somebody may hold standard error and not read it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why standard output could not be written, where it could not; the first time counts.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints one line, or several.
pub(crate) fn line(text: impl Display) {
    print(&format!("{text}\n"));
}

/// Prints text as it is.
pub(crate) fn print(text: &str) {
    wrote(write(&mut io::stdout().lock(), text));
}

/// Notes what came of writing to standard output.
pub fn wrote(written: io::Result<()>) {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            FAILED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        Err(_) | Ok(()) => {}
    }
}

fn write(to: &mut impl io::Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

/// Says something beside the output, on standard error; nothing fails where nobody can read it.
pub(crate) fn remark(text: impl Display) {
    write(&mut io::stderr().lock(), &format!("{text}\n")).ok();
}

/// Says why the process ends. It ends also where standard error is a pipe that nobody reads.
pub fn last_words(text: &str) {
    let text = format!("eko-worker: {text}\n");
    let (done, is_done) = mpsc::channel();
    let saying = std::thread::Builder::new().name("last words".to_owned()).spawn(move || {
        write(&mut io::stderr().lock(), &text).ok();
        done.send(()).ok();
    });
    if saying.is_ok() {
        is_done.recv_timeout(LAST_WORDS).ok();
    }
}

/// The exit code of a command that ended with this one: another where its output is not complete.
#[must_use]
pub fn exit_code(code: ExitCode) -> ExitCode {
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(error) = failed else { return code };
    let end = if code == ExitCode::SUCCESS {
        "the command itself has succeeded"
    } else {
        "the command itself has not succeeded"
    };
    last_words(&format!(
        "standard output cannot be written, so what was printed is not complete: {error}; {end}"
    ));
    ExitCode::from(OUTPUT_FAILED)
}
