//! `eko-worker publish`: one command by hand, and its outcome.

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use anyhow::Context as _;
use eko_seal::PublicKey;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::{any_defaults, now};
use crate::app::start::tls_provider;
use crate::broker::{Error, OperatorConnection, PublishRequest, Replies};
use crate::command::{Kind, parse};
use crate::config::{Problems, PublishArgs};
use crate::event::Event;
use crate::outcome::OutcomeName;
use crate::output;

/// An outcome that is no success.
const NOT_SUCCEEDED: u8 = 3;

/// Whether it happened is not known.
const NOT_KNOWN: u8 = 4;

/// Publishes a command and waits for its outcome. The exit code is 0 where it succeeded, 3 where
/// it did not, and 4 where that is not known: `unresolved`, or no outcome in time.
///
/// # Errors
/// Settings or fields that are wrong, and a broker that did not take it: it is not published.
pub async fn publish(args: &PublishArgs) -> anyhow::Result<ExitCode> {
    tls_provider();
    let (settings, timeout) = (args.amqp.broker()?, args.timeout()?);
    let id = args.id.clone().unwrap_or_else(new_id);
    let body = body(args, &id)?;
    let connection = OperatorConnection::open(&settings).await?;
    let published = publish_command(&connection, args, &id, &body).await;
    let told = match published {
        Ok(mut replies) => {
            output::remark(format_args!(
                "{id}: published; waiting {timeout:?} at most for its outcome"
            ));
            let told = tokio::time::timeout(timeout, outcome(&mut replies, &id)).await;
            match &told {
                Ok(Some(_)) => {}
                Ok(None) => output::remark(format_args!("{id}: the connection was lost")),
                Err(_) => output::remark(format_args!("{id}: no outcome within {timeout:?}")),
            }
            told.ok().flatten()
        }
        Err(Error::Lost(why)) => {
            output::remark(format_args!(
                "{id}: it is not known whether the command was published: {why}"
            ));
            None
        }
        Err(error) => return Err(error).context("nothing is published"),
    };
    connection.close().await;
    let Some(event) = told else {
        return Ok(without_outcome(&id));
    };
    tell(&event, args.json)?;
    Ok(match event.outcome {
        OutcomeName::Succeeded => ExitCode::SUCCESS,
        OutcomeName::Unresolved => ExitCode::from(NOT_KNOWN),
        OutcomeName::Rejected
        | OutcomeName::Failed
        | OutcomeName::Expired
        | OutcomeName::Invalid => ExitCode::from(NOT_SUCCEEDED),
    })
}

/// The queue for the answer is there before the command is.
async fn publish_command(
    connection: &OperatorConnection,
    args: &PublishArgs,
    id: &str,
    body: &SecretString,
) -> Result<Replies, Error> {
    let refused = |error: Error| Error::Topology(format!("no queue for its event: {error}"));
    let replies = connection.replies().await.map_err(refused)?;
    let body = body.expose_secret().as_bytes();
    connection
        .publish_command(PublishRequest {
            kind: &args.kind,
            id,
            body,
            replies: &replies,
            time: now(),
        })
        .await?;
    Ok(replies)
}

async fn outcome(replies: &mut Replies, id: &str) -> Option<Event> {
    loop {
        match Event::read(replies.next().await?) {
            Ok(event) if event.command_id == id => return Some(event),
            Ok(_) | Err(_) => {}
        }
    }
}

fn without_outcome(id: &str) -> ExitCode {
    output::remark(format_args!(
        "{id}: its outcome is not known: it may have happened, or may still happen. Ask again \
         with --id {id} and the same fields: it is never executed twice under one id."
    ));
    ExitCode::from(NOT_KNOWN)
}

