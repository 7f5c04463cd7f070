//! The line to one node: kept open, reopened, or left alone for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff;
use super::depth::{Depth, More};
use crate::config::Endpoint;
use crate::model::FailureReason;
use crate::parse::{Info, Sample};
use crate::publish::dropin::{MAX_DATABASES, Readings, ServerView};
use crate::wire::{Connection, Extras, InfoReply, PollError, TlsStore};

/// The line to one node.
#[derive(Debug)]
pub struct NodeLink {
    endpoint: Endpoint,
    state: State,
    more: More,
}

#[derive(Debug)]
enum State {
    Connected(Connection),
    Disconnected(Outage),
}

/// Where a node stands that does not answer. `reason` is `None` before the first attempt, and after
/// one that was abandoned half-way.
#[derive(Debug, Default)]
struct Outage {
    reason: Option<FailureReason>,
    failures: u32,
    retry_at: Option<Instant>,
}

/// What one poll of a node came to.
#[derive(Debug)]
pub enum Outcome {
    /// The node answered.
    Answered(Answer),
    /// An attempt was made and failed.
    Failed(PollError),
    /// No attempt was made: the node is left alone for a while after it last failed so.
    Waiting(FailureReason),
}

/// A node's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What the detector needs of it.
    pub sample: Box<Sample>,
    /// All of it, and what was asked on top of `INFO`.
    pub text: Arc<str>,
    /// The core drop-in series.
    pub core: Readings,
    /// From sending the question to having the answer.
    pub took: Duration,
}

impl NodeLink {
    /// A line that is opened at the first poll.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, state: State::Disconnected(Outage::default()), more: More::default() }
    }

    /// The node at its end.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Polls once; done by `deadline`. Abandoned half-way, the connection is closed and the next
    /// poll opens another: a late answer must not be taken for the next one.
    pub async fn poll(&mut self, depth: Depth, tls: &TlsStore, deadline: Instant) -> Outcome {
        let state = std::mem::replace(&mut self.state, State::Disconnected(Outage::default()));
        let (kept, failures) = match state {
            State::Connected(connection) => (Some(connection), 0),
            State::Disconnected(outage) => {
                if let (Some(reason), Some(retry_at)) = (outage.reason, outage.retry_at)
                    && Instant::now() < retry_at
                {
                    self.state = State::Disconnected(outage);
                    return Outcome::Waiting(reason);
                }
                (None, outage.failures)
            }
        };
        let extras = self.more.extras(depth);
        match self.ask(kept, &extras, tls, deadline).await {
            Ok((connection, InfoReply { mut text, extras: told, took })) => {
                self.state = State::Connected(connection);
                // Parsed once: that is most of what a poll costs us.
                let info = Info::parse(&text);
                let sample = Box::new(Sample::from_info(&info));
                let more = self.more.learn(&info, &extras, &told);
                let server = ServerView { up: true, info, databases_max: MAX_DATABASES, ..ServerView::default() };
                let core = Readings::of(&server);
                text.push_str(&more);
                Outcome::Answered(Answer { sample, text: Arc::from(text), core, took })
            }
            Err(error) => {
                self.more = More::default();
                let failures = failures.saturating_add(1);
                let retry_at = Some(Instant::now() + backoff::pause(failures, rand::random()));
                self.state = State::Disconnected(Outage { reason: Some(error.reason), failures, retry_at });
                Outcome::Failed(error)
            }
        }
    }

    /// Over the kept connection if there is one. If that turns out to be cut, over a new one, once:
    /// a failover or an idle timeout closes connections of servers that are well.
    async fn ask(
        &self,
        kept: Option<Connection>,
        extras: &Extras,
        tls: &TlsStore,
        deadline: Instant,
    ) -> Result<(Connection, InfoReply), PollError> {
        if let Some(mut connection) = kept {
            match connection.info_and(extras, deadline).await {
                Ok(reply) => return Ok((connection, reply)),
                Err(error) if error.reason == FailureReason::Io => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = Connection::open(&self.endpoint, tls, deadline).await?;
        let reply = connection.info_and(extras, deadline).await?;
        Ok((connection, reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scripted::{Script, ScriptedServer, deserted};

    /// With a deadline that a busy test machine keeps, too.
    async fn poll(link: &mut NodeLink) -> Result<Answer, FailureReason> {
        poll_within(link, Duration::from_secs(10)).await
    }

    async fn poll_within(link: &mut NodeLink, time: Duration) -> Result<Answer, FailureReason> {
        match link.poll(Depth::Core, &TlsStore::default(), Instant::now() + time).await {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Failed(error) => Err(error.reason),
            Outcome::Waiting(reason) => panic!("waiting after {reason}"),
        }
    }

    #[tokio::test]
    async fn keeps_its_connection() {
        let server = ScriptedServer::start(Script::default()).await;
        let mut link = NodeLink::new(server.endpoint());
        for _ in 0..3 {
            assert_eq!(poll(&mut link).await.unwrap().sample.hits, Some(1));
        }
        assert_eq!(server.connections(), 1);
    }

    #[tokio::test]
    async fn a_connection_cut_between_polls_fails_no_poll() {
        let server = ScriptedServer::start(Script::default()).await;
        let mut link = NodeLink::new(server.endpoint());
        for connections in 1..=3 {
            assert!(poll(&mut link).await.is_ok());
            assert_eq!(server.connections(), connections);
            server.cut_connections();
        }
    }

    #[tokio::test]
    async fn reopens_once_only() {
        let server = ScriptedServer::start(Script::default()).await;
        let mut link = NodeLink::new(server.endpoint());
        assert!(poll(&mut link).await.is_ok());
        server.follow(Script { greeting: Some(String::new()), ..Script::default() });
        server.cut_connections();
        assert_eq!(poll(&mut link).await.unwrap_err(), FailureReason::Io);
        assert_eq!(server.connections(), 2);
    }

    #[tokio::test]
    async fn a_timeout_drops_the_connection() {
        let server = ScriptedServer::start(Script::default()).await;
        let mut link = NodeLink::new(server.endpoint());
        assert!(poll(&mut link).await.is_ok());
        server.follow(Script { hang: true, ..Script::default() });
        let timeout = Duration::from_millis(200);
        assert_eq!(poll_within(&mut link, timeout).await.unwrap_err(), FailureReason::Timeout);
        server.follow(Script::default());
        assert!(poll(&mut link).await.is_ok());
        assert_eq!(server.connections(), 2);
    }

    #[tokio::test]
    async fn waits_longer_and_longer_with_its_last_reason() {
        let mut link = NodeLink::new(deserted().await);
        for _ in 0..2 {
            assert_eq!(poll(&mut link).await.unwrap_err(), FailureReason::Refused);
        }
        let outcome = link.poll(Depth::Core, &TlsStore::default(), Instant::now() + Duration::from_secs(1)).await;
        assert!(matches!(outcome, Outcome::Waiting(FailureReason::Refused)), "{outcome:?}");
    }
}
