//! The way to the broker by TLS, with certificates made for the test.

use std::net::{TcpListener, TcpStream};

use crate::load::node::Node;
use crate::rig::ca::Ca;
use crate::rig::command::transfer_otp;
use crate::rig::script::{checked, transfer_otp_sent};
use crate::rig::stub::TRANSFER_OTP;
use crate::rig::worker::Worker;
use crate::rig::{Rig, eventually};

/// A node with a TLS listener, whose certificate is for `localhost`.
async fn tls_node() -> (Node, Ca, u16) {
    let dir = tempfile::Builder::new().prefix("it-tls-").tempdir().unwrap();
    let ca = Ca::new(&dir.path().join("ca"));
    ca.sign("node", Some("localhost"));
    ca.sign("worker", None);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lines = format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {}\n\
         ssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = false\n\
         ssl_cert_login_from = common_name\n\
         auth_mechanisms.1 = PLAIN\n\
         auth_mechanisms.2 = EXTERNAL",
        ca.file("ca.pem"),
        ca.file("node.pem"),
        ca.file("node.key"),
    );
    let plugins = "rabbitmq_auth_mechanism_ssl".to_owned();
    let environment = [("RMQ_CONF_EXTRA", lines), ("RMQ_PLUGINS", plugins)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let node = Node::start_in(dir, environment.into());
    // It is there when the other listener is, and not always this one.
    let listens = async || TcpStream::connect(("127.0.0.1", port)).ok();
    eventually("the node listens for TLS", listens).await;
    (node, ca, port)
}

/// Why the worker of these settings does not reach its broker.
async fn refusal(rig: &mut Rig, settings: &[(&str, String)]) -> String {
    let own = rig.settings.clone();
    rig.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    rig.spawn_worker();
    let said = eventually("the worker says what is missing", async || {
        let (status, body) = rig.worker().get("/readyz").await;
        assert_eq!(status, 503, "it should not get in: {body}");
        (!body.contains("not connected yet")).then_some(body)
    })
    .await;
    rig.stop_worker().await;
    rig.settings = own;
    said
}

#[tokio::test]
async fn amqps_is_spoken_with_a_broker_that_a_given_ca_signed() {
    let (node, ca, port) = tls_node().await;
    let mut rig = Rig::builder().at(&node.url).stub().start_without_worker().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    let url = |host: &str, user: &str| format!("amqps://{user}@{host}:{port}/%2f");
    let guest = "guest:guest";
    let foreign = Ca::new(&ca.dir.join("foreign"));
    let ca_file = ca.file("ca.pem");

    // Another CA, and another host than the certificate's.
    for (host, ca_file, why) in [
        ("localhost", foreign.file("ca.pem"), "UnknownIssuer"),
        ("127.0.0.1", ca_file.clone(), "not valid for name"),
    ] {
        let settings = [("AMQP_URL", url(host, guest)), ("AMQP_CA_FILE", ca_file)];
        let said = refusal(&mut rig, &settings).await;
        assert!(said.contains("the TLS handshake failed") && said.contains(why), "{said}");
    }

    // The given CA, and the system's.
    for setting in ["AMQP_CA_FILE", "SSL_CERT_FILE"] {
        rig.settings.insert("AMQP_URL".to_owned(), url("localhost", guest));
        rig.settings.insert(setting.to_owned(), ca_file.clone());
        rig.stub().on_inquiry("1", checked());
        let (code, out, said) = Worker::output(&["check"], &rig.settings).await;
        assert_eq!(code, 0, "{out}{said}");
        rig.settings.remove(setting);
    }

    // A certificate of our own is a login; the password in the URL is none.
    let certified = [
        ("AMQP_URL", url("localhost", "nobody:wrong")),
        ("AMQP_CA_FILE", ca_file),
        ("AMQP_CLIENT_CERT_FILE", ca.file("worker.pem")),
        ("AMQP_CLIENT_KEY_FILE", ca.file("worker.key")),
    ];
    let said = refusal(&mut rig, &certified).await;
    assert!(said.contains("EXTERNAL"), "there is no user of that name yet: {said}");
    node.user("worker", [".*", ".*", ".*"]);
    rig.settings.extend(certified.map(|(name, value)| (name.to_owned(), value)));
    rig.start_worker().await;
    rig.publish(&transfer_otp("a", "REF-A")).await;
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    let users = node.ctl(&["list_connections", "user", "ssl", "auth_mechanism"]);
    let own = users.lines().filter(|line| *line == "worker\ttrue\tEXTERNAL").count();
    assert_eq!(own, 5, "all connections, one of them for each kind: {users}");
    rig.finish().await;
}
