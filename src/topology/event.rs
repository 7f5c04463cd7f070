//! What a Sentinel announces on its channels.

use std::sync::Arc;

use crate::model::{NodeName, SentinelEvent};

/// Channels to subscribe to, each by its full name: a user needs `SUBSCRIBE` only, not patterns.
pub const CHANNELS: [&str; 9] = [
    "+switch-master",
    "+sdown",
    "-sdown",
    "+odown",
    "-failover-abort-no-good-slave",
    "-failover-abort-not-elected",
    "-failover-abort-slave-timeout",
    "+reboot",
    "+tilt",
];

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The Sentinel that announced it.
    pub sentinel: NodeName,
    /// What happened.
    pub kind: SentinelEvent,
    /// The master it happened to, by its configured name; `None` where it happened to a replica or a Sentinel.
    pub master: Option<Arc<str>>,
}

impl Event {
    /// Reads a message of one of [`CHANNELS`]; `None` for any other.
    ///
    /// `+switch-master` says `name ip port ip port`; the others `master name ip port`, or
    /// `slave name ip port @ master ip port` for what is no master; `+tilt` says nothing of use.
    #[must_use]
    pub fn read(sentinel: &NodeName, channel: &str, message: &str) -> Option<Self> {
        let kind = match channel {
            "+switch-master" => SentinelEvent::SwitchMaster,
            "+sdown" => SentinelEvent::Down,
            "-sdown" => SentinelEvent::Up,
            "+odown" => SentinelEvent::ObjectivelyDown,
            "+reboot" => SentinelEvent::Reboot,
            "+tilt" => SentinelEvent::Tilt,
            _ if channel.starts_with("-failover-abort-") => SentinelEvent::FailoverAborted,
            _ => return None,
        };
        let mut words = message.split_ascii_whitespace();
        let master = match (kind, words.next()) {
            (SentinelEvent::Tilt, _) => None,
            (SentinelEvent::SwitchMaster, name) => name,
            (_, Some("master")) => words.next(),
            _ => None,
        };
        Some(Self { sentinel: sentinel.clone(), kind, master: master.map(Arc::from) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_read() {
        let sentinel = NodeName::from("s1:26379");
        for (channel, message, kind, master) in [
            ("+switch-master", "m 10.0.0.1 6379 10.0.0.2 6379", SentinelEvent::SwitchMaster, Some("m")),
            ("+sdown", "master m 10.0.0.1 6379", SentinelEvent::Down, Some("m")),
            ("-sdown", "slave 10.0.0.2:6379 10.0.0.2 6379 @ m 10.0.0.1 6379", SentinelEvent::Up, None),
            ("+odown", "master m 10.0.0.1 6379 #quorum 2/2", SentinelEvent::ObjectivelyDown, Some("m")),
            ("-failover-abort-not-elected", "master m 10.0.0.1 6379", SentinelEvent::FailoverAborted, Some("m")),
            ("+tilt", "#tilt mode entered", SentinelEvent::Tilt, None),
        ] {
            let event = Event::read(&sentinel, channel, message).unwrap();
            assert_eq!((event.kind, event.master.as_deref()), (kind, master), "{channel}");
        }
        assert_eq!(Event::read(&sentinel, "__sentinel__:hello", "x"), None);
        assert!(CHANNELS.iter().all(|channel| Event::read(&sentinel, channel, "").is_some()));
    }
}
