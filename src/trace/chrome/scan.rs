//! A scanner over JSON text that may end anywhere: it reads what a trace event needs and steps over the rest without looking into it.
//!
//! What is stepped over is checked for closed strings and matching brackets only, so `inf` and `nan`, which some profilers write for a
//! bandwidth, do no harm there.

use memchr::memchr2;

/// Brackets nested deeper than this are refused.
pub(super) const MAX_DEPTH: u32 = 128;

/// Why a scan stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The text ends within the value.
    More,
    /// The text is not JSON: position and what is wrong.
    Bad(usize, &'static str),
}

pub(super) type Scan<T> = Result<T, Stop>;

/// A string as it stands between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text<'a> {
    pub(super) raw: &'a [u8],
    pub(super) escaped: bool,
}

/// A value, as far as one looks into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    String(Text<'a>),
    /// The characters of a number, grammar unchecked.
    Number(&'a [u8]),
    /// `true`, `false`, `null`, `NaN` and the like.
    Word(&'a [u8]),
    /// An array or object with its brackets.
    Nested(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The string, if it is one.
    pub(super) fn text(self) -> Option<Text<'a>> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
    /// A whole number, written as one or as a string of one.
    pub(super) fn integer(self) -> Option<i128> {
        match self {
            Value::Number(raw) | Value::String(Text { raw, escaped: false }) => integer(raw),
            _ => None,
        }
    }
    /// A whole number that fits.
    pub(super) fn number<T: TryFrom<i128>>(self) -> Option<T> {
        self.integer().and_then(|value| T::try_from(value).ok())
    }
}

/// A position in a text.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pub(super) pos: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }
    /// The text from here to `end`.
    pub(super) fn until(&self, end: &Self) -> &'a [u8] {
        &self.bytes[self.pos..end.pos]
    }
    /// Steps over white space; the byte after it.
    #[inline]
    pub(super) fn peek(&mut self) -> Scan<u8> {
        loop {
            match self.bytes.get(self.pos) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.pos += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Stop::More),
            }
        }
    }
    /// Steps over white space and `expected`.
    #[inline]
    pub(super) fn expect(&mut self, expected: u8, complaint: &'static str) -> Scan<()> {
        if self.peek()? == expected {
            self.pos += 1;
            Ok(())
        } else {
            Err(Stop::Bad(self.pos, complaint))
        }
    }
    /// Reads a string, white space before it included.
    #[inline]
    pub(super) fn string(&mut self, complaint: &'static str) -> Scan<Text<'a>> {
        self.expect(b'"', complaint)?;
        let begin = self.pos;
        let mut at = begin;
        let mut escaped = false;
        loop {
            let found = memchr2(b'"', b'\\', &self.bytes[at.min(self.bytes.len())..]).ok_or(Stop::More)?;
            at += found;
            if self.bytes[at] == b'"' {
                self.pos = at + 1;
                return Ok(Text { raw: &self.bytes[begin..at], escaped });
            }
            escaped = true;
            at += 2;
        }
    }
    /// Reads a value of any kind.
    #[inline]
    pub(super) fn value(&mut self) -> Scan<Value<'a>> {
        match self.peek()? {
            b'"' => Ok(Value::String(self.string("a string")?)),
            b'{' | b'[' => {
                let begin = self.pos;
                let mut skipper = Skipper::default();
                match skipper.feed(&self.bytes[begin..]) {
                    Ok(Some(length)) => {
                        self.pos = begin + length;
                        Ok(Value::Nested(&self.bytes[begin..self.pos]))
                    }
                    Ok(None) => Err(Stop::More),
                    Err((at, complaint)) => Err(Stop::Bad(begin + at, complaint)),
                }
            }
            b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                let begin = self.pos;
                let length = self.bytes[begin..]
                    .iter()
                    .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'))
                    .ok_or(Stop::More)?;
                self.pos = begin + length;
                let raw = &self.bytes[begin..self.pos];
                if is_number(raw) { Ok(Value::Number(raw)) } else { Ok(Value::Word(raw)) }
            }
            _ => Err(Stop::Bad(self.pos, "a value is expected here")),
        }
    }
    /// After a member of an object or array: true if another follows, false at the closing bracket. A comma before the closing bracket is
    /// let pass, as Perfetto does.
    #[inline]
    pub(super) fn another(&mut self, close: u8) -> Scan<bool> {
        match self.peek()? {
            b',' => {
                self.pos += 1;
                if self.peek()? == close {
                    self.pos += 1;
                    return Ok(false);
                }
                Ok(true)
            }
            byte if byte == close => {
                self.pos += 1;
                Ok(false)
            }
            _ => Err(Stop::Bad(self.pos, "a comma or a closing bracket is expected here")),
        }
    }
    /// At the begin of an object: true if it has a member, false if it was empty and is behind.
    #[inline]
    pub(super) fn open(&mut self, open: u8, close: u8, complaint: &'static str) -> Scan<bool> {
        self.expect(open, complaint)?;
        if self.peek()? == close {
            self.pos += 1;
            return Ok(false);
        }
        Ok(true)
    }
}

