//! A key in parts: separators, and a word or what is plainly an identifier.
//!
//! Identifiers are numbers, hashes, UUIDs, ULIDs, e-mail, IP and MAC addresses, dates and times, random strings, what does
//! not print, and what stands behind a word for people.

/// Parts of a key that are told apart; the rest of a longer key is one identifier.
const PARTS_MAX: usize = 12;

/// A longer word is an identifier.
const WORD_BYTES_MAX: usize = 40;

/// A shorter word without digits is no random string.
const RANDOM_BYTES_MIN: usize = 16;

/// Separators kept between two parts.
const SEPARATORS_MAX: usize = 3;

/// Words that people, or what names them, follow: `user:alice` shows nobody's name, however few users there are.
const PEOPLE: &[&[u8]] = &[
    b"user",
    b"users",
    b"username",
    b"usernames",
    b"account",
    b"accounts",
    b"customer",
    b"customers",
    b"member",
    b"members",
    b"login",
    b"logins",
    b"email",
    b"emails",
    b"mail",
    b"phone",
    b"phones",
    b"player",
    b"person",
    b"people",
    b"patient",
    b"employee",
    b"name",
    b"nick",
    b"ip",
    b"host",
];

/// Separators and a word, as they stand in a key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part<'a> {
    /// At most three.
    pub(super) separators: &'a [u8],
    /// `None`: an identifier.
    pub(super) word: Option<&'a [u8]>,
}

/// The parts of one key.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    parts: [Part<'a>; PARTS_MAX],
    count: usize,
    cut: bool,
}

impl<'a> Parts<'a> {
    pub(super) fn of(key: &'a [u8]) -> Self {
        let mut parts = Self { parts: [Part::default(); PARTS_MAX], count: 0, cut: false };
        let (mut rest, has_mail) = (key, key.contains(&b'@'));
        loop {
            let start = rest.iter().position(|byte| !is_separator(*byte)).unwrap_or(rest.len());
            let (separators, after) = rest.split_at(start);
            if separators.is_empty() && after.is_empty() {
                break;
            }
            let (length, word) = next_word(after, has_mail);
            rest = &after[length..];
            if !parts.push(Part { separators: &separators[..start.min(SEPARATORS_MAX)], word }) {
                break;
            }
        }
        parts.hide_people();
        parts
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Part<'a>> + '_ {
        self.parts[..self.count].iter().copied()
    }

    /// The key has more parts than these.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    fn push(&mut self, part: Part<'a>) -> bool {
        // An identifier of several parts is one: 2024-06-30, a-b in base64.
        if let Some(last) = self.parts[..self.count].last()
            && last.word.is_none()
            && part.word.is_none()
            && matches!(part.separators, b"-" | b"_")
        {
            return true;
        }
        let Some(room) = self.parts.get_mut(self.count) else {
            self.cut = true;
            return false;
        };
        *room = part;
        self.count += 1;
        true
    }

    /// Hides what stands last behind a word for people: `user:bob.smith`, `app.user.bob`.
    fn hide_people(&mut self) {
        let parts = &mut self.parts[..self.count];
        let joined = |part: &Part<'_>| matches!(part.separators, b"-" | b"_" | b".");
        let start = parts.iter().rposition(|part| !joined(part)).unwrap_or(0);
        let behind_people = |at: usize| {
            let before = at.checked_sub(1).and_then(|before| parts[before].word);
            before.is_some_and(is_people)
        };
        let dotted = parts.iter().rposition(|part| part.separators == b".").filter(|at| at + 1 == parts.len());
        let found = [Some(start), dotted].into_iter().flatten().find(|at| behind_people(*at));
        if let Some(at) = found.filter(|at| parts[*at].word != Some(b"")) {
            parts[at].word = None;
            self.count = at + 1;
        }
    }
}

fn is_people(word: &[u8]) -> bool {
    let (Some(first), Some(initials)) = (word.first(), PEOPLE_INITIALS.get(word.len())) else { return false };
    initials & initial(*first) != 0 && PEOPLE.iter().any(|people| word.eq_ignore_ascii_case(people))
}

/// With what letters the words for people of each length begin: few other words need to be compared with them.
static PEOPLE_INITIALS: [u32; 16] = {
    let (mut initials, mut at) = ([0; 16], 0);
    while at < PEOPLE.len() {
        initials[PEOPLE[at].len()] |= initial(PEOPLE[at][0]);
        at += 1;
    }
    initials
};

/// One bit for a letter, small or not.
const fn initial(letter: u8) -> u32 {
    1 << (letter & 31)
}

