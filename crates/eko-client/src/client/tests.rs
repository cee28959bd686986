//! The client against a server that answers as a test says.

use std::time::SystemTime;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use eko_core::command::{Account, Defaults, parse};
use eko_core::privacy::Mobile;
use eko_core::verdict::{Fallback, Reading};

/// A client and what it sends, where each call is answered in turn with a status, further headers
/// and a body.
async fn called(answers: Vec<(u16, String, String)>) -> (Client, JoinHandle<Vec<String>>) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sent = tokio::spawn(async move {
        let mut sent = Vec::new();
        for (status, headers, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 16_384];
            let read = stream.read(&mut request).await.unwrap();
            sent.push(String::from_utf8_lossy(&request[..read]).into_owned());
            let answer = format!(
                "HTTP/1.1 {status} Said\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        sent
    });
    let client = Client::new(Settings {
        base_url: Url::parse(&format!("http://{address}/v3")).unwrap(),
        timeout: Duration::from_secs(10),
        stamp_age: Duration::ZERO,
        user_agent: "eko-client-tests",
        keys: Keys { developer_key: "developer".into(), access_key: "access".into() },
        ca_bundle: None,
    });
    (client.unwrap(), sent)
}

fn a_refund() -> Command {
    let body = r#"{"id":"a","type":"eko.refund.request","data":{"tid":"13192443","otp":"123456"}}"#;
    let defaults = Defaults {
        initiator_id: Some(Mobile::new("9962981729")),
        user_code: Some("20810200".to_owned()),
    };
    parse(body.as_bytes(), None, &defaults).command.unwrap()
}

