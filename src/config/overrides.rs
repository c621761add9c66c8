//! The grammar of command-line overrides: `key=value`, `+key=value`, `++key=value`, `~key`, `~key=value`.
//!
//! The grammar is Hydra's. This module turns text into values; which keys exist is not known here.

use std::fmt;

use serde_json::{Number, Value};

use super::ConfigError;
use super::render::masked_override;

/// More runs than this are a mistake and not a sweep.
const MAX_RUNS: usize = 10_000;
/// Deeper brackets are a mistake and not a setting.
const MAX_DEPTH: usize = 32;
/// What a backslash makes literal in text without quotes.
const ESCAPABLE: &str = "\\()[]{}:=, \t'\"";

/// What an override does with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `key=value`: the key must be known.
    Set,
    /// `+key=value`: the key must not be there.
    Add,
    /// `++key=value`: whether it is there or not.
    AddOrSet,
    /// `~key` or `~key=value`: it must be there (with that value).
    Delete,
}

impl Action {
    fn prefix(self) -> &'static str {
        match self {
            Self::Set => "",
            Self::Add => "+",
            Self::AddOrSet => "++",
            Self::Delete => "~",
        }
    }
}

/// One value as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Element {
    /// A word, number, boolean or null without quotes: its value, and its text for keys that want text.
    Plain {
        /// What it means by itself.
        value: Value,
        /// What was written, escapes resolved.
        text: String,
    },
    /// Text in quotes.
    Quoted(String),
    /// `[a,b]`.
    List(Vec<Self>),
    /// `{a:1,b:2}`.
    Dict(Vec<(String, Self)>),
}

impl Element {
    /// The value it means by itself.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Plain { value, .. } => value.clone(),
            Self::Quoted(text) => Value::String(text.clone()),
            Self::List(elements) => Value::Array(elements.iter().map(Self::to_value).collect()),
            Self::Dict(entries) => {
                Value::Object(entries.iter().map(|(key, element)| (key.clone(), element.to_value())).collect())
            }
        }
    }
    /// The text of a scalar, as a key that wants text takes it: `run.tag=007` is `007`. Null stays null.
    pub fn to_text(&self) -> Option<&str> {
        match self {
            Self::Plain { value: Value::Null, .. } | Self::List(_) | Self::Dict(_) => None,
            Self::Plain { text, .. } | Self::Quoted(text) => Some(text),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain { text, .. } => {
                for c in text.chars() {
                    if ESCAPABLE.contains(c) {
                        f.write_str("\\")?;
                    }
                    write!(f, "{c}")?;
                }
                Ok(())
            }
            Self::Quoted(text) => write!(f, "'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            Self::List(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if index > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Dict(entries) => {
                f.write_str("{")?;
                for (index, (key, element)) in entries.iter().enumerate() {
                    let key = Self::Quoted(key.clone());
                    write!(f, "{}{key}:{element}", if index > 0 { "," } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// One override.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// What it does.
    pub action: Action,
    /// The dotted key (`infer.max_new_tokens`) or group (`profiling`, `model/arch`).
    pub key: String,
    /// The values: none for `~key`, several for a sweep (`a=1,2`).
    pub values: Vec<Element>,
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.action.prefix(), self.key)?;
        for (index, value) in self.values.iter().enumerate() {
            write!(f, "{}{value}", if index == 0 { "=" } else { "," })?;
        }
        Ok(())
    }
}

/// Parses one override.
pub fn parse(argument: &str) -> Result<Override, ConfigError> {
    Parser { argument, chars: argument.chars().collect(), at: 0 }.parse_override()
}

/// Every combination of the alternatives in `arguments` (`a=1,2`, `a=choice(1,2)`, `a=range(1,4)`), the last varying fastest.
pub fn expand_multirun(arguments: &[String]) -> Result<Vec<Vec<String>>, ConfigError> {
    let mut alternatives: Vec<Vec<String>> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let parsed = parse(argument)?;
        alternatives.push(if parsed.values.len() > 1 {
            let single = |value: Element| Override { values: vec![value], ..parsed.clone() }.to_string();
            parsed.values.iter().cloned().map(single).collect()
        } else if is_call(argument) {
            // A `choice` or `range` of one value is that value.
            vec![parsed.to_string()]
        } else {
            vec![argument.clone()]
        });
    }
    let count = alternatives.iter().fold(1_u128, |product, values| product.saturating_mul(values.len() as u128));
    if count > MAX_RUNS as u128 {
        return Err(ConfigError::TooManyRuns { count, limit: MAX_RUNS });
    }
    let mut runs: Vec<Vec<String>> = vec![Vec::new()];
    for values in alternatives {
        runs = runs
            .iter()
            .flat_map(|run| {
                values.iter().map(|value| {
                    let mut longer = run.clone();
                    longer.push(value.clone());
                    longer
                })
            })
            .collect();
    }
    Ok(runs)
}

fn is_call(argument: &str) -> bool {
    let value = argument.split_once('=').map_or("", |(_, value)| value.trim_start());
    value.starts_with("choice(") || value.starts_with("range(")
}

/// What ends a word without quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    List,
    Dict,
    Call,
}

