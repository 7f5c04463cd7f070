//! Room for connections: nodes must not take the descriptors that scrapers need.

use std::sync::LazyLock;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Descriptors that are never a server's: those of our own clients, which are at most 512, and files.
const RESERVE: u64 = 640;

/// One permit for each descriptor that a connection to a server may take. Of the whole process, as descriptors are;
/// the limit is that of the first connection, when it has been raised as far as it goes.
static ROOM: LazyLock<Semaphore> = LazyLock::new(|| {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = usize::try_from(for_servers(limit)).unwrap_or(usize::MAX);
    Semaphore::new(room.min(Semaphore::MAX_PERMITS))
});

/// A connection's descriptor, given back when dropped.
pub(super) type Place = SemaphorePermit<'static>;

/// A place for one more connection, if there is one.
pub(super) fn place() -> Option<Place> {
    ROOM.try_acquire().ok()
}

/// How many descriptors of `limit` connections to servers may take: at least half of them.
fn for_servers(limit: u64) -> u64 {
    limit - RESERVE.min(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_left_to_others() {
        assert_eq!([100, 1024, 20_000].map(for_servers), [50, 512, 19_360]);
    }
}
