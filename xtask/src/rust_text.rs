//! Just enough reading of Rust source to find functions and tests: no parser, no dependency.

/// A function, by the lines it covers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Counted from 1.
    pub(crate) first_line: usize,
    pub(crate) lines: usize,
}

/// The source with comments and the content of literals as spaces; line ends stay where they are.
pub(crate) fn without_literals(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let end = match c {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block_comment(&chars, at),
            '"' => end_of_string(&chars, at),
            'r' if !follows_word(&chars, at) => end_of_raw_string(&chars, at).unwrap_or(at),
            '\'' => end_of_char(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(c);
            at += 1;
            continue;
        }
        out.extend(chars.iter().take(end).skip(at).map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

fn end_of_line(chars: &[char], start: usize) -> usize {
    chars.iter().skip(start).position(|&c| c == '\n').map_or(chars.len(), |length| start + length)
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < chars.len() {
        match (chars.get(at), chars.get(at + 1)) {
            (Some('/'), Some('*')) => {
                depth += 1;
                at += 2;
            }
            (Some('*'), Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&c) = chars.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `b` and `c` may stand before the `r` of a raw string; any other letter makes it part of a word.
fn follows_word(chars: &[char], at: usize) -> bool {
    let is_word = |at: usize| chars.get(at).is_some_and(|&c| c.is_alphanumeric() || c == '_');
    match at.checked_sub(1) {
        Some(before) if matches!(chars.get(before), Some('b' | 'c')) => before.checked_sub(1).is_some_and(is_word),
        Some(before) => is_word(before),
        None => false,
    }
}

fn end_of_raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars.iter().skip(start + 1).take_while(|&&c| c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |at: &usize| {
        chars.get(*at) == Some(&'"') && chars.iter().skip(at + 1).take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    Some((open + 1..chars.len()).find(closes).map_or(chars.len(), |at| at + 1 + hashes))
}

/// Tells a character literal from a lifetime.
fn end_of_char(chars: &[char], start: usize) -> Option<usize> {
    match chars.get(start + 1)? {
        '\\' => (start + 3..chars.len()).find(|&at| chars.get(at) == Some(&'\'')).map(|at| at + 1),
        _ if chars.get(start + 2) == Some(&'\'') => Some(start + 3),
        _ => None,
    }
}

/// The functions of a source file that are not tests. Bodies are found by matching braces.
pub(crate) fn functions(source: &str) -> Vec<Function> {
    let chars: Vec<char> = without_literals(source).chars().collect();
    let tests = test_ranges(&chars);
    let mut found = Vec::new();
    for at in word_positions(&chars, "fn") {
        if tests.iter().any(|(start, end)| (*start..*end).contains(&at)) {
            continue;
        }
        let name: String = chars.iter().skip(at + 2).skip_while(|c| c.is_whitespace()).take_while(is_word).collect();
        if name.is_empty() {
            continue; // a function pointer type
        }
        let Some(end) = end_of_item(&chars, at) else {
            continue; // a declaration without a body
        };
        let first_line = line_of(&chars, at);
        found.push(Function { name, first_line, lines: line_of(&chars, end) - first_line + 1 });
    }
    found
}

/// Whether the source has a function of this name.
pub(crate) fn has_function(source: &str, name: &str) -> bool {
    let chars: Vec<char> = without_literals(source).chars().collect();
    word_positions(&chars, "fn").into_iter().any(|at| {
        let found: String = chars.iter().skip(at + 2).skip_while(|c| c.is_whitespace()).take_while(is_word).collect();
        found == name
    })
}

fn is_word(c: &&char) -> bool {
    c.is_alphanumeric() || **c == '_'
}

fn word_positions(chars: &[char], word: &str) -> Vec<usize> {
    let word: Vec<char> = word.chars().collect();
    let matches = chars.windows(word.len()).enumerate().filter(|(_, window)| *window == word.as_slice());
    matches
        .map(|(at, _)| at)
        .filter(|&at| {
            let before = at.checked_sub(1).and_then(|at| chars.get(at));
            let after = chars.get(at + word.len());
            !before.is_some_and(|c| is_word(&c)) && !after.is_some_and(|c| is_word(&c))
        })
        .collect()
}

/// The closing brace of the item that starts here; none if it ends at a semicolon.
fn end_of_item(chars: &[char], start: usize) -> Option<usize> {
    let mut brackets = 0_usize;
    let mut braces = 0_usize;
    for (at, &c) in chars.iter().enumerate().skip(start) {
        match c {
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets = brackets.saturating_sub(1),
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// What `#[cfg(test)]` and `#[test]` stand before.
fn test_ranges(chars: &[char]) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    for mark in ["#[cfg(test)]", "#[test]", "#[tokio::test"] {
        let mark: Vec<char> = mark.chars().collect();
        for (at, window) in chars.windows(mark.len()).enumerate() {
            if window == mark.as_slice()
                && let Some(end) = end_of_item(chars, at)
            {
                ranges.push((at, end));
            }
        }
    }
    ranges
}

fn line_of(chars: &[char], at: usize) -> usize {
    1 + chars.iter().take(at).filter(|&&c| c == '\n').count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn braces_in_literals_and_comments_do_not_count() {
        let source = "fn a<'x>(s: &'x str) {\n // }\n /* { /* } */ */\n let _ = (\"}\\\"\", '}', '\\'', r#\"}\"\"#, b\"}\");\n}\nfn b() {}\n";
        let found = functions(source);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].first_line, found[0].lines), (1, 5));
        assert_eq!((found[1].name.as_str(), found[1].first_line, found[1].lines), ("b", 6, 1));
    }

    #[test]
    fn tests_declarations_and_pointers_are_not_counted() {
        let source = "trait T {\n fn declared(&self, a: [u8; 3]);\n}\ntype P = fn(u8);\n#[cfg(test)]\nmod tests {\n fn long() {\n }\n}\n#[test]\nfn one() {\n}\nfn real() {\n}\n";
        let names: Vec<_> = functions(source).into_iter().map(|function| function.name).collect();
        assert_eq!(names, ["real"]);
    }

    #[test]
    fn a_function_is_found_by_its_whole_name() {
        let source = "#[test]\nfn refuses_old_keys() {}\n// fn only_a_comment() {}\n";
        assert!(has_function(source, "refuses_old_keys"));
        assert!(!has_function(source, "refuses_old"));
        assert!(!has_function(source, "only_a_comment"));
    }
}
