//! `eko-worker pause` and `resume`: by hand, for all workers of a ledger.

use super::audit::{Auditor, Begun, Subject};
use crate::app::start::tls_provider;
use crate::command::Kind;
use crate::config::{PauseArgs, ResumeArgs};
use crate::ledger::{Action, ActionResult, OperatorPause};
use crate::output;

/// Pauses kinds until they are resumed.
///
/// # Errors
/// Wrong settings, or a ledger that cannot be written.
pub async fn pause(args: &PauseArgs) -> anyhow::Result<()> {
    tls_provider();
    let (person, reason) = (args.by.person()?, args.reason()?);
    let mut auditor =
        Auditor::open(&args.url.ledger()?, person.clone(), Some(reason.clone())).await?;
    for kind in args.kinds() {
        let begun = begin(&mut auditor, Action::Pause, kind).await?;
        let paused = auditor.ledger.pause(kind, &person, &reason).await;
        let detail = paused.map(|before| match before {
            None => {
                "paused: no attempt begins once the workers have seen it, within 2 s".to_owned()
            }
            Some(before) => format!("was paused already {}", told(&before)),
        });
        end(&mut auditor, begun, kind, detail).await?;
    }
    output::remark(format_args!("for all workers of the ledger {}", auditor.ledger.place()));
    Ok(())
}

/// Ends pauses that were made by hand.
///
/// # Errors
/// Wrong settings, or a ledger that cannot be written.
pub async fn resume(args: &ResumeArgs) -> anyhow::Result<()> {
    tls_provider();
    let (person, reason) = (args.by.person()?, args.reason()?);
    let mut auditor = Auditor::open(&args.url.ledger()?, person, reason).await?;
    for kind in args.kinds() {
        let begun = begin(&mut auditor, Action::Resume, kind).await?;
        let resumed = auditor.ledger.resume(kind).await;
        let detail = resumed.map(|before| match before {
            None => "was not paused by an operator".to_owned(),
            Some(before) => {
                format!(
                    "resumed: the workers consume within 2 s, unless another reason pauses them; was \
                     paused {}",
                    told(&before)
                )
            }
        });
        end(&mut auditor, begun, kind, detail).await?;
    }
    output::remark(format_args!("for all workers of the ledger {}", auditor.ledger.place()));
    Ok(())
}

async fn begin(auditor: &mut Auditor, action: Action, kind: Kind) -> anyhow::Result<Begun> {
    auditor.begin(action, Subject { id: Some(kind.as_str()), tid: None }).await
}

/// Records and prints what came of it.
async fn end(
    auditor: &mut Auditor,
    begun: Begun,
    kind: Kind,
    detail: anyhow::Result<String>,
) -> anyhow::Result<()> {
    match detail {
        Ok(detail) => {
            output::line(format_args!("{}: {detail}", kind.as_str()));
            auditor.end(begun, ActionResult::Done, &detail).await
        }
        Err(error) => {
            auditor.end(begun, ActionResult::Failed, &format!("{error:#}")).await?;
            Err(error)
        }
    }
}

fn told(pause: &OperatorPause) -> String {
    let OperatorPause { since, person, reason, .. } = pause;
    format!("since {since:.0} by {person}: {reason}")
}
