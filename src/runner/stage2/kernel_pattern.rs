//! The regular expression by which ncu finds one kernel of a timeline, and no other.
//!
//! Both tools print demangled names, but not alike: `k<(int)8, (bool)1>(const T1 *)` of nsys is `k<8, 1>(const T1 *)` in many versions of ncu.
//! So the whole name is anchored and escaped, and only what the tools disagree on is left open: casts of template arguments, blanks, and
//! how a namespace without a name is written.

/// Characters that mean something in every dialect of regular expressions a version of ncu may use. Others stay bare: `\<` is a word boundary
/// in some.
const SPECIAL: &str = r"\^$.|?*+()[]{}";

/// An anchored expression that matches the demangled `name` as nsys and as ncu print it.
///
/// Groups are plain ones, which all dialects have.
pub(super) fn demangled(name: &str) -> String {
    let name = name.replace("<unnamed>", "(anonymous namespace)");
    let mut pattern = String::from("^");
    let chars: Vec<char> = name.trim().chars().collect();
    let mut at = 0;
    while at < chars.len() {
        if starts(&chars[at..], "(anonymous namespace)") {
            pattern.push_str(r"(\(anonymous namespace\)|<unnamed>)");
            at += "(anonymous namespace)".len();
            continue;
        }
        let c = chars[at];
        if c.is_whitespace() {
            let next = chars[at..].iter().position(|c| !c.is_whitespace()).map_or(chars.len(), |step| at + step);
            let word = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(|c| is_word(*c));
            let between_words = word(at.checked_sub(1)) && word(Some(next));
            // Blanks that stand beside punctuation are not printed alike.
            let behind_a_star = pattern.ends_with(" *");
            if between_words {
                pattern.push_str(" +");
            } else if !behind_a_star {
                pattern.push_str(" *");
            }
            at = next;
            at = value(&chars, at, &mut pattern);
            continue;
        }
        // `>>` and `> >`, `T*` and `T *` are one.
        let apart = matches!(c, '>' | '*' | '&');
        if apart && at > 0 && !pattern.ends_with(" *") {
            pattern.push_str(" *");
        }
        push(&mut pattern, c);
        at += 1;
        if matches!(c, '<' | ',') {
            if c == ',' && !chars.get(at).is_some_and(|c| c.is_whitespace()) {
                pattern.push_str(" *");
            }
            at = value(&chars, at, &mut pattern);
        }
    }
    pattern.push('$');
    pattern
}

/// An anchored expression that matches the mangled `name`, which all tools print alike.
pub(super) fn mangled(name: &str) -> String {
    let mut pattern = String::from("^");
    name.chars().for_each(|c| push(&mut pattern, c));
    pattern.push('$');
    pattern
}

/// Where a template argument may begin: a cast before a number is there or not. Returns where to go on.
fn value(chars: &[char], at: usize, pattern: &mut String) -> usize {
    let before = chars[..at].iter().rfind(|c| !c.is_whitespace());
    if !matches!(before, Some('<' | ',')) {
        return at;
    }
    let after_cast = if chars.get(at) == Some(&'(') {
        let close = chars[at..].iter().position(|c| *c == ')').map(|length| at + length + 1);
        close.filter(|close| {
            let kind = &chars[at + 1..close - 1];
            !kind.is_empty() && kind.iter().all(|c| is_word(*c) || matches!(c, ':' | '<' | '>' | '*' | '&' | ' ' | ','))
        })
    } else {
        Some(at)
    };
    let number = |at: usize| chars.get(at).is_some_and(|c| c.is_ascii_digit() || *c == '-');
    match after_cast {
        Some(next) if number(next) => {
            pattern.push_str(r"(\([^()]*\))?");
            next
        }
        _ => at,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn starts(chars: &[char], text: &str) -> bool {
    let mut wanted = text.chars();
    let mut here = chars.iter();
    wanted.all(|c| here.next() == Some(&c))
}

fn push(pattern: &mut String, c: char) {
    if SPECIAL.contains(c) {
        pattern.push('\\');
    }
    pattern.push(c);
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[track_caller]
    fn finds(name: &str, printed: &str, found: bool) {
        let pattern = demangled(name);
        let expression = Regex::new(&pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(expression.is_match(printed), found, "{pattern}\n  {printed}");
    }

    #[test]
    fn one_kernel_is_found_however_the_tools_print_it() {
        // nsys and ncu of one product family on one kernel of llama.cpp, and the like.
        let nsys = "void mul_mat_q<(ggml_type)8, (int)128, (bool)0>(const char *, const int *, float *, uint3, int)";
        finds(nsys, "void mul_mat_q<8, 128, 0>(const char *, const int *, float *, uint3, int)", true);
        finds(nsys, nsys, true);
        finds(nsys, "void mul_mat_q<8, 64, 0>(const char *, const int *, float *, uint3, int)", false);
        finds(nsys, "void mul_mat_q<8, 1280, 0>(const char *, const int *, float *, uint3, int)", false);
        finds("void k<8, -1>(int)", "void k<(int)8, (int)-1>(int)", true);
        let gemm =
            "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32_128x1_tn_align8>(T1::Params)";
        finds(gemm, gemm, true);
        let nested = "enable_if<!T7, void>::type kernel<int, float, (bool)0, f<g<const T *>>>(T13)";
        finds(nested, "enable_if<!T7, void>::type kernel<int, float, 0, f<g<const T*> > >(T13)", true);
        finds("void <unnamed>::softmax<(int)4>(float *)", "void (anonymous namespace)::softmax<4>(float *)", true);
    }

    #[test]
    fn names_that_contain_each_other_stay_apart() {
        finds("gemv", "gemv", true);
        finds("gemv", "gemv_q8", false);
        finds("gemv", "void gemv<int>(int)", false);
        finds("unsigned_copy", "unsigned copy", false);
        // A dot and a star of a name are themselves.
        finds("a.b", "axb", false);
        finds("void k(unsigned long)", "void k(unsignedlong)", false);
        finds("operator+<1>[x]{y}", "operator+<1>[x]{y}", true);
        assert_eq!(demangled(r"a\d|b?"), r"^a\\d\|b\?$");
    }

    #[test]
    fn a_mangled_name_is_escaped_and_anchored() {
        assert_eq!(mangled("_Z1kILi8EEvPf"), "^_Z1kILi8EEvPf$");
        assert_eq!(mangled("k.kd"), r"^k\.kd$");
    }
}
