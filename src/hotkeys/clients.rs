//! How many different clients there were, by linear counting (Whang, Vander-Zanden, Taylor 1990): one bit per client,
//! at a place that its hash decides. Close to exact while the bits are many more than the clients.

/// Different clients in `WORDS` × 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Default for Clients<WORDS> {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl<const WORDS: usize> Clients<WORDS> {
    const BITS: u64 = WORDS as u64 * 64;

    /// A client's hash, for [`Self::add`].
    #[must_use]
    pub fn hash(host: &[u8]) -> u64 {
        let (words, rest) = host.as_chunks::<8>();
        // Hosts are of any length: no branch for each byte, where there are eight to take at a time.
        let last = match host.last_chunk() {
            Some(last) => u64::from_be_bytes(*last) & ((1 << (8 * rest.len())) - 1),
            None => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        let words = words.iter().map(|word| u64::from_le_bytes(*word)).chain([last]);
        let mix = |hash: u64, word: u64| (hash.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = words.fold(host.len() as u64, mix);
        (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    /// Notes a client.
    pub fn add(&mut self, hash: u64) {
        let bit = ((u128::from(hash) * u128::from(Self::BITS)) >> 64) as usize;
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    /// Joins the clients of another part of the stream.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.0.iter_mut().zip(&other.0) {
            *ours |= theirs;
        }
    }

    /// About how many there were. With every bit set there were more than can be told; this is then the least.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        let free: u32 = self.0.iter().map(|word| word.count_zeros()).sum();
        let bits = Self::BITS as f64;
        -bits * (f64::from(free).max(1.0) / bits).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_clients_are_told_apart_and_many_are_estimated() {
        for (clients, within) in [(0, 0), (1, 0), (3, 0), (10, 1), (50, 8), (200, 30)] {
            let mut seen = Clients::<4>::default();
            for client in 0..clients {
                (0..3).for_each(|_| {
                    seen.add(Clients::<4>::hash(format!("10.1.{}.{}", client / 250, client % 250).as_bytes()))
                });
            }
            let estimate = seen.estimate().round() as i64;
            assert!((estimate - clients).abs() <= within, "{clients} clients taken for {estimate}");
        }
        let mut all = Clients::<4>::default();
        (0..100_000_u32).for_each(|client| all.add(Clients::<4>::hash(&client.to_le_bytes())));
        assert!(all.estimate() > 1000.0);
    }
}
