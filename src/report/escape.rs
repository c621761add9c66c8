//! Makes foreign text harmless in each format a report is written in.
//!
//! Model names, prompts, outputs and error messages come from files and servers; none of them may become markup, a script, a
//! terminal command or a spreadsheet formula. Every format has its own rules, so every format has its own function here.

use std::io;

use crate::diagnostics::escape_control;

/// True for the characters that reorder the text around them (Unicode TR 9 embeddings, overrides and isolates).
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with reordering characters shown as `\u{202e}` and the like: a name must not rewrite what stands beside it.
fn show_reordering(text: &str) -> String {
    if !text.contains(reorders) {
        return text.to_owned();
    }
    text.chars().map(|c| if reorders(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// One line of harmless text: control and reordering characters are shown, line breaks become `↵`, tabs become spaces.
pub(super) fn one_line(text: &str) -> String {
    show_reordering(&escape_control(&text.replace("\r\n", "\n")))
        .replace('\n', " ↵ ")
        .replace('\t', " ")
        .replace(['\u{2028}', '\u{2029}'], " ↵ ")
}

/// At most `limit` characters of `text`, with `…` where something was cut.
pub(super) fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => text.chars().take(limit.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// HTML text and double-quoted attributes, also valid inside inline SVG; control and reordering characters are shown.
pub(super) fn html(text: &str) -> String {
    let text = show_reordering(&escape_control(text));
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// XML 1.0 text and double-quoted attributes: [`html`] of one line, and characters that XML forbids even as references are shown.
pub(super) fn xml(text: &str) -> String {
    html(&one_line(text)).replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}")
}

/// Markdown at the start of a line: nothing in `text` starts a heading, list, table cell, emphasis, link, HTML tag or new line.
///
/// An underscore between letters or digits stays bare: CommonMark gives it no meaning there, and names such as `kv_write` stay
/// readable in the source. Backticks round harmless characters stay as well, since messages have them round values.
pub(super) fn markdown(text: &str) -> String {
    let cell = markdown_cell(text);
    // Only at the start of a line do these mean a heading or a list; a list item may start with them, too.
    if cell.starts_with(['#', '+', '-']) { format!("\\{cell}") } else { cell }
}

/// [`markdown`] in the cell of a table, where no heading and no list begins.
pub(super) fn markdown_cell(text: &str) -> String {
    let line = one_line(text);
    let mut out = String::with_capacity(line.len() + 8);
    let mut previous = ' ';
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let inside_word = previous.is_alphanumeric() && rest.peek().is_some_and(|next| next.is_alphanumeric());
        match c {
            // Alone it is an ampersand; before a letter or `#` it would begin a character reference.
            '&' if rest.peek().is_none_or(|next| next.is_alphanumeric() || *next == '#') => out.push_str("&amp;"),
            // A `<` before a blank opens nothing, and `n=3 < 90` stays readable in the source.
            '<' if rest.peek() != Some(&' ') => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '`' if previous != '`' => match code_span(rest.clone()) {
                Some(code) => {
                    out.push('`');
                    out.push_str(&code);
                    out.push('`');
                    // The code and the backtick behind it.
                    rest.by_ref().take(code.len() + 1).for_each(drop);
                    previous = '`';
                    continue;
                }
                None => out.push_str("\\`"),
            },
            '\\' | '|' | '`' | '*' | '[' | ']' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '_' if !inside_word => out.push_str("\\_"),
            other => out.push(other),
        }
        previous = c;
    }
    out
}

/// What stands before the next backtick, if it is ASCII that means nothing anywhere in Markdown, not even where code does not protect it, and no
/// further backtick follows.
fn code_span(mut rest: std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut code = String::new();
    loop {
        match rest.next()? {
            '`' => return (!code.trim().is_empty() && rest.peek() != Some(&'`')).then_some(code),
            c if c.is_ascii_alphanumeric() || " _-.,:;=+/%()@#'\"".contains(c) => code.push(c),
            _ => return None,
        }
    }
}

/// [`markdown`] as the escape function of the template engine.
pub(super) fn markdown_writer(text: &str, out: &mut dyn io::Write) -> io::Result<()> {
    out.write_all(markdown(text).as_bytes())
}

/// JSON for a `<script type="application/json">` block: no character in it can end the block or start a comment.
pub(super) fn script_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

/// A text cell of a spreadsheet: a leading `'` keeps it from being read as a formula (OWASP ASVS 1.2.10).
pub(super) fn spreadsheet(text: &str) -> String {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\0') => format!("'{text}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markdown_keeps_its_columns() {
        assert_eq!(markdown("a|b`c<b>\nd"), "a\\|b\\`c&lt;b&gt; ↵ d");
        assert_eq!(markdown("kv_write _x_"), "kv_write \\_x\\_");
        assert_eq!(markdown("- item"), "\\- item");
        assert_eq!(markdown_cell("+3 % -1 #4"), "+3 % -1 #4");
    }

    #[test]
    fn markdown_keeps_code_that_is_harmless_and_no_other() {
        assert_eq!(markdown("set `engine.ops=fused` or `tpot_ms`"), "set `engine.ops=fused` or `tpot_ms`");
        for (text, escaped) in [
            ("`a|b`", "\\`a\\|b\\`"),
            ("`<b>`", "\\`&lt;b&gt;\\`"),
            ("``x``", "\\`\\`x\\`\\`"),
            ("`x", "\\`x"),
            ("` `", "\\` \\`"),
            ("`a` `b", "`a` \\`b"),
            ("a`b`c", "a`b`c"),
        ] {
            assert_eq!(markdown(text), escaped, "{text}");
        }
    }

    #[test]
    fn script_blocks_cannot_be_left() {
        assert_eq!(script_json("\"</script>&\u{2028}\""), "\"\\u003c/script\\u003e\\u0026\\u2028\"");
    }

    #[test]
    fn formulas_become_text() {
        for bad in ["=HYPERLINK(1)", "@SUM(1)", "+cmd", "-1+1", "\tx", "\rx", "\0x"] {
            assert_eq!(spreadsheet(bad), format!("'{bad}"));
        }
        assert_eq!(spreadsheet("q_proj"), "q_proj");
    }

    #[test]
    fn what_reorders_or_controls_is_shown() {
        assert_eq!(one_line("a\u{202e}b\u{1b}c\r\nd"), "a\\u{202e}b\\u{1b}c ↵ d");
        assert_eq!(html("a\u{2066}<\0>"), "a\\u{2066}&lt;\\u{0}&gt;");
        assert_eq!(html("mixed עברית العربية 🦀"), "mixed עברית العربية 🦀");
    }

    #[test]
    fn xml_holds_no_character_that_xml_forbids() {
        assert_eq!(xml("a\u{fffe}\u{ffff}\0\u{b}<&\"\n]]>"), "a\\u{fffe}\\u{ffff}\\u{0}\\u{b}&lt;&amp;&quot; ↵ ]]&gt;");
    }

    #[test]
    fn cutting_counts_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }

    proptest! {
        #[test]
        fn html_leaves_no_markup(text in ".*") {
            let escaped = html(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\0', '\x1b']));
        }

        #[test]
        fn script_json_means_the_same(text in ".*") {
            let json = serde_json::to_string(&text).unwrap();
            let escaped = script_json(&json);
            let dangerous = escaped.contains(['<', '>', '&', '\u{2028}', '\u{2029}']);
            prop_assert!(!dangerous);
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }

        #[test]
        fn markdown_stays_on_one_line_without_bare_pipes(text in "(?s).*") {
            let escaped = markdown(&text);
            prop_assert!(!escaped.contains(['\n', '\r', '>']));
            prop_assert!(!escaped.replace("< ", "").contains('<'));
            // Each pipe and backtick is preceded by an odd run of backslashes, so it is literal; but for backticks in pairs round harmless characters.
            let chars: Vec<char> = escaped.chars().collect();
            let mut open: Option<usize> = None;
            for (at, c) in chars.iter().enumerate() {
                let run = chars[..at].iter().rev().take_while(|c| **c == '\\').count();
                if matches!(c, '|' | '`') && run % 2 == 0 {
                    prop_assert_eq!(*c, '`');
                    open = match open {
                        None => Some(at),
                        Some(begin) => {
                            let code: String = chars[begin + 1..at].iter().collect();
                            prop_assert!(!code.is_empty() && !code.contains(['\\', '|', '<', '>', '&', '*', '[', ']', '~']), "{code}");
                            None
                        }
                    };
                }
            }
            prop_assert_eq!(open, None);
        }
    }
}