impl Place {
    fn ends(self, c: char) -> bool {
        c == ','
            || match self {
                Self::Top => false,
                Self::List => c == ']',
                Self::Dict => c == '}',
                Self::Call => c == ')',
            }
    }
}

struct Parser<'a> {
    argument: &'a str,
    chars: Vec<char>,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, at: usize, message: impl Into<String>) -> ConfigError {
        ConfigError::Override { argument: masked_override(self.argument), position: at + 1, message: message.into() }
    }
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }
    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn parse_override(mut self) -> Result<Override, ConfigError> {
        let action = match (self.chars.first(), self.chars.get(1)) {
            (Some('+'), Some('+')) => Action::AddOrSet,
            (Some('+'), _) => Action::Add,
            (Some('~'), _) => Action::Delete,
            _ => Action::Set,
        };
        self.at = action.prefix().len();
        let key = self.key()?;
        if self.peek().is_none() {
            if action == Action::Delete {
                return Ok(Override { action, key, values: Vec::new() });
            }
            return Err(self.error(self.at, "`=` is missing"));
        }
        self.at += 1;
        let start = self.at;
        let values = self.values()?;
        if action == Action::Delete && values.len() > 1 {
            return Err(self.error(start, "a key is deleted with one value or none, found several"));
        }
        Ok(Override { action, key, values })
    }

    /// Reads up to `=` or the end and leaves `at` there.
    fn key(&mut self) -> Result<String, ConfigError> {
        let start = self.at;
        while let Some(c) = self.peek().filter(|c| *c != '=') {
            if !(c.is_ascii_alphanumeric() || "_-./".contains(c)) {
                return Err(self.error(self.at, format!("`{c}` is not allowed in a key")));
            }
            self.at += 1;
        }
        let key: String = self.chars[start..self.at].iter().collect();
        if key.is_empty() {
            return Err(self.error(start, "the key is missing"));
        }
        let mut at = start;
        for part in key.split(['.', '/']) {
            if part.is_empty() {
                return Err(self.error(at, "a part of the key is empty"));
            }
            at += part.len() + 1;
        }
        Ok(key)
    }

    /// Everything after `=`: one value, or several separated by commas, or `choice(…)`, or `range(…)`.
    fn values(&mut self) -> Result<Vec<Element>, ConfigError> {
        self.skip_spaces();
        if self.peek().is_none() {
            return Ok(vec![Element::Plain { value: Value::String(String::new()), text: String::new() }]);
        }
        if let Some((name, open)) = self.call() {
            let name_at = self.at;
            self.at = open + 1;
            let arguments = self.sequence(Place::Call, open, ')')?;
            self.skip_spaces();
            if self.peek().is_some() {
                return Err(self.error(self.at, format!("nothing may follow `{name}(…)`")));
            }
            return match name.as_str() {
                "choice" if arguments.is_empty() => Err(self.error(open, "`choice()` has nothing to choose from")),
                "choice" => Ok(arguments),
                "range" => self.range(&arguments, open),
                _ => {
                    Err(self.error(name_at, format!("no function is called `{name}`: there are `choice` and `range`")))
                }
            };
        }
        let mut values = Vec::new();
        loop {
            values.push(self.element(Place::Top, 0)?);
            match self.peek() {
                None => return Ok(values),
                // `element` stops at the end or at a comma only, when at the top.
                Some(_) => self.at += 1,
            }
        }
    }

    /// The name and the position of `(` if a call stands here.
    fn call(&self) -> Option<(String, usize)> {
        let name: String =
            self.chars[self.at..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect();
        let open = self.at + name.len();
        (!name.is_empty() && self.chars.get(open) == Some(&'(')).then_some((name, open))
    }

    /// `range(stop)`, `range(start,stop)`, `range(start,stop,step)`; `stop` itself is left out, as in Python.
    fn range(&self, arguments: &[Element], open: usize) -> Result<Vec<Element>, ConfigError> {
        let mut numbers = Vec::new();
        for argument in arguments {
            let value = argument.to_value();
            numbers.push(value.as_f64().ok_or_else(|| self.error(open, "`range` takes numbers"))?);
        }
        let (start, stop, step) = match numbers[..] {
            [stop] => (0.0, stop, 1.0),
            [start, stop] => (start, stop, 1.0),
            [start, stop, step] => (start, stop, step),
            _ => return Err(self.error(open, "`range` takes 1 to 3 numbers")),
        };
        if step == 0.0 {
            return Err(self.error(open, "the step of `range` is 0"));
        }
        // A hair less than the quotient, so that range(0,0.3,0.1) has three values in spite of rounding.
        let count = ((stop - start) / step - 1e-9).ceil();
        if count < 1.0 {
            return Err(self.error(open, "`range` is empty"));
        }
        if count > MAX_RUNS as f64 {
            return Err(self.error(open, format!("`range` has more than {MAX_RUNS} values")));
        }
        let whole = [start, stop, step].iter().all(|number| number.fract() == 0.0 && number.abs() < 9e15);
        let decimals = arguments.iter().filter_map(Element::to_text).map(decimals_of).max().unwrap_or(0);
        Ok((0..count as usize)
            .map(|index| {
                let number = start + index as f64 * step;
                let text = if whole { format!("{number:.0}") } else { format!("{number:.decimals$}") };
                Element::Plain { value: plain_value(&text), text }
            })
            .collect())
    }

    /// Elements separated by commas up to `close`; `at` stands behind the opening bracket.
    fn sequence(&mut self, place: Place, open: usize, close: char) -> Result<Vec<Element>, ConfigError> {
        self.nested_sequence(place, open, close, 0)
    }

    fn nested_sequence(
        &mut self,
        place: Place,
        open: usize,
        close: char,
        depth: usize,
    ) -> Result<Vec<Element>, ConfigError> {
        let mut elements = Vec::new();
        self.skip_spaces();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(elements);
        }
        loop {
            self.skip_spaces();
            if self.peek().is_none() {
                return Err(self.unclosed(open, close));
            }
            if self.peek() == Some(',') || self.peek() == Some(close) {
                return Err(self.error(self.at, "a value is missing"));
            }
            elements.push(self.element(place, depth)?);
            match self.peek() {
                None => return Err(self.unclosed(open, close)),
                Some(',') => self.at += 1,
                Some(_) => {
                    self.at += 1;
                    return Ok(elements);
                }
            }
        }
    }

    fn unclosed(&self, open: usize, close: char) -> ConfigError {
        self.error(open, format!("`{}` is not closed: `{close}` is missing", self.chars[open]))
    }

    fn dict(&mut self, open: usize, depth: usize) -> Result<Vec<(String, Element)>, ConfigError> {
        let mut entries: Vec<(String, Element)> = Vec::new();
        self.skip_spaces();
        if self.peek() == Some('}') {
            self.at += 1;
            return Ok(entries);
        }
        loop {
            self.skip_spaces();
            let key_at = self.at;
            let key = match self.peek() {
                None => return Err(self.unclosed(open, '}')),
                Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
                Some(_) => {
                    let start = self.at;
                    while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || "_-./".contains(c)) {
                        self.at += 1;
                    }
                    self.chars[start..self.at].iter().collect()
                }
            };
            self.skip_spaces();
            match self.peek() {
                None => return Err(self.unclosed(open, '}')),
                Some(':') => self.at += 1,
                Some(_) => return Err(self.error(self.at, "`key:value` is expected between `{` and `}`")),
            }
            if key.is_empty() {
                return Err(self.error(key_at, "the key is missing"));
            }
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(self.error(key_at, format!("`{key}` is given twice")));
            }
            self.skip_spaces();
            let element = match self.peek() {
                None => return Err(self.unclosed(open, '}')),
                Some(',' | '}') => return Err(self.error(self.at, "a value is missing")),
                Some(_) => self.element(Place::Dict, depth)?,
            };
            entries.push((key, element));
            match self.peek() {
                None => return Err(self.unclosed(open, '}')),
                Some(',') => self.at += 1,
                Some(_) => {
                    self.at += 1;
                    return Ok(entries);
                }
            }
        }
    }

    /// One value; leaves `at` at what ends it (a comma, the closing bracket of `place`, or the end).
    fn element(&mut self, place: Place, depth: usize) -> Result<Element, ConfigError> {
        if depth > MAX_DEPTH {
            return Err(self.error(self.at, format!("brackets are nested more than {MAX_DEPTH} deep")));
        }
        self.skip_spaces();
        let open = self.at;
        let element = match self.peek() {
            Some(quote @ ('\'' | '"')) => Element::Quoted(self.quoted(quote)?),
            Some('[') => {
                self.at += 1;
                Element::List(self.nested_sequence(Place::List, open, ']', depth + 1)?)
            }
            Some('{') => {
                self.at += 1;
                Element::Dict(self.dict(open, depth + 1)?)
            }
            _ => return self.plain(place),
        };
        self.skip_spaces();
        match self.peek() {
            Some(c) if !place.ends(c) => {
                Err(self.error(self.at, format!("`{c}` may not follow a value that is complete")))
            }
            _ => Ok(element),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, ConfigError> {
        let open = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(self.error(open, format!("the quote {quote} is not closed"))),
                Some('\\') if self.chars.get(self.at + 1).is_some_and(|next| *next == quote || *next == '\\') => {
                    text.push(self.chars[self.at + 1]);
                    self.at += 2;
                }
                Some(c) if c == quote => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(c) => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
    }

    fn plain(&mut self, place: Place) -> Result<Element, ConfigError> {
        let start = self.at;
        let mut text = String::new();
        // Length of the text up to the last character that is not a trailing space; an escaped space counts.
        let mut kept = 0;
        let mut escaped = false;
        while let Some(c) = self.peek() {
            if place.ends(c) {
                break;
            }
            match c {
                '\\' if self.chars.get(self.at + 1).is_some_and(|next| ESCAPABLE.contains(*next)) => {
                    text.push(self.chars[self.at + 1]);
                    escaped = true;
                    kept = text.len();
                    self.at += 1;
                }
                '[' | ']' | '{' | '}' | '(' | ')' => {
                    return Err(self.error(self.at, format!("`{c}` has no counterpart here")));
                }
                _ => {
                    text.push(c);
                    if !c.is_whitespace() {
                        kept = text.len();
                    }
                }
            }
            self.at += 1;
        }
        text.truncate(kept);
        if text.is_empty() {
            return Err(self.error(start, "a value is missing"));
        }
        // An escape is a way to say that text is meant.
        let value = if escaped { Value::String(text.clone()) } else { plain_value(&text) };
        if is_number(&text) && value.is_string() && !escaped {
            return Err(self.error(start, format!("`{text}` is too large for a number")));
        }
        Ok(Element::Plain { value, text })
    }
}

/// Digits after the decimal point as written.
fn decimals_of(text: &str) -> usize {
    match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (decimals_of(mantissa) as i64 - exponent.parse::<i64>().unwrap_or(0)).clamp(0, 17) as usize
        }
        None => text.split_once('.').map_or(0, |(_, decimals)| decimals.len()).min(17),
    }
}

