//! How a simulated server behaves towards its clients.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// One way to answer, or not to. Switchable at any time; takes effect with the next request.
#[derive(Debug, Clone, Default)]
pub enum Mode {
    /// As a server does.
    #[default]
    Normal,
    /// Accepts connections and answers nothing, as after SIGSTOP; what was asked meanwhile is
    /// answered when the mode changes.
    Hang,
    /// Answers after this delay.
    Slow(Duration),
    /// Answers sixteen bytes at a time with this pause between.
    Drip(Duration),
    /// Resets the connection in the middle of the reply.
    Reset,
    /// Answers with bytes that are not RESP.
    Garbage,
    /// Announces and sends a reply of this many bytes to `INFO`.
    Huge(u64),
    /// Refuses everything, `INFO` too, while the data set is being loaded.
    Loading,
    /// As real servers do it: `INFO` answers and says `loading:1`, everything else is refused.
    LoadingInfo,
    /// Wants this password first.
    NoAuth(SecretString),
    /// Wants a password and takes none.
    WrongPass,
    /// Permits its user no `INFO`.
    NoPerm,
    /// Runs a script without end.
    Busy,
    /// Has no room for another client; connections that stand stay.
    MaxClients,
    /// Does not listen, and cuts what was connected, as a dead process does. A plain node, which shares
    /// its listener, resets new connections instead.
    Refuse,
}

impl Mode {
    /// The error with which this mode answers a command (upper case) that is not `AUTH` or `QUIT`.
    pub(super) fn refusal(&self, command: &str, authenticated: bool) -> Option<&'static str> {
        match self {
            Self::NoAuth(_) if authenticated => None,
            Self::NoAuth(_) | Self::WrongPass => Some("NOAUTH Authentication required."),
            Self::Loading => Some("LOADING Redis is loading the dataset in memory"),
            Self::LoadingInfo if command != "INFO" => Some("LOADING Redis is loading the dataset in memory"),
            Self::NoPerm if command == "INFO" => Some("NOPERM this user has no permissions to run the 'info' command"),
            Self::Busy => {
                Some("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.")
            }
            _ => None,
        }
    }

    /// The reply to `AUTH` with these arguments, and whether the client is now known.
    pub(super) fn authenticate(&self, arguments: &[String]) -> (&'static str, bool) {
        const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
        let (user, password) = match arguments {
            [password] => (None, password),
            [user, password] => (Some(user.as_str()), password),
            _ => return ("-ERR wrong number of arguments for 'auth' command\r\n", false),
        };
        match self {
            Self::WrongPass => (WRONG, false),
            Self::NoAuth(expected) if password == expected.expose_secret() => ("+OK\r\n", true),
            Self::NoAuth(_) => (WRONG, false),
            // Without a password the user `default` takes any; the short form is an error.
            _ if user.is_some() => ("+OK\r\n", true),
            _ => ("-ERR AUTH <password> called without any password configured for the default user.\r\n", false),
        }
    }
}
