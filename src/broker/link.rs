//! What a connection tells about itself: that the broker blocks it, or that it is gone.
//!
//! Consumers and confirms tell that too, but only where there are some: a paused worker has
//! no consumer and publishes nothing. And lapin 4.12 may never answer a call, an ack among
//! them, that meets the end of its connection.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use lapin::protocol::AMQPSoftError;
use lapin::{Connection, ConnectionState, ConnectionStatus, ErrorKind, Event};
use tokio::sync::watch;

use super::declare::{said, soft_error};

/// How a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
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
pub(super) struct Link(Arc<watch::Sender<Standing>>);

impl Link {
    /// Follows a connection. Where `needs_channels`, the loss of any of its channels is the
    /// loss of the connection.
    pub(super) fn follow(connection: &Connection, needs_channels: bool) -> Self {
        let events = connection.events_listener();
        let status = connection.status().clone();
        let link = Self::new(Standing::Fine);
        // What happened before anybody listened is in the status.
        if status.blocked() {
            link.stand(Standing::Blocked);
        }
        if !status.connected() {
            link.end("it is closed", false);
        }
        tokio::spawn(follow(events, status, needs_channels, link.clone()));
        link
    }

    pub(super) fn new(standing: Standing) -> Self {
        Self(Arc::new(watch::Sender::new(standing)))
    }

    /// Notes how the connection stands, unless it is gone.
    pub(super) fn stand(&self, standing: Standing) {
        self.0.send_if_modified(|now| {
            let is_news = !matches!(now, Standing::Gone(_)) && *now != standing;
            if is_news {
                *now = standing;
            }
            is_news
        });
    }

    /// Notes that it is gone.
    pub(super) fn end(&self, why: &str, is_refusal: bool) {
        self.stand(Standing::Gone(Gone { why: why.to_owned(), is_refusal }));
    }

    /// Whether the broker takes no messages from it now.
    pub(super) fn is_blocked(&self) -> bool {
        *self.0.borrow() == Standing::Blocked
    }

    /// Why it is gone, if it is.
    pub(super) fn why_gone(&self) -> Option<String> {
        match &*self.0.borrow() {
            Standing::Gone(gone) => Some(gone.why.clone()),
            Standing::Fine | Standing::Blocked => None,
        }
    }

    /// Whether it is gone.
    pub(super) fn is_gone(&self) -> bool {
        matches!(&*self.0.borrow(), Standing::Gone(_))
    }

    /// Whether it is gone since the broker did not let this user publish.
    pub(super) fn is_refused(&self) -> bool {
        matches!(&*self.0.borrow(), Standing::Gone(gone) if gone.is_refusal)
    }

    /// Waits until the broker blocks it.
    pub(super) async fn blocked(&self) {
        self.until(|standing| *standing == Standing::Blocked).await;
    }

    /// Waits until the broker takes messages from it; for ever, where it is gone.
    pub(super) async fn fine(&self) {
        self.until(|standing| *standing == Standing::Fine).await;
    }

    /// Waits until it is not blocked any more, be it that it is gone.
    pub(super) async fn unblocked(&self) {
        self.until(|standing| *standing != Standing::Blocked).await;
    }

    /// Waits until it is gone, and tells why.
    pub(super) async fn gone(&self) -> String {
        match self.until(|standing| matches!(standing, Standing::Gone(_))).await {
            Some(Standing::Gone(gone)) => gone.why,
            Some(Standing::Fine | Standing::Blocked) | None => "it is closed".to_owned(),
        }
    }

    /// What lapin answers, unless the connection is gone before it does.
    pub(super) async fn during<T>(
        &self,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> lapin::Result<T> {
        tokio::select! {
            biased;
            answer = call => answer,
            _ = self.gone() => Err(ErrorKind::InvalidConnectionState(ConnectionState::Closed).into()),
        }
    }

    async fn until(&self, holds: impl FnMut(&Standing) -> bool) -> Option<Standing> {
        // It never fails: the sender is ours.
        self.0.subscribe().wait_for(holds).await.ok().as_deref().cloned()
    }
}

async fn follow(
    events: impl Stream<Item = Event> + Send,
    status: ConnectionStatus,
    needs_channels: bool,
    link: Link,
) {
    let mut events = std::pin::pin!(events);
    let mut gone = std::pin::pin!(link.gone());
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = &mut gone => return,
        };
        match event {
            Some(Event::ConnectionBlocked(_)) => link.stand(Standing::Blocked),
            Some(Event::ConnectionUnblocked) => link.stand(Standing::Fine),
            // A channel's error is an event of its connection, too.
            Some(Event::Error(error)) if needs_channels || !status.connected() => {
                let is_refusal = soft_error(&error) == Some(AMQPSoftError::ACCESSREFUSED);
                link.end(&said(&error), is_refusal);
            }
            Some(_) => {}
            None => link.end("it is closed", false),
        }
    }
}