/// True for `-12`, `1.5`, `1e-3`, `.5`; not for `007`, `1_000`, `inf`, as in the YAML files.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (digits, None),
    };
    let (whole, fraction) =
        mantissa.split_once('.').map_or((mantissa, None), |(whole, fraction)| (whole, Some(fraction)));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    all_digits(whole)
        && fraction.is_none_or(all_digits)
        && !(whole.is_empty() && fraction.is_none_or(str::is_empty))
        && exponent.is_none_or(|exponent| !exponent.is_empty() && all_digits(exponent))
        && !leading_zero
}

/// What a word without quotes means.
fn plain_value(text: &str) -> Value {
    match text {
        "null" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if is_number(text) {
        if !text.contains(['.', 'e', 'E']) {
            if let Ok(number) = text.parse::<u64>() {
                return Value::from(number);
            }
            if let Ok(number) = text.parse::<i64>() {
                return Value::from(number);
            }
        }
        if let Some(number) = text.parse::<f64>().ok().and_then(Number::from_f64) {
            return Value::Number(number);
        }
    }
    Value::String(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn value_of(argument: &str) -> Value {
        let parsed = parse(argument).unwrap_or_else(|error| panic!("{argument}: {error}"));
        assert_eq!(parsed.values.len(), 1, "{argument}");
        parsed.values[0].to_value()
    }

    fn refused(argument: &str) -> (usize, String) {
        match parse(argument) {
            Err(ConfigError::Override { position, message, .. }) => (position, message),
            other => panic!("{argument:?} gave {other:?}"),
        }
    }

    #[test]
    fn scalars_mean_what_they_look_like() {
        for (argument, expected) in [
            ("a=1", json!(1)),
            ("a=-3", json!(-3)),
            ("a=18446744073709551615", json!(u64::MAX)),
            ("a=1.5", json!(1.5)),
            ("a=1e-3", json!(0.001)),
            ("a=.5", json!(0.5)),
            ("a=007", json!("007")),
            ("a=1_000", json!("1_000")),
            ("a=null", json!(null)),
            ("a=true", json!(true)),
            ("a=False", json!(false)),
            ("a=on", json!("on")),
            ("a=", json!("")),
            ("a=cuda:0", json!("cuda:0")),
            ("a= spaced out ", json!("spaced out")),
            ("a=http://x:1/v1?k=v", json!("http://x:1/v1?k=v")),
            ("a=don't", json!("don't")),
            ("a='1'", json!("1")),
            ("a=\"a, (b) [c]\"", json!("a, (b) [c]")),
            (r"a='it\'s'", json!("it's")),
            (r"a='C:\temp'", json!("C:\\temp")),
            (r"a=C:\temp", json!("C:\\temp")),
            (r"a=one\, two", json!("one, two")),
            (r"a=\(x\)", json!("(x)")),
        ] {
            assert_eq!(value_of(argument), expected, "{argument}");
        }
    }

    #[test]
    fn lists_and_dicts_nest() {
        assert_eq!(value_of("torch_profiler.activities=[cpu,cuda]"), json!(["cpu", "cuda"]));
        assert_eq!(value_of("a=[]"), json!([]));
        assert_eq!(value_of("a={}"), json!({}));
        assert_eq!(
            value_of("cases=[{prompt:'a, b',new_tokens:4}, {prompt: x y ,new_tokens: 8}]"),
            json!([{"prompt": "a, b", "new_tokens": 4}, {"prompt": "x y", "new_tokens": 8}])
        );
        assert_eq!(
            value_of("a={a:1,b:[x,[1,2]],'c d':{e:cuda:0}}"),
            json!({"a": 1, "b": ["x", [1, 2]], "c d": {"e": "cuda:0"}})
        );
    }

    #[test]
    fn the_sign_before_the_key_is_the_action() {
        for (argument, action, key) in [
            ("a.b=1", Action::Set, "a.b"),
            ("+a.b=1", Action::Add, "a.b"),
            ("++a=1", Action::AddOrSet, "a"),
            ("~a", Action::Delete, "a"),
            ("model/arch=x", Action::Set, "model/arch"),
        ] {
            let parsed = parse(argument).unwrap();
            assert_eq!((parsed.action, parsed.key.as_str()), (action, key), "{argument}");
        }
        assert!(parse("~a").unwrap().values.is_empty());
        assert_eq!(parse("~a=1").unwrap().values[0].to_value(), json!(1));
    }

    #[test]
    fn mistakes_are_told_with_their_position() {
        for (argument, position, words) in [
            ("", 1, "key is missing"),
            ("repeats", 8, "`=` is missing"),
            ("=3", 1, "key is missing"),
            ("a..b=3", 3, "part of the key"),
            ("a b=3", 2, "not allowed in a key"),
            ("a=[1,2", 3, "`[` is not closed"),
            ("a={b:1", 3, "`{` is not closed"),
            ("a=[1,[2]", 3, "`[` is not closed"),
            ("a=1]", 4, "`]` has no counterpart"),
            ("a='x", 3, "quote ' is not closed"),
            ("a=[\"x]", 4, "quote \" is not closed"),
            ("a='x'y", 6, "may not follow"),
            ("a=[1,,2]", 6, "value is missing"),
            ("a=1,,2", 5, "value is missing"),
            ("a={b}", 5, "`key:value` is expected"),
            ("a={b:1,b:2}", 8, "given twice"),
            ("a=glob(*)", 3, "no function is called `glob`"),
            ("a=choice()", 9, "nothing to choose"),
            ("a=range(1,2,0)", 8, "step of `range` is 0"),
            ("a=range(3,1)", 8, "empty"),
            ("a=range(x)", 8, "takes numbers"),
            ("a=1e999", 3, "too large"),
            ("~a=1,2", 4, "one value or none"),
            ("prompt=Hello (you)", 14, "no counterpart"),
        ] {
            let (found, message) = refused(argument);
            assert!(found == position && message.contains(words), "{argument}: {found}: {message}");
        }
        assert!(refused(&format!("a={}", "[".repeat(5000))).1.contains("nested"));
    }

    #[test]
    fn a_multirun_is_the_product_in_order() {
        let arguments: Vec<String> =
            ["repeats=3", "batch=1,2", "prompt_tokens=range(64,129,64)", "~x", "model=choice(a,'b c')"]
                .map(String::from)
                .into();
        let runs = expand_multirun(&arguments).unwrap();
        assert_eq!(runs.len(), 8);
        assert_eq!(runs[0], ["repeats=3", "batch=1", "prompt_tokens=64", "~x", "model=a"]);
        assert_eq!(runs[1], ["repeats=3", "batch=1", "prompt_tokens=64", "~x", "model='b c'"]);
        assert_eq!(runs[2][2], "prompt_tokens=128");
        assert_eq!(runs[7], ["repeats=3", "batch=2", "prompt_tokens=128", "~x", "model='b c'"]);
        assert_eq!(expand_multirun(&[]).unwrap(), [Vec::<String>::new()]);
        assert_eq!(expand_multirun(&["a=[1,2],[3]".into()]).unwrap(), [["a=[1,2]"], ["a=[3]"]]);
    }

    #[test]
    fn ranges_count_like_python() {
        let values =
            |argument: &str| -> Vec<Value> { parse(argument).unwrap().values.iter().map(Element::to_value).collect() };
        assert_eq!(values("a=range(3)"), [json!(0), json!(1), json!(2)]);
        assert_eq!(values("a=range(1,4)"), [json!(1), json!(2), json!(3)]);
        assert_eq!(values("a=range(5,0,-2)"), [json!(5), json!(3), json!(1)]);
        assert_eq!(values("a=range(0,0.3,0.1)"), [json!(0.0), json!(0.1), json!(0.2)]);
    }

    #[test]
    fn a_sweep_without_an_end_is_refused() {
        let arguments: Vec<String> = (0..12).map(|key| format!("k{key}=range(1000)")).collect();
        assert!(matches!(expand_multirun(&arguments), Err(ConfigError::TooManyRuns { .. })));
    }

    fn element() -> impl Strategy<Value = Element> {
        let scalar = prop_oneof![
            any::<String>().prop_map(Element::Quoted),
            any::<i64>().prop_map(|number| Element::Plain { value: json!(number), text: number.to_string() }),
            Just(Element::Plain { value: Value::Null, text: "null".into() }),
            Just(Element::Plain { value: json!(true), text: "true".into() }),
            "[a-z][a-z0-9_/.:-]{0,8}".prop_map(|text| Element::Plain { value: plain_value(&text), text }),
        ];
        scalar.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Element::List),
                prop::collection::btree_map(".{1,6}", inner, 0..4)
                    .prop_map(|map| Element::Dict(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in any::<String>()) {
            let _ = parse(&text);
            let _ = expand_multirun(&[text]);
        }

        #[test]
        fn override_like_text_is_parsed_or_refused_and_survives_printing(text in "[+~]{0,2}[ab./]{0,4}=?[a-c0-9 ,:'\"\\\\\\[\\]{}()=.-]{0,24}") {
            if let Ok(parsed) = parse(&text) {
                let printed = parsed.to_string();
                let again = parse(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
                let values = |one: &Override| one.values.iter().map(Element::to_value).collect::<Vec<_>>();
                prop_assert_eq!((again.action, &again.key, values(&again)), (parsed.action, &parsed.key, values(&parsed)), "{}", printed);
            }
        }

        #[test]
        fn every_value_survives_printing(element in element()) {
            let printed = Override { action: Action::Set, key: "k".into(), values: vec![element.clone()] }.to_string();
            let again = parse(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
            prop_assert_eq!(again.values, vec![element], "{}", printed);
        }
    }
}
