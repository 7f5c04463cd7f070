//! Why a poll failed, in words that say what to do. Never holds a password.

use std::io;

use crate::model::{FailureReason, NodeName};

/// Longest piece of a server's own text that is shown.
const SERVER_TEXT_CHARS_MAX: usize = 200;

/// One failed poll.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{node}: {detail}")]
pub struct PollError {
    /// The node that was asked.
    pub node: NodeName,
    /// The cause, from the closed set that metrics use.
    pub reason: FailureReason,
    /// What happened and what to look at.
    pub detail: String,
}

/// A cause on its way to becoming a [`PollError`]: the layer that sees it does not know the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: FailureReason,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(reason: FailureReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(super) fn at(self, node: &NodeName) -> PollError {
        PollError { node: node.clone(), reason: self.reason, detail: self.detail }
    }

    /// Reads a fault of the established connection.
    pub(super) fn from_io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        // TLS 1.3 servers refuse a client certificate only after the handshake has returned.
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            return Self::new(
                FailureReason::Tls,
                format!("TLS failed: {error}; check ca_file, cert_file and key_file"),
            );
        }
        match error.kind() {
            Kind::ConnectionRefused => {
                Self::new(FailureReason::Refused, "connection refused; is a server running and listening there?")
            }
            Kind::TimedOut => Self::new(FailureReason::Timeout, "the network gave up waiting for the server"),
            Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Self::new(
                FailureReason::Io,
                "the connection was cut before the answer; a TLS port (rediss://), a proxy, or a server going down?",
            ),
            Kind::FileTooLarge => Self::new(FailureReason::TooLarge, "the answer is too large to be INFO"),
            _ => Self::new(FailureReason::Io, format!("the connection failed: {error}")),
        }
    }

    /// Reads an error reply to a command, or one that came before anything was asked.
    /// `code` is its first word, `text` the rest.
    pub(super) fn from_reply(command: &[&str], code: &str, text: &str, password: Option<&str>) -> Self {
        let said = presentable(&format!("{code} {text}"), password);
        let with = |reason, advice: &str| Self::new(reason, format!("{advice} (the server said: {said})"));
        match code {
            "WRONGPASS" => with(FailureReason::Auth, "username or password refused"),
            "NOAUTH" => with(FailureReason::Auth, "the server wants a password; none is configured for it"),
            "DENIED" => with(FailureReason::Auth, "protected mode; the server wants a password or a bind address"),
            "NOPERM" => with(
                FailureReason::NoPerm,
                &format!("the user may not run {}; grant it: ACL SETUSER <user> {}", name(command), grant(command)),
            ),
            "LOADING" => with(FailureReason::Loading, "the server is loading its data set"),
            "BUSY" => with(FailureReason::Busy, "a script blocks the server"),
            "ERR" if text.contains("invalid password") => with(FailureReason::Auth, "password refused"),
            "ERR" if text.contains("max number of clients") => {
                with(FailureReason::MaxClients, "the server has no room for another client; raise its maxclients")
            }
            _ if command == ["INFO"] => {
                with(FailureReason::Protocol, "INFO was answered by an error; is this a Redis or Valkey server?")
            }
            _ => with(FailureReason::Protocol, &format!("{} was answered by an error", name(command))),
        }
    }

    /// Reads an error reply to `AUTH`. The server's text is never shown: servers before 7.0 repeat
    /// the arguments of a command they do not know, and those are the password.
    pub(super) fn from_auth_reply(code: &str, text: &str) -> Self {
        let known = |code, text| Self::from_reply(&["AUTH"], code, text, None);
        match known(code, "").reason {
            FailureReason::Loading | FailureReason::Busy => known(code, ""),
            _ if text.contains("max number of clients") => known("ERR", "max number of clients reached"),
            _ if text.contains("without any password") || text.contains("no password is set") => {
                Self::new(FailureReason::Auth, "a password is configured here, but the server has none for this user")
            }
            _ if text.contains("wrong number of arguments") => {
                Self::new(FailureReason::Auth, "the server knows no users (before 6.0); leave out the username")
            }
            _ if text.contains("unknown command") => {
                Self::new(FailureReason::Auth, "the server knows no AUTH; was the command renamed?")
            }
            _ => Self::new(FailureReason::Auth, "username or password refused"),
        }
    }
}

/// Commands whose second word is a command of its own, to servers and to their ACLs.
const CONTAINERS: [&str; 3] = ["CLUSTER", "CONFIG", "SENTINEL"];

/// The words of a command that say which it is, without its arguments.
pub(super) fn name(command: &[&str]) -> String {
    let words = match command {
        [first, _, ..] if CONTAINERS.contains(first) => &command[..2],
        _ => &command[..command.len().min(1)],
    };
    words.join(" ")
}

