//! Files that the configuration names: read within a limit, secrets without a trace.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The text of a file of at most `bytes_max` bytes.
///
/// # Errors
/// What the operating system says; a file that is larger, or not UTF-8. Never any of its content.
pub(super) fn read_to_string(path: &Path, bytes_max: u64) -> Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("larger than {bytes_max} bytes")));
    }
    Ok(text)
}

/// Whether a file can be opened and has bytes to give.
///
/// # Errors
/// What the operating system says.
pub(super) fn probe(path: &Path) -> Result<()> {
    File::open(path)?.read(&mut [0]).map(drop)
}