fn found(tx_status: u8) -> String {
    format!(r#"{{"status":0,"data":{{"tid":"1","tx_status":"{tx_status}"}}}}"#)
}

fn dated(ago: u64) -> String {
    let time = SystemTime::try_from(now()).unwrap() - Duration::from_secs(ago);
    format!("Date: {}\r\n", httpdate::fmt_http_date(time))
}

async fn look_up(client: &Client) -> CallResult<Reading> {
    let account = Account { initiator_id: "9962981729", user_code: "" };
    client.look_up("1", account, client.timing()).await
}

async fn read(headers: &str, tx_status: u8) -> CallResult<Reading> {
    let (client, _) = called(vec![(200, headers.to_owned(), found(tx_status))]).await;
    look_up(&client).await
}

#[tokio::test]
async fn a_reading_that_was_kept_on_the_way_says_nothing_unless_it_is_a_4() {
    let kept = format!("{}Age: 45\r\n", dated(45));
    let result = read(&kept, 3).await;
    assert_eq!(result.meaning, Reading::NoAnswer(Cause::BadResponse));
    assert!(result.is_old && result.skew.is_none(), "its date tells nothing of Eko's clock");
    assert!(matches!(read(&kept, 4).await.meaning, Reading::Refunded(..)));
    let fresh = format!("{}Age: 0\r\n", dated(0));
    assert_eq!(read(&fresh, 3).await.meaning, Reading::RefundPending);
    assert_eq!(read("", 3).await.meaning, Reading::RefundPending);
}

#[tokio::test]
async fn a_reading_with_an_earlier_date_than_another_answer_says_nothing() {
    let answers = [(dated(0), 3), (dated(30), 3), (dated(30), 4), (dated(0), 3)];
    let answers = answers.map(|(headers, tx_status)| (200, headers, found(tx_status)));
    let (client, _sent) = called(answers.to_vec()).await;
    let mut readings = Vec::new();
    for _ in 0..4 {
        readings.push(look_up(&client).await.meaning.as_str());
    }
    assert_eq!(readings, ["refund_pending", "no_answer", "refunded", "refund_pending"]);
}

#[tokio::test]
async fn a_reading_without_a_date_says_nothing_once_eko_has_told_one() {
    let answers =
        [("", 3), ("502", 3), ("", 3), ("Date", 3), ("", 3), ("", 1), ("soon", 0), ("", 4)];
    let answers = answers.map(|(told, tx_status)| match told {
        "502" => (502, dated(0), "<html>".to_owned()),
        "Date" => (200, dated(0), format!("\u{feff}{}", found(tx_status))),
        "soon" => (200, "Date: soon\r\n".to_owned(), found(tx_status)),
        _ => (200, String::new(), found(tx_status)),
    });
    let (client, _sent) = called(answers.to_vec()).await;
    let mut readings = Vec::new();
    for _ in 0..8 {
        readings.push(look_up(&client).await.meaning);
    }
    let undated = Reading::NoAnswer(Cause::BadResponse);
    assert_eq!(readings[0], Reading::RefundPending);
    assert_eq!(readings[2], Reading::RefundPending, "a proxy's date is none of Eko's");
    assert_eq!(readings[3], Reading::RefundPending);
    assert_eq!(readings[4..7], [undated.clone(), undated.clone(), undated]);
    assert!(matches!(readings[7], Reading::Refunded(..)), "what is refunded stays refunded");
}

#[tokio::test]
async fn an_old_reading_behind_a_byte_order_mark_says_nothing() {
    let answers = [(dated(0), 3), (dated(30), 3)];
    let answers =
        answers.map(|(headers, tx_status)| (200, headers, format!("\u{feff}{}", found(tx_status))));
    let (client, _sent) = called(answers.to_vec()).await;
    let first = look_up(&client).await;
    assert!(first.eko_time.is_some() && first.meaning == Reading::RefundPending);
    let second = look_up(&client).await.meaning;
    assert_eq!(second, Reading::NoAnswer(Cause::BadResponse));
}

#[tokio::test]
async fn eko_s_time_is_the_date_of_its_own_answers_less_their_age() {
    let headers = format!("{}Age: 1\r\n", dated(0));
    let eko_time = read(&headers, 3).await.eko_time.unwrap();
    let ago = now().duration_since(eko_time).as_secs();
    assert!((1..=5).contains(&ago), "{ago}");
    let page = (502, dated(0), "{}".to_owned());
    let (client, _sent) = called(vec![page]).await;
    assert_eq!(look_up(&client).await.eko_time, None, "a proxy's");
}

#[tokio::test]
async fn an_inquiry_forbids_caching_and_each_call_carries_its_own_timestamp() {
    let answer = || (200, String::new(), found(3));
    let (client, sent) = called(vec![answer(), answer(), answer()]).await;
    look_up(&client).await;
    let timing = client.timing();
    client.call(&a_refund(), timing).await;
    let command = a_refund();
    client.inquire(&command, "1", command.account(), client.timing()).await;
    let sent = sent.await.unwrap();
    let header = |sent: &String, name: &str| {
        let line = sent.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map(str::to_owned)
    };
    for inquiry in [&sent[0], &sent[2]] {
        assert_eq!(header(inquiry, "cache-control").as_deref(), Some("no-cache, no-store"));
        assert_eq!(header(inquiry, "pragma").as_deref(), Some("no-cache"));
    }
    let timestamps: Vec<i64> = sent
        .iter()
        .map(|sent| header(sent, "secret-key-timestamp").unwrap().parse().unwrap())
        .collect();
    assert_eq!(timestamps[1], timing.stamp, "the one that it was given");
    assert!(timestamps[0] < timestamps[1] && timestamps[1] < timestamps[2]);
    let signer = crate::sign::Signer::new("access");
    let signature = header(&sent[1], "secret-key").unwrap();
    assert_eq!(signature, signer.sign(&timing.stamp.to_string()));
    assert!(sent[1].starts_with("POST /v3/customer/payment/refund/13192443 "), "{}", sent[1]);
}

#[tokio::test]
async fn a_refund_may_have_been_executed_whatever_answers_it_but_not_where_nothing_left() {
    for status in [301, 307, 401, 403, 404, 405, 415, 429, 502] {
        let (client, _sent) = called(vec![(status, String::new(), "<html>".to_owned())]).await;
        let verdict = client.call(&a_refund(), client.timing()).await.meaning;
        let is_unclear = matches!(verdict, Verdict::Unclear { fallback: Fallback::Repeat, .. });
        assert!(is_unclear, "{status}: {verdict:?}");
    }
    let (client, _sent) = called(Vec::new()).await;
    let timing = Timing { deadline: deadline_after(Duration::ZERO), ..client.timing() };
    let too_late = client.call(&a_refund(), timing).await.meaning;
    assert_eq!(too_late, Verdict::not_now(Cause::Timeout));
}