/// The message, once the worker's own reading takes it.
fn body(args: &PublishArgs, id: &str) -> anyhow::Result<SecretString> {
    let mut data = Map::new();
    for (name, value) in [
        ("tid", &args.tid),
        ("otp_ref_id", &args.otp_ref_id),
        ("user_code", &args.user_code),
        ("initiator_id", &args.initiator_id),
        ("recipient_id", &args.recipient_id),
        ("customer_id", &args.customer_id),
        ("client_ref_id", &args.client_ref_id),
        ("rail", &args.rail),
        ("beneficiary_id", &args.beneficiary_id),
    ] {
        data.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
    }
    for (name, value) in
        [("amount", &args.amount), ("service_code", &args.service_code), ("state", &args.state)]
    {
        data.extend(value.as_ref().map(|value| (name.to_owned(), number(value))));
    }
    let seal_for = public_key(args)?;
    if let Some(otp) = otp(args)? {
        let (name, value) = match seal_for {
            None => ("otp", json!(otp.expose_secret())),
            Some(key) => {
                ("otp_sealed", json!(key.seal(id, &otp).context("the OTP cannot be sealed")?))
            }
        };
        data.insert(name.to_owned(), value);
    }
    let mut message = json!({
        "specversion": "1.0",
        "id": id,
        "source": "/eko-worker/publish",
        "type": format!("eko.{}.request", args.kind),
        "time": now().to_string(),
        "data": data,
    });
    for (name, value) in [("expirytime", &args.expirytime), ("correlationid", &args.correlationid)]
    {
        if let (Some(message), Some(value)) = (message.as_object_mut(), value) {
            message.insert(name.to_owned(), json!(value));
        }
    }
    let body = SecretString::from(message.to_string());
    match parse(body.expose_secret().as_bytes(), None, &any_defaults()).command {
        Ok(_) => Ok(body),
        Err(invalid) => {
            let why = format!("nothing is published: {}", invalid.problem.message);
            Err(Problems(vec![why]).into())
        }
    }
}

/// A number as one; whatever else is given the reading of the command refuses.
fn number(text: &str) -> Value {
    text.parse::<serde_json::Number>().map_or_else(|_| json!(text), Value::Number)
}

/// The key that the OTP is to be sealed for, if any.
fn public_key(args: &PublishArgs) -> Result<Option<PublicKey>, Problems> {
    let read = |text| {
        let why = "--otp-public-key: must be a public key as eko-worker public-key prints it";
        PublicKey::read(text).ok_or_else(|| Problems(vec![why.to_owned()]))
    };
    args.otp_public_key.as_deref().map(read).transpose()
}

/// The OTP of a refund: from a file, from standard input, or from the terminal, unseen.
fn otp(args: &PublishArgs) -> anyhow::Result<Option<SecretString>> {
    let text = match args.otp_file.as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            text
        }
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?
        }
        None if args.kind != Kind::Refund.as_str() => return Ok(None),
        None if std::io::stdin().is_terminal() => {
            rpassword::prompt_password("OTP: ").context("cannot ask for the OTP")?
        }
        None => {
            let why = "--otp-file: is missing, and there is no terminal to ask for the OTP on";
            return Err(Problems(vec![why.to_owned()]).into());
        }
    };
    Ok(Some(SecretString::from(text.trim())))
}

fn tell(event: &Event, json: bool) -> anyhow::Result<()> {
    if json {
        output::line(String::from_utf8_lossy(&event.body));
        return Ok(());
    }
    output::line(format_args!("{}: {}", event.command_id, event.outcome.as_str()));
    let body: Value = serde_json::from_slice(&event.body).context("the event cannot be read")?;
    for part in ["error", "result"] {
        let fields = body.pointer(&format!("/data/{part}")).and_then(Value::as_object);
        for (name, value) in fields.into_iter().flatten() {
            output::line(format_args!("  {name}: {}", value.as_str().unwrap_or_default()));
        }
    }
    Ok(())
}

fn new_id() -> String {
    format!("cli-{:08x}{:08x}", fastrand::u32(..), fastrand::u32(..))
}
