//! Where the lines of a text end and where their quotes and backslashes stand.
//!
//! Lines of a capture and their fields are short: a search for the end of each costs more than to look at every byte.
//! So all are found in one pass, 64 bytes at a time, without a branch that depends on the text.

/// Bytes looked at together: as many as a mask has bits.
const BLOCK: usize = 64;

/// The marks of one text after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    quotes: Vec<u32>,
    ends: Vec<End>,
}

/// The end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    at: u32,
    /// Quotes and backslashes in the text before it.
    quotes: u32,
}

impl Marks {
    /// Every line of `text`, without its end, and the places of its quotes and backslashes, counted from the text's
    /// beginning. A text has at most 2^32 bytes.
    pub(super) fn lines<'a>(&'a mut self, text: &'a [u8]) -> impl Iterator<Item = MarkedLine<'a>> {
        self.find(text);
        let (all, mut begin) = (&self.quotes[..], End { at: 0, quotes: 0 });
        self.ends.iter().map(move |end| {
            let (from, to) = (begin.at as usize, end.at as usize);
            let quotes = &all[begin.quotes as usize..end.quotes as usize];
            begin = End { at: end.at + 1, quotes: end.quotes };
            MarkedLine { text: &text[from..to], begin: from, quotes }
        })
    }

    fn find(&mut self, text: &[u8]) {
        self.quotes.clear();
        self.ends.clear();
        let (blocks, rest) = text.as_chunks();
        blocks.iter().enumerate().for_each(|(index, block)| self.block(index * BLOCK, block));
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        self.block(blocks.len() * BLOCK, &last);
        if text.last().is_some_and(|last| *last != b'\n') {
            self.ends.push(End { at: text.len() as u32, quotes: self.quotes.len() as u32 });
        }
    }

    fn block(&mut self, begin: usize, block: &[u8; BLOCK]) {
        let quotes = mask(block, |byte| (byte == b'"') | (byte == b'\\'));
        let ends = mask(block, |byte| byte == b'\n');
        let (at, before) = (begin as u32, self.quotes.len() as u32);
        push_each::<2, _>(ends, &mut self.ends, |bit| {
            let below = quotes & 1_u64.wrapping_shl(bit).wrapping_sub(1);
            End { at: at + bit, quotes: before + below.count_ones() }
        });
        push_each::<8, _>(quotes, &mut self.quotes, |bit| at + bit);
    }
}

/// A line of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MarkedLine<'a> {
    /// Without its end.
    pub(super) text: &'a [u8],
    /// Where it stands.
    begin: usize,
    quotes: &'a [u32],
}

impl<'a> MarkedLine<'a> {
    /// Where its first four quotes or backslashes stand.
    pub(super) fn first_quotes(&self) -> Option<[usize; 4]> {
        Some(self.quotes.first_chunk()?.map(|at| at as usize - self.begin))
    }
}

/// A bit for every byte of the block that `is` one.
fn mask(block: &[u8; BLOCK], is: impl Fn(u8) -> bool) -> u64 {
    let mut found = [0; BLOCK];
    for (found, byte) in found.iter_mut().zip(block) {
        *found = if is(*byte) { u8::MAX } else { 0 };
    }
    let (words, _) = found.as_chunks::<8>();
    words.iter().enumerate().fold(0, |mask, (index, word)| {
        // One bit of each byte; the product's highest byte is their sum.
        let bits = u64::from_le_bytes(*word) & 0x8040_2010_0804_0201;
        mask | (bits.wrapping_mul(0x0101_0101_0101_0101) >> 56) << (8 * index)
    })
}

/// Pushes what there is for each bit. As many as there usually are are pushed at a time, and what was too much is taken
/// back: how many there are is hard to foresee.
fn push_each<const USUAL: usize, T>(mut mask: u64, into: &mut Vec<T>, what: impl Fn(u32) -> T) {
    let length = into.len() + mask.count_ones() as usize;
    while mask != 0 {
        into.extend(std::array::from_fn::<_, USUAL, _>(|_| {
            let bit = mask.trailing_zeros();
            mask &= mask.wrapping_sub(1);
            what(bit)
        }));
    }
    into.truncate(length);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_and_quotes_are_found(texts in vec(vec(prop::sample::select(b"ab\"\\\n\n".to_vec()), 0..300), 1..3)) {
            let mut marks = Marks::default();
            for text in texts {
                let found: Vec<MarkedLine<'_>> = marks.lines(&text).collect();
                let expected: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
                prop_assert_eq!(found.len(), expected.len());
                let mut begin = 0;
                for (line, expected) in found.iter().zip(expected) {
                    prop_assert_eq!(line.text, expected.strip_suffix(b"\n").unwrap_or(expected));
                    let quotes = line.text.iter().enumerate().filter(|(_, byte)| matches!(byte, b'"' | b'\\'));
                    let quotes: Vec<u32> = quotes.map(|(at, _)| (begin + at) as u32).collect();
                    prop_assert_eq!(line.quotes, &quotes[..]);
                    begin += expected.len();
                }
            }
        }
    }
}
