//! URLs of nodes. Errors say what is wrong, never what was written: any part of a malformed URL may
//! be part of a password.

use secrecy::SecretString;
use thiserror::Error;
use url::{Host, Url};

use crate::model::NodeName;

/// Port of a node's URL without one.
pub(super) const PORT: u16 = 6379;

/// What a URL looks like, for errors.
pub(super) const FORM: &str =
    "redis://HOST:PORT or rediss://USER:PASSWORD@HOST:PORT with the password's / ? # @ % as %2F %3F %23 %40 %25";

/// What a URL says. No `Debug`: a password is in it.
pub(super) struct Address {
    /// Without brackets, lower case.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
}

impl Address {
    pub(super) fn node(&self) -> NodeName {
        NodeName::at(&self.host, self.port)
    }
}

/// Why a URL is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Fault {
    #[error("is no URL of a node")]
    Syntax,
    #[error("is of another scheme")]
    Scheme,
    #[error("has no valid host")]
    Host,
    #[error("has port 0")]
    Port,
    #[error("has a path that is no database number")]
    Path,
    #[error("has a query or fragment")]
    Query,
    #[error("has a % that encodes nothing, or bytes that are not UTF-8")]
    Encoding,
}

/// Reads `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, `rediss://` for TLS, `valkey` and `valkeys`
/// alike; `port` is that of a URL without one. The database number of a URL copied from an application is accepted and ignored: INFO
/// speaks for the whole server.
pub(super) fn parse(text: &str, port: u16) -> Result<Address, Fault> {
    let url = Url::parse(text).map_err(|_| Fault::Syntax)?;
    let tls = match url.scheme() {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return Err(Fault::Scheme),
    };
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_ascii_lowercase(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(Fault::Host),
    };
    // Underscores stand in no host name, but in those of Docker.
    if host.is_empty() || !host.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-:".contains(letter)) {
        return Err(Fault::Host);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Fault::Query);
    }
    if !url.path().trim_start_matches('/').chars().all(|digit| digit.is_ascii_digit()) {
        return Err(Fault::Path);
    }
    let port = url.port().unwrap_or(port);
    if port == 0 {
        return Err(Fault::Port);
    }
    let decode = |text: &str| percent_decode(text).ok_or(Fault::Encoding);
    Ok(Address {
        host,
        port,
        tls,
        username: Some(url.username()).filter(|name| !name.is_empty()).map(decode).transpose()?,
        password: url.password().map(decode).transpose()?.filter(|text| !text.is_empty()).map(SecretString::from),
    })
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            _ => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(text: &str) -> (String, bool, Option<String>, Option<String>) {
        let address = parse(text, PORT).unwrap();
        let password = address.password.as_ref().map(|password| password.expose_secret().to_owned());
        (address.node().to_string(), address.tls, address.username, password)
    }

    #[test]
    fn urls_are_read() {
        let plain = |node: &str, tls| (node.to_owned(), tls, None, None);
        assert_eq!(read("redis://10.0.0.1"), plain("10.0.0.1:6379", false));
        assert_eq!(read("rediss://Redis_1.example:6380/"), plain("redis_1.example:6380", true));
        assert_eq!(read("valkey://h:1/15"), plain("h:1", false));
        assert_eq!(read("valkeys://[2001:DB8::1]:7000"), plain("[2001:db8::1]:7000", true));
    }

    #[test]
    fn userinfo_is_decoded() {
        let (_, _, username, password) = read("redis://ex%70orter:p%40ss%2Fw%C3%B6rd+007@h");
        assert_eq!(username.as_deref(), Some("exporter"));
        assert_eq!(password.as_deref(), Some("p@ss/wörd+007"));
        assert_eq!(read("redis://:007@h").3.as_deref(), Some("007"));
        assert_eq!(read("redis://:@h").3, None);
    }

    #[test]
    fn faults_are_told_apart() {
        let cases = [
            ("10.0.0.1:6379", Fault::Syntax),
            ("", Fault::Syntax),
            ("redis://h:port", Fault::Syntax),
            ("redis://h:70000", Fault::Syntax),
            ("localhost:6379", Fault::Scheme),
            ("http://h", Fault::Scheme),
            ("unix:///run/redis.sock", Fault::Scheme),
            ("redis:///0", Fault::Host),
            ("redis:h", Fault::Host),
            ("redis://h%20x", Fault::Host),
            ("redis://h:0", Fault::Port),
            ("redis://h/cache", Fault::Path),
            ("redis://h?db=1", Fault::Query),
            ("redis://user:12#3@h", Fault::Query),
            ("redis://:100%@h", Fault::Encoding),
            ("redis://:%ff@h", Fault::Encoding),
        ];
        for (text, fault) in cases {
            assert_eq!(parse(text, PORT).err(), Some(fault), "{text}");
        }
    }
}
