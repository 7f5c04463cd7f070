//! Patterns of keys, learned: `user:1017:cart` is one of `user:*:cart`.
//!
//! A key is taken apart (`token`): what is plainly an identifier becomes `*` at once. The rest hangs in a tree of
//! positions, and a position that turns out to hold many different words becomes `*`, too (`user:alice`,
//! `user:bob`, …). Learning only ever generalises, whatever the order of keys; how much is kept is bounded.

mod token;

pub(super) use token::shape;
use token::{Part, Parts};

/// Different words at one position; with more of them it is `*`.
const WORDS_MAX: usize = 16;

/// The same for the first position: applications have more kinds of keys than kinds of anything else.
const FIRST_WORDS_MAX: usize = 64;

/// Patterns told apart. Beyond them the most varied part of the tree becomes one.
const PATTERNS_MAX: usize = 200;

/// Places of the tree, including those given up. Far more than [`PATTERNS_MAX`] patterns need; past it nothing new is
/// learned.
pub(super) const PLACES_MAX: usize = 1 << 15;

const ROOT: u32 = 0;

/// A pattern, as long as the [`Patterns`] it comes from lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PatternId(u32);

impl PatternId {
    /// The pattern at a place of such a list.
    pub(super) fn at(index: usize) -> Self {
        Self(index as u32)
    }

    /// As a place in a list of numbers.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The patterns of the keys seen so far.
#[derive(Debug, Clone)]
pub struct Patterns {
    places: Vec<Place>,
    /// Keys end at this many places.
    ends: usize,
}

/// A position of a key after what leads to it.
#[derive(Debug, Clone, Default)]
struct Place {
    /// Separators before the word, at most three; one where there are many kinds of them.
    separators: Vec<u8>,
    /// The word; `None` for `*`.
    word: Option<Vec<u8>>,
    parent: u32,
    children: Vec<u32>,
    /// Keys end here.
    end: bool,
    /// The words behind it vary: each of them is `*`.
    varied: bool,
    /// Everything behind it is one pattern.
    sealed: bool,
    /// It has become part of this one.
    merged_into: Option<u32>,
}

impl Place {
    fn is(&self, part: Part<'_>) -> bool {
        self.separators == part.separators && self.word.as_deref() == part.word
    }

    /// `2024-06-*` and the like: a `*` joined to a `*` by a hyphen is one identifier.
    fn swallows(&self, part: Part<'_>) -> bool {
        self.word.is_none() && part.word.is_none() && matches!(part.separators, b"-" | b"_")
    }
}

impl Default for Patterns {
    fn default() -> Self {
        Self { places: vec![Place { word: Some(Vec::new()), ..Place::default() }], ends: 0 }
    }
}

impl Patterns {
    /// The pattern of a key, learned if it is new. May change what earlier ones are called; see [`Self::resolve`].
    pub fn learn(&mut self, key: &[u8]) -> PatternId {
        let parts = Parts::of(key);
        let mut at = ROOT;
        for part in parts.iter() {
            if self.place(at).sealed {
                break;
            }
            match self.descend(at, part) {
                Some(next) => at = next,
                None => self.seal(at),
            }
        }
        if parts.is_cut() {
            self.seal(at);
        }
        self.end_at(at);
        while self.ends > PATTERNS_MAX && self.seal_most_varied() {}
        self.resolve(PatternId(at))
    }

    /// What has become of a pattern since: patterns that have become one resolve to the same.
    #[must_use]
    pub fn resolve(&self, PatternId(mut at): PatternId) -> PatternId {
        while let Some(into) = self.place(at).merged_into {
            at = into;
        }
        PatternId(at)
    }

    /// A pattern's name: words and separators as in its keys, `*` for whatever varies. Printable ASCII.
    #[must_use]
    pub fn name(&self, pattern: PatternId) -> String {
        let PatternId(mut at) = self.resolve(pattern);
        let mut places = Vec::new();
        let sealed = self.place(at).sealed;
        while at != ROOT {
            places.push(self.place(at));
            at = self.place(at).parent;
        }
        let mut name = String::new();
        for place in places.into_iter().rev() {
            name.push_str(&String::from_utf8_lossy(&place.separators));
            name.push_str(&place.word.as_deref().map_or("*".into(), String::from_utf8_lossy));
        }
        if sealed && !name.ends_with('*') {
            name.push('*');
        }
        name
    }

    /// Patterns told apart so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends
    }

    /// Learns all that another part of the stream taught; returns what its patterns are here, by their
    /// [`PatternId::index`].
    pub fn absorb(&mut self, other: &Self) -> Vec<PatternId> {
        let mut here = vec![PatternId(ROOT); other.places.len()];
        // A child may be older than its parent: merging moves children. Hence by depth, not by age.
        let mut open = vec![(ROOT, ROOT)];
        while let Some((theirs, ours)) = open.pop() {
            let place = other.place(theirs);
            let PatternId(ours) = self.resolve(PatternId(ours));
            here[theirs as usize] = PatternId(ours);
            if place.sealed {
                self.seal(ours);
            }
            if place.varied {
                self.generalise(ours);
            }
            if place.end {
                self.end_at(ours);
            }
            for child in &place.children {
                let copy = other.place(*child);
                let part = Part { separators: &copy.separators, word: copy.word.as_deref() };
                let PatternId(ours) = self.resolve(PatternId(ours));
                let below = if self.place(ours).sealed { None } else { self.descend(ours, part) };
                open.push((*child, below.unwrap_or(ours)));
            }
        }
        while self.ends > PATTERNS_MAX && self.seal_most_varied() {}
        (0..other.places.len())
            .map(|place| {
                let PatternId(theirs) = other.resolve(PatternId(place as u32));
                self.resolve(here[theirs as usize])
            })
            .collect()
    }

