//! The line to one node: kept open, reopened, or left alone for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

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
    endpoint: Arc<Endpoint>,
    state: State,
    /// Attempts that failed since it last answered.
    failures: u32,
    more: More,
}

#[derive(Debug)]
enum State {
    /// Before the first attempt, and after one that was abandoned half-way.
    New,
    Connected(Connection),
    Down {
        reason: FailureReason,
        retry_at: Instant,
    },
    /// It was down for that reason; an attempt goes on that nobody waits for.
    Trying {
        reason: FailureReason,
        attempt: AbortOnDropHandle<Asked>,
    },
}

type Asked = Result<(Connection, InfoReply), PollError>;

/// What one poll of a node came to.
#[derive(Debug)]
pub enum Outcome {
    /// The node answered.
    Answered(Answer),
    /// An attempt was made and failed.
    Failed(PollError),
    /// Nothing new: the node last failed so, and is left alone for a while, or has not answered the next attempt yet.
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
        Self { endpoint: Arc::new(endpoint), state: State::New, failures: 0, more: More::default() }
    }

    /// The node at its end.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether it did not answer when it was last asked.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. } | State::Trying { .. })
    }

    /// Polls once; done by `deadline`. Abandoned half-way, the connection is closed and the next
    /// poll opens another: a late answer must not be taken for the next one.
    ///
    /// A node that is down is waited for until `patience` is over. The attempt goes on to the deadline all the same,
    /// and the next poll takes over what came of it: a connection to ask once more, or a failure.
    pub async fn poll(
        &mut self,
        depth: Depth,
        tls: &Arc<TlsStore>,
        deadline: Instant,
        patience: impl Future<Output = ()>,
    ) -> Outcome {
        let extras = self.more.extras(depth);
        let ask = |kept| ask(kept, &self.endpoint, &extras, tls, deadline);
        let asked = match std::mem::replace(&mut self.state, State::New) {
            State::New => ask(None).await,
            State::Connected(connection) => ask(Some(connection)).await,
            State::Down { reason, retry_at } if Instant::now() < retry_at => {
                self.state = State::Down { reason, retry_at };
                return Outcome::Waiting(reason);
            }
            State::Down { reason, .. } => {
                let mut attempt = self.attempt(&extras, tls, deadline);
                tokio::select! {
                    biased;
                    asked = &mut attempt => self.finished(asked),
                    () = patience => {
                        self.state = State::Trying { reason, attempt };
                        return Outcome::Waiting(reason);
                    }
                }
            }
            State::Trying { reason, attempt } if !attempt.is_finished() => {
                self.state = State::Trying { reason, attempt };
                return Outcome::Waiting(reason);
            }
            State::Trying { attempt, .. } => match self.finished(attempt.await) {
                // What it answered is a round old.
                Ok((connection, _)) => ask(Some(connection)).await,
                Err(error) => Err(error),
            },
        };
        match asked {
            Ok((connection, InfoReply { mut text, extras: told, took })) => {
                (self.state, self.failures) = (State::Connected(connection), 0);
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
                self.failures = self.failures.saturating_add(1);
                let retry_at = Instant::now() + backoff::pause(self.failures, rand::random());
                self.state = State::Down { reason: error.reason, retry_at };
                Outcome::Failed(error)
            }
        }
    }

    /// Asks over a new connection, whoever waits for it.
    fn attempt(&self, extras: &Extras, tls: &Arc<TlsStore>, deadline: Instant) -> AbortOnDropHandle<Asked> {
        let (endpoint, extras, tls) = (Arc::clone(&self.endpoint), extras.clone(), Arc::clone(tls));
        AbortOnDropHandle::new(tokio::spawn(async move { ask(None, &endpoint, &extras, &tls, deadline).await }))
    }

    /// An attempt that panicked has failed, and nothing more.
    fn finished(&self, attempt: Result<Asked, JoinError>) -> Asked {
        attempt.unwrap_or_else(|error| {
            let (node, detail) = (self.endpoint.node.clone(), format!("the attempt broke off: {error}"));
            Err(PollError { node, reason: FailureReason::Protocol, detail })
        })
    }
}

/// Over the kept connection if there is one. If that turns out to be cut, over a new one, once:
/// a failover or an idle timeout closes connections of servers that are well.
async fn ask(
    kept: Option<Connection>,
    endpoint: &Endpoint,
    extras: &Extras,
    tls: &TlsStore,
    deadline: Instant,
) -> Asked {
    if let Some(mut connection) = kept {
        match connection.info_and(extras, deadline).await {
            Ok(reply) => return Ok((connection, reply)),
            Err(error) if error.reason == FailureReason::Io => {}
            Err(error) => return Err(error),
        }
    }
    let mut connection = Connection::open(endpoint, tls, deadline).await?;
    let reply = connection.info_and(extras, deadline).await?;
    Ok((connection, reply))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::wire::scripted::{Script, ScriptedServer, deserted};

    /// With a deadline that a busy test machine keeps, too.
    async fn poll(link: &mut NodeLink) -> Result<Answer, FailureReason> {
        poll_within(link, Duration::from_secs(10)).await
    }

    async fn poll_within(link: &mut NodeLink, time: Duration) -> Result<Answer, FailureReason> {
        match link.poll(Depth::Core, &Arc::default(), Instant::now() + time, pending()).await {
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
        let soon = Instant::now() + Duration::from_secs(1);
        let outcome = link.poll(Depth::Core, &Arc::default(), soon, pending()).await;
        assert!(matches!(outcome, Outcome::Waiting(FailureReason::Refused)), "{outcome:?}");
    }

    #[tokio::test]
    async fn an_attempt_that_nobody_waits_for_goes_on_and_its_connection_is_taken_over() {
        let server = ScriptedServer::start(Script { hang: true, ..Script::default() }).await;
        let mut link = NodeLink::new(server.endpoint());
        assert_eq!(poll_within(&mut link, Duration::from_millis(100)).await.unwrap_err(), FailureReason::Timeout);
        assert!(link.is_down());
        let impatient = async |link: &mut NodeLink, time| {
            link.poll(Depth::Core, &Arc::default(), Instant::now() + time, ready(())).await
        };
        // Nobody waits, and what came of it is a failure like another.
        let outcome = impatient(&mut link, Duration::from_millis(100)).await;
        assert!(matches!(outcome, Outcome::Waiting(FailureReason::Timeout)), "{outcome:?}");
        let failed = loop {
            match impatient(&mut link, Duration::from_secs(10)).await {
                Outcome::Waiting(FailureReason::Timeout) => tokio::time::sleep(Duration::from_millis(20)).await,
                outcome => break outcome,
            }
        };
        assert!(matches!(&failed, Outcome::Failed(error) if error.reason == FailureReason::Timeout), "{failed:?}");
        // The next one, after the pause, finds it well.
        server.follow(Script::default());
        let begun = Instant::now();
        let answered = loop {
            assert!(begun.elapsed() < Duration::from_secs(30), "it stays down");
            match impatient(&mut link, Duration::from_secs(10)).await {
                Outcome::Waiting(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                outcome => break outcome,
            }
        };
        assert!(matches!(answered, Outcome::Answered(_)), "{answered:?}");
        assert!(!link.is_down());
        assert_eq!(server.connections(), 3, "the attempt's own was asked again");
    }
}