/// Longer keys have no shape.
const SHAPE_BYTES_MAX: usize = 64;

/// A key with its digits made alike, where they make up whole words: other numbers at their places would give the same
/// parts. `None`: there are none, or they matter.
pub(in crate::hotkeys) fn shape<'a>(key: &[u8], room: &'a mut [u8; SHAPE_BYTES_MAX]) -> Option<&'a [u8]> {
    let shape = room.get_mut(..key.len())?;
    let (mut before, mut any, mut mixed) = (SEPARATOR, 0, false);
    for (shape, byte) in shape.iter_mut().zip(key) {
        let here = kind(*byte) & (SEPARATOR | DIGIT);
        any |= here;
        // A digit beside what is neither digit nor separator.
        mixed |= before ^ here == DIGIT;
        before = here;
        *shape = if here == DIGIT { b'0' } else { *byte };
    }
    (any & DIGIT != 0 && !mixed).then_some(shape)
}

/// What kinds of bytes there are. Bits, to be asked for together.
const SEPARATOR: u8 = 1;
const DIGIT: u8 = 2;
const LOWER: u8 = 4;
const UPPER: u8 = 8;
const HEX: u8 = 16;
/// Cannot be shown, or would be mistaken for a pattern's `*`.
const UNFIT: u8 = 32;

static KINDS: [u8; 256] = kinds();

const fn kinds() -> [u8; 256] {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        kinds[byte] = match character {
            b':' | b'/' | b'|' | b'.' | b',' | b';' | b'@' | b'#' | b'=' | b'&' | b'?' | b'{' | b'}' | b'[' | b']'
            | b'(' | b')' | b'_' | b'-' => SEPARATOR,
            b'0'..=b'9' => DIGIT | HEX,
            b'a'..=b'f' => LOWER | HEX,
            b'A'..=b'F' => UPPER | HEX,
            b'g'..=b'z' => LOWER,
            b'G'..=b'Z' => UPPER,
            b'!'..=b'~' if character != b'*' => 0,
            _ => UNFIT,
        };
        byte += 1;
    }
    kinds
}

fn kind(byte: u8) -> u8 {
    KINDS[byte as usize]
}

fn is_separator(byte: u8) -> bool {
    kind(byte) & SEPARATOR != 0
}

/// Length of what comes next, and the word if it is one. The text starts with no separator, or is empty.
fn next_word(text: &[u8], has_mail: bool) -> (usize, Option<&[u8]>) {
    // What is true of all bytes, and what of any.
    let (mut all, mut any, mut end) = (u8::MAX, 0, 0);
    while let Some(byte) = text.get(end)
        && !is_separator(*byte)
    {
        all &= kind(*byte);
        any |= kind(*byte);
        end += 1;
    }
    let word = &text[..end];
    // Only what can begin one is asked whether it does.
    let next = text.get(end);
    if next == Some(&b'-') && end == 8 && all & HEX != 0 && is_uuid(text) {
        return (36, None);
    }
    if all & DIGIT != 0 && end > 0 && matches!(next, Some(b'-' | b'/' | b'.' | b':')) {
        let length = address_length(text).or_else(|| time_length(text));
        if let Some(length) = length {
            return (length, None);
        }
    }
    if end == 2 && all & HEX != 0 && is_mac(text) {
        return (17, None);
    }
    if has_mail && let Some(length) = mail_length(text) {
        return (length, None);
    }
    // Most words are plain, and most identifiers are numbers: no need to count.
    let is_identifier = match any & (DIGIT | UNFIT) {
        0 if end < RANDOM_BYTES_MIN => false,
        DIGIT if all & DIGIT != 0 => true,
        _ => Counts::of(word).is_identifier(word),
    };
    (end, if is_identifier { None } else { Some(word) })
}

/// Bytes of a word by kind.
#[derive(Debug, Default)]
struct Counts {
    digits: usize,
    hex: usize,
    letters: usize,
    /// From letters to digits, from capitals to small letters and so on.
    changes: usize,
    unfit: bool,
    last: u8,
}

impl Counts {
    fn of(word: &[u8]) -> Self {
        let mut counts = Self::default();
        word.iter().for_each(|byte| counts.add(*byte));
        counts
    }

    fn add(&mut self, byte: u8) {
        let kind = kind(byte);
        self.digits += usize::from(kind & DIGIT != 0);
        self.hex += usize::from(kind & HEX != 0);
        self.letters += usize::from(kind & (LOWER | UPPER) != 0);
        self.unfit |= kind & UNFIT != 0;
        let class = kind & (DIGIT | LOWER | UPPER);
        self.changes += usize::from(self.last != 0 && self.last != class);
        self.last = class;
    }

