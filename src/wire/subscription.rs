//! A subscription: what a server announces until the connection ends.

use std::time::Duration;

use tokio::io::{AsyncWrite, split};
use tokio::time::interval;

use super::{Connection, Fault, Limited, PollError, REPLY_BYTES_MAX, Reply, packed, read_replies, write};
use crate::model::FailureReason;

/// How often we ask whether the other side is still there …
const PING_PERIOD: Duration = Duration::from_secs(10);

/// … and how long it may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(25);

impl Connection {
    /// Subscribes to channels and shows every message to `hear`, as channel and text, until the connection ends or
    /// has carried 4 MiB. The error says why it ended; it always does, sooner or later.
    pub async fn subscribe(mut self, channels: &[&str], hear: impl FnMut(&str, &str)) -> PollError {
        let password = self.credentials.expose_password().map(str::to_owned);
        let fault = self.listen(channels, hear, password.as_deref()).await;
        fault.at(&self.node)
    }

    async fn listen(&mut self, channels: &[&str], mut hear: impl FnMut(&str, &str), password: Option<&str>) -> Fault {
        let (mut reader, mut writer) = split(&mut self.stream);
        let words: Vec<&str> = std::iter::once("SUBSCRIBE").chain(channels.iter().copied()).collect();
        if let Err(error) = write(&mut writer, &packed(&words)).await {
            return Fault::from_io(&error);
        }
        let take = |reply: Reply| match &reply {
            Reply::Error { code, text } => Some(Fault::from_reply(&["SUBSCRIBE"], code, text, password)),
            Reply::Array(items) => {
                if let [kind, channel, message] = items.as_slice()
                    && kind.text() == Some("message")
                    && let (Some(channel), Some(message)) = (channel.text(), message.text())
                {
                    hear(channel, message);
                }
                None
            }
            _ => Some(Fault::new(FailureReason::Protocol, "SUBSCRIBE was answered, but not with messages")),
        };
        let mut limited = Limited::new(&mut reader, REPLY_BYTES_MAX);
        tokio::select! {
            fault = read_replies(&mut limited, SILENCE_MAX, take) => fault,
            fault = keep_alive(&mut writer) => fault,
        }
    }
}

/// Asks for a sign of life at intervals: a connection that is silently gone looks like a quiet one.
async fn keep_alive(writer: &mut (impl AsyncWrite + Unpin)) -> Fault {
    let mut ticks = interval(PING_PERIOD);
    loop {
        ticks.tick().await;
        if let Err(error) = write(writer, &packed(&["PING"])).await {
            return Fault::from_io(&error);
        }
    }
}
