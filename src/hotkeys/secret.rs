//! The secret under which keys are hashed: whoever may choose keys cannot choose some that are taken for each other.

use std::sync::Arc;

use rand::RngExt;
use xxhash_rust::xxh3::xxh3_64_with_secret;

/// As many bytes as XXH3 uses.
const BYTES: usize = 192;

/// Random bytes of this process. Clones hash alike.
#[derive(Clone)]
pub(super) struct Secret(Arc<[u8; BYTES]>);

impl Secret {
    /// A new one.
    pub(super) fn new() -> Self {
        let mut bytes = [0; BYTES];
        rand::rng().fill(&mut bytes);
        Self(bytes.into())
    }

    /// The hash of a key.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_secret(key, &self.0[..])
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_differ_by_key_and_by_secret() {
        let (one, other) = (Secret::new(), Secret::new());
        for key in ["", "k", "user:1017:cart", &"long".repeat(100)].map(str::as_bytes) {
            assert_eq!(one.hash(key), one.clone().hash(key));
            assert_ne!(one.hash(key), other.hash(key));
            assert_ne!(one.hash(key), one.hash(&[key, b"x"].concat()));
        }
    }
}