    fn is_identifier(&self, word: &[u8]) -> bool {
        let length = word.len();
        if length == 0 {
            return false;
        }
        self.unfit
            || length > WORD_BYTES_MAX
            || self.digits * 2 > length && !is_version(word)
            || length >= 8 && self.hex == length && self.digits >= 2
            || length >= 8 && self.digits >= 1 && self.changes * 2 > length
            || length >= RANDOM_BYTES_MIN && self.is_random(word)
    }

    /// Letters and digits take turns, or consonants pile up, as they do not in words or in `CamelCase`.
    fn is_random(&self, word: &[u8]) -> bool {
        let length = word.len();
        let is_ulid = length == 26 && self.digits >= 2 && self.digits + self.letters == 26 && word[0].is_ascii_digit();
        is_ulid || (self.changes * 4 > length && self.digits >= 1) || self.changes * 5 > length * 2 || {
            let consonant = |byte: &u8| kind(*byte) & (LOWER | UPPER) != 0 && !b"aeiouyAEIOUY".contains(byte);
            word.split(|byte| !consonant(byte)).any(|run| run.len() >= 6)
        }
    }
}

/// `v10` and `V2` are words.
fn is_version(word: &[u8]) -> bool {
    matches!(word, [b'v' | b'V', digits @ ..] if (1..=3).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit))
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &[u8]) -> bool {
    let Some(uuid) = text.get(..36) else { return false };
    let fits = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => kind(*byte) & HEX != 0,
    };
    uuid.iter().enumerate().all(fits) && text.get(36).is_none_or(|byte| is_separator(*byte))
}

/// Six pairs of hexadecimal digits.
fn is_mac(text: &[u8]) -> bool {
    let Some(mac) = text.get(..17) else { return false };
    let fits = |(at, byte): (usize, &u8)| match at % 3 {
        2 => matches!(byte, b':' | b'-'),
        _ => kind(*byte) & HEX != 0,
    };
    mac.iter().enumerate().all(fits) && text.get(17).is_none_or(|byte| is_separator(*byte))
}

/// The length of an IPv4 address.
fn address_length(text: &[u8]) -> Option<usize> {
    let mut length = 0;
    for part in 0..4 {
        if part > 0 {
            (text.get(length) == Some(&b'.')).then_some(())?;
            length += 1;
        }
        let digits = text[length..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        (1..=3).contains(&digits).then_some(())?;
        length += digits;
    }
    ends_at(text, length)
}

/// The length of a date (`2024-06-30`, with `/` or `.`, too) with or without a time, or of a time.
fn time_length(text: &[u8]) -> Option<usize> {
    let fits = |at: usize, shape: &[u8]| {
        let there = text.get(at..at + shape.len())?;
        let alike = there.iter().zip(shape).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == shape,
        });
        alike.then_some(at + shape.len())
    };
    let first = |at: usize, shapes: &[&[u8]]| shapes.iter().find_map(|shape| fits(at, shape));
    let time: &[&[u8]] = &[b"00:00:00", b"00:00"];
    let date = first(0, &[b"0000-00-00", b"0000/00/00", b"0000.00.00", b"00-00-0000", b"00.00.0000"]);
    let mut length = match date {
        Some(end) if matches!(text.get(end), Some(b'T' | b' ' | b'_')) => first(end + 1, time).unwrap_or(end),
        Some(end) => end,
        None => first(0, &time[..1])?,
    };
    if matches!(text.get(length), Some(b'.')) {
        length += 1 + text[length + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }
    length += usize::from(text.get(length) == Some(&b'Z'));
    ends_at(text, length)
}

/// The length of an e-mail address.
fn mail_length(text: &[u8]) -> Option<usize> {
    let allowed =
        |byte: &u8| kind(*byte) & (DIGIT | LOWER | UPPER) != 0 || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'%');
    let at = text.iter().take(64).position(|byte| !allowed(byte)).filter(|at| text[*at] == b'@')?;
    let domain = text[at + 1..].iter().take(255).take_while(|byte| allowed(byte)).count();
    let name = &text[at + 1..at + 1 + domain];
    // A domain has a dot inside; one at its end belongs to what follows.
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    (dot > 0 && dot + 1 < name.len()).then_some(at + 1 + domain)
}

fn ends_at(text: &[u8], length: usize) -> Option<usize> {
    text.get(length).is_none_or(|byte| is_separator(*byte)).then_some(length)
}