/// Steps over an array or object that may come in pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Skipper {
    depth: u32,
    /// One bit a level: 1 for an object.
    objects: u128,
    in_string: bool,
    after_backslash: bool,
}

impl Skipper {
    /// Takes the next piece: `Some(length)` where the value ends in it, or position and complaint.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<usize>, (usize, &'static str)> {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                if self.after_backslash {
                    self.after_backslash = false;
                    at += 1;
                    continue;
                }
                let Some(found) = memchr2(b'"', b'\\', &bytes[at..]) else { return Ok(None) };
                at += found;
                if bytes[at] == b'"' {
                    self.in_string = false;
                } else {
                    self.after_backslash = true;
                }
                at += 1;
                continue;
            }
            match bytes[at] {
                b'"' => self.in_string = true,
                open @ (b'{' | b'[') => {
                    if self.depth == MAX_DEPTH {
                        return Err((at, "brackets are nested deeper than 128 levels"));
                    }
                    self.depth += 1;
                    self.objects = self.objects << 1 | u128::from(open == b'{');
                }
                close @ (b'}' | b']') => {
                    if self.depth == 0 || (self.objects & 1 == 1) != (close == b'}') {
                        return Err((at, "a closing bracket does not match"));
                    }
                    self.depth -= 1;
                    self.objects >>= 1;
                    if self.depth == 0 {
                        return Ok(Some(at + 1));
                    }
                }
                _ => {}
            }
            at += 1;
        }
        Ok(None)
    }
}

fn is_number(raw: &[u8]) -> bool {
    let digits = raw.strip_prefix(b"-").unwrap_or(raw);
    digits.first().is_some_and(u8::is_ascii_digit)
}

