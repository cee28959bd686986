//! What a connection tells about itself: that the broker blocks it, or that it is gone.
//!
//! Consumers and confirms tell that too, but only where there are some: a paused worker has
//! no consumer and publishes nothing.

use futures_util::{Stream, StreamExt as _};
use lapin::{Connection, ConnectionStatus, Event};
use tokio::sync::watch;

/// How a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It takes messages.
    Fine,
    /// The broker is short of memory or disk and takes no messages.
    Blocked,
    /// It will not come back, and why.
    Gone(String),
}

/// A handle on what one connection tells.
#[derive(Clone, Debug)]
pub(super) struct Link(pub(super) watch::Receiver<Standing>);

impl Link {
    /// Follows a connection. Where `needs_channels`, the loss of any of its channels is the
    /// loss of the connection.
    pub(super) fn follow(connection: &Connection, needs_channels: bool) -> Self {
        let events = connection.events_listener();
        let status = connection.status().clone();
        // What happened before anybody listened is in the status.
        let now = match (status.connected(), status.blocked()) {
            (false, _) => Standing::Gone("the connection is closed".to_owned()),
            (true, true) => Standing::Blocked,
            (true, false) => Standing::Fine,
        };
        let (standing, link) = watch::channel(now);
        tokio::spawn(follow(events, status, needs_channels, standing));
        Self(link)
    }

    /// Whether the broker takes no messages from it now.
    pub(super) fn is_blocked(&self) -> bool {
        *self.0.borrow() == Standing::Blocked
    }

    /// Waits until the broker blocks it.
    pub(super) async fn blocked(&mut self) {
        if self.0.wait_for(|standing| *standing == Standing::Blocked).await.is_err() {
            // Nobody follows it any more.
            std::future::pending().await
        }
    }

    /// Waits until the broker takes messages from it; for ever, where it is gone.
    pub(super) async fn fine(&mut self) {
        if self.0.wait_for(|standing| *standing == Standing::Fine).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until it is not blocked any more, be it that it is gone.
    pub(super) async fn unblocked(&mut self) {
        drop(self.0.wait_for(|standing| *standing != Standing::Blocked).await);
    }

    /// Waits until it is gone, and tells why.
    pub(super) async fn gone(&mut self) -> String {
        match self.0.wait_for(|standing| matches!(standing, Standing::Gone(_))).await.as_deref() {
            Ok(Standing::Gone(why)) => why.clone(),
            Ok(Standing::Fine | Standing::Blocked) | Err(_) => "it is closed".to_owned(),
        }
    }
}

async fn follow(
    events: impl Stream<Item = Event> + Send,
    status: ConnectionStatus,
    needs_channels: bool,
    standing: watch::Sender<Standing>,
) {
    tokio::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(_) => drop(standing.send_replace(Standing::Blocked)),
            Event::ConnectionUnblocked => drop(standing.send_replace(Standing::Fine)),
            // A channel's error is an event of its connection, too.
            Event::Error(error) if needs_channels || !status.connected() => {
                standing.send_replace(Standing::Gone(error.to_string()));
                return;
            }
            _ => {}
        }
    }
}
