//! What each token stands for, in bytes; and finding special tokens written out in a text.

use rustc_hash::FxHashMap;

use super::TokenizerError;

/// The bytes of every token by id; control tokens stand for nothing.
#[derive(Debug)]
pub(super) struct Pieces(pub(super) Vec<Box<[u8]>>);

impl Pieces {
    /// The bytes of `id`.
    pub(super) fn get(&self, id: u32) -> Result<&[u8], TokenizerError> {
        self.0.get(id as usize).map(AsRef::as_ref).ok_or_else(|| TokenizerError::Conversion {
            action: "decode",
            reason: format!("token {id} is beyond the vocabulary of {}", self.0.len()),
        })
    }
}

/// GPT-2's map from the characters of its vocabulary to bytes (`bytes_to_unicode` in its `encoder.py`): printable Latin-1 stands for itself, the
/// other bytes for the characters from U+0100 on, in order.
pub(super) fn byte_of_char() -> FxHashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100_u32;
    (0..=u8::MAX)
        .filter_map(|byte| {
            let code = if printable(byte) {
                u32::from(byte)
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).map(|character| (character, byte))
        })
        .collect()
}

/// A stretch of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    /// Text to tokenize.
    Text(&'a str),
    /// A special token that was written out.
    Token(u32),
}

/// Special tokens, longest first: the order in which they are looked for.
#[derive(Debug, Default)]
pub(super) struct Specials(Vec<(String, u32)>);

impl Specials {
    pub(super) fn new(mut tokens: Vec<(String, u32)>) -> Self {
        tokens.retain(|(text, _)| !text.is_empty());
        tokens.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.1.cmp(&b.1)));
        Self(tokens)
    }
    /// Cuts `text` at special tokens. Longer tokens win over shorter ones wherever they stand, as in llama.cpp.
    pub(super) fn partition<'a>(&self, text: &'a str) -> Vec<Fragment<'a>> {
        let mut fragments = vec![Fragment::Text(text)];
        for (special, id) in &self.0 {
            if !text.contains(special.as_str()) {
                continue;
            }
            let mut cut = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                let Fragment::Text(text) = fragment else {
                    cut.push(fragment);
                    continue;
                };
                for (index, part) in text.split(special.as_str()).enumerate() {
                    if index > 0 {
                        cut.push(Fragment::Token(*id));
                    }
                    if !part.is_empty() {
                        cut.push(Fragment::Text(part));
                    }
                }
            }
            fragments = cut;
        }
        fragments.retain(|fragment| *fragment != Fragment::Text(""));
        fragments
    }
}

/// How many bytes at the end of `bytes` begin a character that is not complete.
pub(super) fn incomplete_tail(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let needed = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            // A continuation byte: the lead stands further in front.
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if needed > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_byte_alphabet_is_gpt2s() {
        let map = byte_of_char();
        assert_eq!(map.len(), 256);
        assert_eq!((map[&'Ġ'], map[&'Ċ'], map[&'a'], map[&'ÿ']), (b' ', b'\n', b'a', 0xff));
    }

    #[test]
    fn longer_specials_win() {
        let specials = Specials::new(vec![("<|a".to_owned(), 1), ("<|a|>".to_owned(), 2)]);
        assert_eq!(
            specials.partition("x<|a|><|ay"),
            [Fragment::Text("x"), Fragment::Token(2), Fragment::Token(1), Fragment::Text("y")]
        );
        assert_eq!(specials.partition(""), []);
    }

    proptest! {
        /// Cut anywhere, the part held back is exactly what was missing for whole characters.
        #[test]
        fn an_incomplete_tail_is_what_follows_the_last_whole_character(text in "\\PC*", at in any::<prop::sample::Index>()) {
            let bytes = text.as_bytes();
            let cut = at.index(bytes.len() + 1);
            let whole = (0..=cut).rev().find(|end| text.is_char_boundary(*end)).unwrap();
            prop_assert_eq!(incomplete_tail(&bytes[..cut]), cut - whole);
        }
    }
}