/// A whole number; `7.0` and `1e3` are, `7.5` is not.
#[inline]
pub(super) fn integer(raw: &[u8]) -> Option<i128> {
    if raw.len() <= 18 && !raw.is_empty() && raw.iter().all(u8::is_ascii_digit) {
        return Some(i128::from(raw.iter().fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'))));
    }
    match decimal(raw, 0)? {
        (value, true) => Some(value),
        (_, false) => None,
    }
}

/// Microseconds as written, in nanoseconds: exact to the last digit, further digits rounded half away from zero.
#[inline]
pub(super) fn microseconds_as_ns(raw: &[u8]) -> Option<i64> {
    // Nearly every number has up to 16 digits, a point and up to three more: below 10^19, which 64 bits hold.
    let mut value = 0_u64;
    let mut at = 0;
    while at < raw.len() && at < 16 && raw[at].is_ascii_digit() {
        value = value * 10 + u64::from(raw[at] - b'0');
        at += 1;
    }
    if at > 0 && at == raw.len() {
        return i64::try_from(value * 1000).ok();
    }
    if at > 0 && raw[at] == b'.' {
        let fraction = &raw[at + 1..];
        if (1..=3).contains(&fraction.len()) && fraction.iter().all(u8::is_ascii_digit) {
            for place in 0..3 {
                value = value * 10 + fraction.get(place).map_or(0, |digit| u64::from(digit - b'0'));
            }
            return i64::try_from(value).ok();
        }
    }
    i64::try_from(decimal(raw, 3)?.0).ok()
}

/// A JSON number times ten to the power `scale`, rounded half away from zero; true if nothing was rounded. `None` if it is no number or
/// has more than 36 digits.
fn decimal(raw: &[u8], scale: i32) -> Option<(i128, bool)> {
    const MOST_DIGITS: i32 = 36;
    let (negative, raw) = match raw.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, raw),
    };
    let (mantissa, exponent) = match raw.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&raw[..at], exponent(&raw[at + 1..])?),
        None => (raw, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    if whole.is_empty()
        || (fraction.is_empty() && whole.len() < mantissa.len())
        || !whole.iter().chain(fraction).all(u8::is_ascii_digit)
    {
        return None;
    }
    // Where the last digit that counts stands, counted from the first digit of `whole`.
    let digits = i64::try_from(whole.len()).ok()? + i64::from(scale) + i64::from(exponent);
    let mut value = 0_i128;
    let mut used = 0;
    let mut exact = true;
    for (place, digit) in whole.iter().chain(fraction).enumerate() {
        let digit = i128::from(digit - b'0');
        let place = place as i64;
        if place < digits {
            if value > 0 || digit > 0 {
                used += 1;
            }
            if used > MOST_DIGITS {
                return None;
            }
            value = value * 10 + digit;
        } else {
            exact &= digit == 0;
            if place == digits && digit >= 5 {
                value += 1;
            }
        }
    }
    let zeros = digits - (whole.len() + fraction.len()) as i64;
    if zeros > 0 && value != 0 {
        if i64::from(used) + zeros > i64::from(MOST_DIGITS) {
            return None;
        }
        value *= 10_i128.pow(zeros as u32);
    }
    Some((if negative { -value } else { value }, exact))
}

fn exponent(raw: &[u8]) -> Option<i32> {
    let (negative, digits) = match raw.first()? {
        b'-' => (true, &raw[1..]),
        b'+' => (false, &raw[1..]),
        _ => (false, raw),
    };
    if digits.is_empty() || digits.len() > 6 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_i32, |value, digit| value * 10 + i32::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

/// The text of a string with its escapes resolved; what is no UTF-8 becomes U+FFFD.
pub(super) fn unescape<'a>(text: Text<'a>, scratch: &'a mut String) -> &'a str {
    if !text.escaped
        && let Ok(plain) = std::str::from_utf8(text.raw)
    {
        return plain;
    }
    scratch.clear();
    let mut rest = text.raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        scratch.push_str(&String::from_utf8_lossy(&rest[..at]));
        rest = &rest[at + 1..];
        let Some(letter) = rest.first() else { break };
        let mut length = 1;
        match letter {
            b'n' => scratch.push('\n'),
            b't' => scratch.push('\t'),
            b'r' => scratch.push('\r'),
            b'b' => scratch.push('\u{8}'),
            b'f' => scratch.push('\u{c}'),
            b'"' | b'\\' | b'/' => scratch.push(char::from(*letter)),
            b'u' => match code_point(&rest[1..]) {
                Some((c, used)) => {
                    scratch.push(c);
                    length += used;
                }
                None => scratch.push('\u{fffd}'),
            },
            // Not JSON: a path with single backslashes. It stays as it is.
            _ => {
                scratch.push('\\');
                length = 0;
            }
        }
        rest = &rest[length..];
    }
    scratch.push_str(&String::from_utf8_lossy(rest));
    scratch
}

/// The character of four hexadecimal digits, or of a surrogate pair, and how many bytes it took.
fn code_point(rest: &[u8]) -> Option<(char, usize)> {
    let unit = |raw: &[u8]| -> Option<u32> {
        let digits = raw.get(..4)?;
        digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
    };
    let first = unit(rest)?;
    if (0xd800..0xdc00).contains(&first) {
        if let Some(low) = rest[4..].strip_prefix(b"\\u").and_then(unit)
            && (0xdc00..0xe000).contains(&low)
        {
            let c = char::from_u32(0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00))?;
            return Some((c, 10));
        }
        return Some(('\u{fffd}', 4));
    }
    Some((char::from_u32(first).unwrap_or('\u{fffd}'), 4))
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
