//! What a connection tells about itself: that the broker blocks it, or that it is gone.
//!
//! Consumers and confirms tell that too, but only where there are some: a paused worker has
//! no consumer and publishes nothing. And lapin 4.12 may never answer a call, an ack among
//! them, that meets the end of its connection.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use lapin::protocol::AMQPSoftError;
use lapin::{Connection, ConnectionStatus, ErrorKind, Event};
use tokio::sync::watch;

use super::declare::{said, soft_error};

/// How a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// It takes messages.
    Fine,
    /// The broker is short of memory or disk and takes no messages.
    Blocked,
    /// It will not come back, and why.
    Gone(Gone),
}

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    /// In a sentence.
    pub(super) why: String,
    /// Whether the broker did not let this user publish, so that another connection will not
    /// do better.
    pub(super) is_refusal: bool,
}

/// A handle on what one connection tells.
#[derive(Clone, Debug)]
pub(super) struct ConnectionMonitor(Arc<watch::Sender<ConnectionState>>);

impl ConnectionMonitor {
    /// Follows a connection. Where `needs_channels`, the loss of any of its channels is the
    /// loss of the connection.
    pub(super) fn follow(connection: &Connection, needs_channels: bool) -> Self {
        let events = connection.events_listener();
        let status = connection.status().clone();
        let monitor = Self::new(ConnectionState::Fine);
        // What happened before anybody listened is in the status.
        if status.blocked() {
            monitor.set_state(ConnectionState::Blocked);
        }
        if !status.connected() {
            monitor.end("it is closed", false);
        }
        tokio::spawn(follow(events, status, needs_channels, monitor.clone()));
        monitor
    }

    pub(super) fn new(state: ConnectionState) -> Self {
        Self(Arc::new(watch::Sender::new(state)))
    }

    /// Notes how the connection stands, unless it is gone.
    pub(super) fn set_state(&self, state: ConnectionState) {
        self.0.send_if_modified(|now| {
            let is_news = !matches!(now, ConnectionState::Gone(_)) && *now != state;
            if is_news {
                *now = state;
            }
            is_news
        });
    }

    /// Notes that it is gone.
    pub(super) fn end(&self, why: &str, is_refusal: bool) {
        self.set_state(ConnectionState::Gone(Gone { why: why.to_owned(), is_refusal }));
    }

    /// Whether the broker takes no messages from it now.
    pub(super) fn is_blocked(&self) -> bool {
        *self.0.borrow() == ConnectionState::Blocked
    }

    /// Why it is gone, if it is.
    pub(super) fn why_gone(&self) -> Option<String> {
        match &*self.0.borrow() {
            ConnectionState::Gone(gone) => Some(gone.why.clone()),
            ConnectionState::Fine | ConnectionState::Blocked => None,
        }
    }

    /// Whether it is gone.
    pub(super) fn is_gone(&self) -> bool {
        matches!(&*self.0.borrow(), ConnectionState::Gone(_))
    }

    /// Whether it is gone since the broker did not let this user publish.
    pub(super) fn is_refused(&self) -> bool {
        matches!(&*self.0.borrow(), ConnectionState::Gone(gone) if gone.is_refusal)
    }

    /// Waits until the broker blocks it.
    pub(super) async fn blocked(&self) {
        self.until(|state| *state == ConnectionState::Blocked).await;
    }

    /// Waits until the broker takes messages from it; for ever, where it is gone.
    pub(super) async fn fine(&self) {
        self.until(|state| *state == ConnectionState::Fine).await;
    }

    /// Waits until it is not blocked any more, be it that it is gone.
    pub(super) async fn unblocked(&self) {
        self.until(|state| *state != ConnectionState::Blocked).await;
    }

    /// Waits until it is gone, and tells why.
    pub(super) async fn gone(&self) -> String {
        match self.until(|state| matches!(state, ConnectionState::Gone(_))).await {
            Some(ConnectionState::Gone(gone)) => gone.why,
            Some(ConnectionState::Fine | ConnectionState::Blocked) | None => {
                "it is closed".to_owned()
            }
        }
    }

    /// What lapin answers, unless the connection is gone before it does.
    pub(super) async fn unless_closed<T>(
        &self,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> lapin::Result<T> {
        tokio::select! {
            biased;
            answer = call => answer,
            _ = self.gone() => Err(ErrorKind::InvalidConnectionState(lapin::ConnectionState::Closed).into()),
        }
    }

    async fn until(&self, holds: impl FnMut(&ConnectionState) -> bool) -> Option<ConnectionState> {
        // It never fails: the sender is ours.
        self.0.subscribe().wait_for(holds).await.ok().as_deref().cloned()
    }
}

async fn follow(
    events: impl Stream<Item = Event> + Send,
    status: ConnectionStatus,
    needs_channels: bool,
    monitor: ConnectionMonitor,
) {
    let mut events = std::pin::pin!(events);
    let mut gone = std::pin::pin!(monitor.gone());
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = &mut gone => return,
        };
        match event {
            Some(Event::ConnectionBlocked(_)) => monitor.set_state(ConnectionState::Blocked),
            Some(Event::ConnectionUnblocked) => monitor.set_state(ConnectionState::Fine),
            // A channel's error is an event of its connection, too.
            Some(Event::Error(error)) if needs_channels || !status.connected() => {
                let is_refusal = soft_error(&error) == Some(AMQPSoftError::ACCESSREFUSED);
                monitor.end(&said(&error), is_refusal);
            }
            Some(_) => {}
            None => monitor.end("it is closed", false),
        }
    }
}
