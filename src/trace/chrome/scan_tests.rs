//! Tests of the scanner.

use proptest::prelude::*;

use super::*;

/// Microseconds by long arithmetic on the digits, to compare with.
fn truth_ns(whole: u64, fraction: &str) -> i128 {
    let digits: String = fraction.chars().chain("0000".chars()).take(4).collect();
    let tenths: i128 = digits.parse().unwrap();
    (i128::from(whole) * 10_000 + tenths + 5) / 10
}

#[test]
fn microseconds_keep_every_nanosecond() {
    let cases: [(&str, Option<i64>); 22] = [
        ("1712195495740538.8", Some(1_712_195_495_740_538_800)),
        ("1712195495521130.028", Some(1_712_195_495_521_130_028)),
        ("1610366662254362", Some(1_610_366_662_254_362_000)),
        ("9007199254740993.001", Some(9_007_199_254_740_993_001)),
        ("0", Some(0)),
        ("0.0004", Some(0)),
        ("0.0005", Some(1)),
        ("1.9996", Some(2000)),
        ("-1.5", Some(-1500)),
        ("-0.0005", Some(-1)),
        ("1.5e3", Some(1_500_000)),
        ("15E-1", Some(1500)),
        ("1e-9", Some(0)),
        ("9223372036854775.807", Some(i64::MAX)),
        ("9223372036854775.808", None),
        ("99999999999999999999", None),
        ("1e999999", None),
        ("1e9999999", None),
        ("1.", None),
        (".5", None),
        ("1.2.3", None),
        ("--1", None),
    ];
    for (text, expected) in cases {
        assert_eq!(microseconds_as_ns(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn whole_numbers_are_whole_however_written() {
    for (text, expected) in [
        ("7", Some(7)),
        ("7.0", Some(7)),
        ("70e-1", Some(7)),
        ("7.5", None),
        ("18446744073709551615", Some(u64::MAX.into())),
    ] {
        assert_eq!(integer(text.as_bytes()), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_decimal_is_read_to_the_nearest_nanosecond(whole in 0_u64..9_000_000_000_000_000, fraction in "[0-9]{1,12}") {
        let text = format!("{whole}.{fraction}");
        prop_assert_eq!(microseconds_as_ns(text.as_bytes()).map(i128::from), Some(truth_ns(whole, &fraction)));
    }

    #[test]
    fn strings_are_unescaped_as_serde_json_does(text in any::<String>()) {
        let json = serde_json::to_string(&text).unwrap();
        let mut all_escaped = String::from("\"");
        for unit in text.encode_utf16() {
            all_escaped.push_str(&format!("\\u{unit:04x}"));
        }
        all_escaped.push('"');
        for form in [json, all_escaped] {
            let mut cursor = Cursor::new(form.as_bytes());
            let read = cursor.string("").unwrap();
            let mut scratch = String::new();
            prop_assert_eq!(unescape(read, &mut scratch), text.as_str());
            prop_assert_eq!(cursor.pos, form.len());
        }
    }

    #[test]
    fn a_value_that_comes_in_pieces_ends_where_it_ends_in_one(seed in any::<Vec<u8>>(), cut in 0_usize..200) {
        // Whatever the bytes are, both ways must say the same.
        let mut text = b"{\"a\":[\"".to_vec();
        text.extend(seed.iter().map(|byte| b"\"\\{}[],:x "[usize::from(*byte) % 10]));
        let whole = Skipper::default().feed(&text);
        let cut = cut.min(text.len());
        let mut pieces = Skipper::default();
        let apart = match pieces.feed(&text[..cut]) {
            Ok(None) => match pieces.feed(&text[cut..]) {
                Ok(end) => Ok(end.map(|end| end + cut)),
                Err((at, complaint)) => Err((at + cut, complaint)),
            },
            ended => ended,
        };
        prop_assert_eq!(whole, apart);
    }
}

#[test]
fn what_is_no_json_escape_stays_and_what_is_no_utf_8_is_replaced() {
    let mut scratch = String::new();
    let text = Text { raw: br"C:\work\x \u12 \ud800 end", escaped: true };
    assert_eq!(unescape(text, &mut scratch), "C:\\work\\x \u{fffd}12 \u{fffd} end");
    assert_eq!(unescape(Text { raw: b"a\xffb", escaped: false }, &mut scratch), "a\u{fffd}b");
}

#[test]
fn brackets_are_matched_and_their_depth_is_bounded() {
    let deep = "[".repeat(129);
    assert_eq!(Skipper::default().feed(deep.as_bytes()), Err((128, "brackets are nested deeper than 128 levels")));
    let fine = "[".repeat(128) + &"]".repeat(128);
    assert_eq!(Skipper::default().feed(fine.as_bytes()), Ok(Some(256)));
    assert_eq!(Skipper::default().feed(b"[{]"), Err((2, "a closing bracket does not match")));
    assert_eq!(Skipper::default().feed(br#"["]\"",{"a":"}"}] "#), Ok(Some(17)));
}
