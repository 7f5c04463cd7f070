//! Passwords: held so that neither `Debug` nor `Display` can show them.

use secrecy::{ExposeSecret, SecretString};

/// Who we are to a server.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// ACL user; `None` is the user `default`.
    pub username: Option<String>,
    /// Password; `Debug` prints it as redacted.
    pub password: Option<SecretString>,
}

impl Credentials {
    /// The password itself: for the wire only.
    #[must_use]
    pub fn expose_password(&self) -> Option<&str> {
        self.password.as_ref().map(ExposeSecret::expose_secret)
    }
}

impl PartialEq for Credentials {
    /// Decides whether a reload must reconnect.
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username && self.expose_password() == other.expose_password()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_password() {
        let credentials =
            Credentials { username: Some("exporter".into()), password: Some("s3cret!".to_owned().into()) };
        assert!(!format!("{credentials:?}").contains("s3cret"));
    }
}