/// The rule that permits a command; `CLIENT SETNAME` goes with what everyone is polled by.
fn grant(command: &[&str]) -> String {
    match command {
        ["INFO", ..] => "+info +client|setname".to_owned(),
        _ => format!("+{}", name(command).to_lowercase().replace(' ', "|")),
    }
}

/// Text from outside, fit for a log line: no control characters, bounded, the password masked.
pub(super) fn presentable(text: &str, password: Option<&str>) -> String {
    let masked = match password {
        Some(password) if !password.is_empty() => text.replace(password, "<password>"),
        _ => text.to_owned(),
    };
    let clean: String = masked.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    clean.trim().chars().take(SERVER_TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_error_reply_has_its_reason() {
        for (reply, reason) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", FailureReason::Auth),
            ("NOAUTH Authentication required.", FailureReason::Auth),
            ("ERR invalid password", FailureReason::Auth),
            ("DENIED Redis is running in protected mode because …", FailureReason::Auth),
            ("NOPERM User x has no permissions to run the 'info' command", FailureReason::NoPerm),
            ("LOADING Redis is loading the dataset in memory", FailureReason::Loading),
            ("BUSY Redis is busy running a script.", FailureReason::Busy),
            ("ERR max number of clients reached", FailureReason::MaxClients),
            ("ERR max number of clients + cluster connections reached", FailureReason::MaxClients),
            ("ERR unknown command 'INFO'", FailureReason::Protocol),
        ] {
            let (code, text) = reply.split_once(' ').unwrap();
            assert_eq!(Fault::from_reply(&["INFO"], code, text, None).reason, reason, "{reply}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_grant() {
        for (command, grant) in [
            (&["INFO"][..], "run INFO; grant it: ACL SETUSER <user> +info +client|setname ("),
            (&["CLUSTER", "SHARDS"], "run CLUSTER SHARDS; grant it: ACL SETUSER <user> +cluster|shards ("),
            (
                &["SENTINEL", "REPLICAS", "m"],
                "run SENTINEL REPLICAS; grant it: ACL SETUSER <user> +sentinel|replicas (",
            ),
            (&["QUIT"], "run QUIT; grant it: ACL SETUSER <user> +quit ("),
        ] {
            let fault = Fault::from_reply(command, "NOPERM", "this user has no permissions", None);
            assert!(fault.reason == FailureReason::NoPerm && fault.detail.contains(grant), "{}", fault.detail);
        }
    }

    #[test]
    fn every_refusal_of_auth_is_auth_and_repeats_nothing() {
        for (code, text) in [
            ("WRONGPASS", "invalid username-password pair"),
            ("ERR", "invalid password"),
            ("ERR", "AUTH <password> called without any password configured for the default user."),
            ("ERR", "Client sent AUTH, but no password is set"),
            ("ERR", "wrong number of arguments for 'auth' command"),
            ("ERR", "unknown command `AUTH`, with args beginning with: `hunter2`, "),
            ("hunter2", "is what you sent"),
        ] {
            let fault = Fault::from_auth_reply(code, text);
            assert_eq!(fault.reason, FailureReason::Auth, "{text}");
            assert!(!fault.detail.contains("hunter2"), "{}", fault.detail);
        }
        assert_eq!(Fault::from_auth_reply("LOADING", "…").reason, FailureReason::Loading);
    }

    #[test]
    fn faults_of_the_connection_have_their_reasons() {
        use io::ErrorKind as Kind;
        for (kind, reason) in [
            (Kind::ConnectionRefused, FailureReason::Refused),
            (Kind::TimedOut, FailureReason::Timeout),
            (Kind::UnexpectedEof, FailureReason::Io),
            (Kind::FileTooLarge, FailureReason::TooLarge),
            (Kind::ConnectionReset, FailureReason::Io),
            (Kind::HostUnreachable, FailureReason::Io),
        ] {
            assert_eq!(Fault::from_io(&kind.into()).reason, reason, "{kind}");
        }
        let tls = io::Error::other(rustls::Error::DecryptError);
        assert_eq!(Fault::from_io(&tls).reason, FailureReason::Tls);
    }

    #[test]
    fn foreign_text_is_bounded_clean_and_masked() {
        let text = presentable(&format!("a\r\nhunter2\u{1b}[31m{}", "x".repeat(500)), Some("hunter2"));
        assert_eq!(text.chars().count(), SERVER_TEXT_CHARS_MAX);
        assert!(text.starts_with("a  <password> [31mxxx"), "{text}");
    }
}
