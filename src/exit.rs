//! Exit codes, the same for all commands.

use std::process::ExitCode;

use crate::model::Severity;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: fine.
    Fine,
    /// 1: the command's own failure; for `check`, a node that is not usable.
    Failed,
    /// 0–3: what `report` found.
    Severity(Severity),
    /// 64: the command line makes no sense (`EX_USAGE`).
    Usage,
    /// 69: nothing could be reached (`EX_UNAVAILABLE`).
    Unreachable,
    /// 78: the configuration is faulty (`EX_CONFIG`).
    Config,
}

impl ExitStatus {
    /// The code as the shell sees it.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Severity(severity) => severity.ordinal(),
            Self::Usage => 64,
            Self::Unreachable => 69,
            Self::Config => 78,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
