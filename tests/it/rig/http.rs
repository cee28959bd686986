//! The few HTTP requests that the rig itself makes.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

fn client() -> reqwest::Client {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    // Two tests of one process may be here at once, and the provider can be installed only once.
    PROVIDER.get_or_init(|| drop(rustls::crypto::ring::default_provider().install_default()));
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap()
}

/// GET: status and body; status 0 where the server did not answer.
pub(crate) async fn get(url: &str) -> (u16, String) {
    match client().get(url).send().await {
        Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap()),
        Err(error) => (0, error.to_string()),
    }
}

/// POST of JSON that must succeed.
pub(crate) async fn post(url: &str, body: &Value) {
    let request = client().post(url).header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.unwrap();
    let status = answer.status();
    assert!(status.is_success(), "POST {url} {body}: {status} {}", answer.text().await.unwrap());
}

/// DELETE that must succeed.
pub(crate) async fn delete(url: &str) {
    let answer = client().delete(url).send().await.unwrap();
    assert!(answer.status().is_success(), "DELETE {url}: {}", answer.status());
}
