//! What is wrong with a configuration: every fault, not the first one.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

/// Who wrote a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file, as named on the command line.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
    /// Nobody: the value is missing, or a default.
    Nobody,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display().to_string().escape_debug()),
            Self::Variable(name) | Self::Flag(name) => write!(f, "{}", name.escape_debug()),
            Self::Nobody => f.write_str("configuration"),
        }
    }
}

/// One fault: who wrote it, where, what is wrong and what was expected. Never contains a value that
/// could be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    origin: Origin,
    key: String,
    problem: String,
}

impl fmt::Display for ConfigError {
    /// `FILE: key.path: what is wrong, what was expected`, on one line whatever the file contains.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key.escape_debug())?;
        }
        // Messages of parsers may span lines.
        f.write_str(&self.problem.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Every fault found in one reading, at least one. `Display` gives one line to each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The faults, in the order of the documented keys.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects faults while a configuration is read.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<ConfigError>>);

impl Problems {
    /// Notes a fault; reading goes on.
    pub(super) fn note(&self, origin: &Origin, key: &str, problem: impl Into<String>) {
        let error = ConfigError { origin: origin.clone(), key: key.to_owned(), problem: problem.into() };
        self.0.borrow_mut().push(error);
    }

    /// The value, if nothing was wrong.
    pub(super) fn unless_any<T>(self, value: T) -> Result<T, ConfigErrors> {
        let errors = self.0.into_inner();
        if errors.is_empty() { Ok(value) } else { Err(ConfigErrors(errors)) }
    }
}