    fn place(&self, at: u32) -> &Place {
        &self.places[at as usize]
    }

    fn place_mut(&mut self, at: u32) -> &mut Place {
        &mut self.places[at as usize]
    }

    fn end_at(&mut self, at: u32) {
        let place = self.place_mut(at);
        if !place.end {
            place.end = true;
            self.ends += 1;
        }
    }

    /// The place of the next part behind `at`; `None` if there is no room for it.
    fn descend(&mut self, at: u32, mut part: Part<'_>) -> Option<u32> {
        let place = self.place(at);
        if place.varied {
            part.word = None;
        }
        if place.swallows(part) {
            return Some(at);
        }
        if let Some(child) = place.children.iter().find(|child| self.place(**child).is(part)) {
            return Some(*child);
        }
        if part.word.is_none() && part.separators.len() > 1 && self.children(at, false) >= WORDS_MAX {
            part.separators = &part.separators[..1];
            return self.descend(at, part);
        }
        if self.places.len() >= PLACES_MAX {
            return None;
        }
        let words_max = if at == ROOT { FIRST_WORDS_MAX } else { WORDS_MAX };
        if part.word.is_some() && self.children(at, true) >= words_max {
            self.generalise(at);
            return self.descend(at, part);
        }
        let child = self.places.len() as u32;
        self.places.push(Place {
            separators: part.separators.to_vec(),
            word: part.word.map(<[u8]>::to_vec),
            parent: at,
            ..Place::default()
        });
        self.place_mut(at).children.push(child);
        Some(child)
    }

    /// Children with a word, or those that are `*`.
    fn children(&self, at: u32, with_word: bool) -> usize {
        let children = self.place(at).children.iter();
        children.filter(|child| self.place(**child).word.is_some() == with_word).count()
    }

    /// The words behind `at` vary: their places become one per separator.
    fn generalise(&mut self, at: u32) {
        if std::mem::replace(&mut self.place_mut(at).varied, true) {
            return;
        }
        for child in std::mem::take(&mut self.place_mut(at).children) {
            self.adopt(at, child);
        }
    }

    /// Hangs `child` behind `at`, or makes it part of a place that is there.
    fn adopt(&mut self, at: u32, child: u32) {
        let PatternId(at) = self.resolve(PatternId(at));
        if self.place(at).sealed {
            return self.merge(child, at);
        }
        if self.place(at).varied && self.place_mut(child).word.take().is_some() {
            // As `*` it swallows what it did not as a word.
            for below in std::mem::take(&mut self.place_mut(child).children) {
                self.adopt(child, below);
            }
        }
        if self.place(child).word.is_none() && self.children(at, false) >= WORDS_MAX {
            self.place_mut(child).separators.truncate(1);
        }
        let moved = self.place(child);
        let part = Part { separators: &moved.separators, word: moved.word.as_deref() };
        if self.place(at).swallows(part) {
            return self.merge(child, at);
        }
        if let Some(same) = self.place(at).children.iter().copied().find(|other| self.place(*other).is(part)) {
            return self.merge(child, same);
        }
        self.place_mut(child).parent = at;
        self.place_mut(at).children.push(child);
        let words_max = if at == ROOT { FIRST_WORDS_MAX } else { WORDS_MAX };
        if self.children(at, true) > words_max {
            self.generalise(at);
        }
    }

    /// Makes `from` part of `into`. `from` hangs nowhere any more.
    fn merge(&mut self, from: u32, into: u32) {
        let old = std::mem::take(self.place_mut(from));
        self.place_mut(from).merged_into = Some(into);
        if old.end {
            self.ends -= 1;
            self.end_at(into);
        }
        if old.varied {
            self.generalise(into);
        }
        if old.sealed {
            self.seal(into);
        }
        for child in old.children {
            self.adopt(into, child);
        }
    }

    /// Everything behind `at` becomes one pattern.
    fn seal(&mut self, at: u32) {
        if std::mem::replace(&mut self.place_mut(at).sealed, true) {
            return;
        }
        self.end_at(at);
        for child in std::mem::take(&mut self.place_mut(at).children) {
            self.merge(child, at);
        }
    }

    /// Seals the place with the most patterns behind it that lie close together. `false` if there is none.
    fn seal_most_varied(&mut self) -> bool {
        let behind = self.ends_behind();
        let largest = |at: u32| self.place(at).children.iter().copied().max_by_key(|child| behind[*child as usize]);
        let Some(mut at) = largest(ROOT) else { return false };
        while let Some(child) = largest(at).filter(|child| behind[*child as usize] * 2 > behind[at as usize]) {
            at = child;
        }
        // A chain of places with a single end is no variety: the place above it.
        while behind[at as usize] < 2 && at != ROOT {
            at = self.place(at).parent;
        }
        self.seal(at);
        true
    }

    /// Ends at and behind every place.
    fn ends_behind(&self) -> Vec<usize> {
        let mut behind = vec![0; self.places.len()];
        let (mut open, mut order) = (vec![ROOT], Vec::new());
        while let Some(at) = open.pop() {
            order.push(at);
            open.extend(&self.place(at).children);
        }
        for at in order.into_iter().rev() {
            let below: usize = self.place(at).children.iter().map(|child| behind[*child as usize]).sum();
            behind[at as usize] = below + usize::from(self.place(at).end);
        }
        behind
    }
}

#[cfg(test)]
mod tests;
