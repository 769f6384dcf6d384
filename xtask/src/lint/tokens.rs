//! Paths in the arguments of macros and attributes, which a parser sees as plain tokens.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path in the code, other than in a `use` declaration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) path: Vec<String>,
    /// It is the function of a call, so a single lower-case name is not a variable.
    pub(super) called: bool,
}

/// Adds each path in `tokens`. A single lower-case name counts only when it is called: otherwise it
/// can be a variable, a field or a keyword.
pub(super) fn mentions(tokens: TokenStream, found: &mut Vec<Mention>) {
    let mut path: Vec<String> = Vec::new();
    // What precedes the next name: the colons of a path, or the dot of a field or method.
    let mut colons = 0;
    let mut after_dot = false;
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                if colons != 2 {
                    end(&mut path, false, found);
                }
                // Fields and methods are no paths, and `::name` is another crate.
                if !after_dot && (colons != 2 || !path.is_empty()) {
                    path.push(name.to_string());
                }
                (colons, after_dot) = (0, false);
            }
            TokenTree::Punct(punct) => {
                colons = if punct.as_char() == ':' { colons + 1 } else { 0 };
                // The second dot of a range is no field access.
                after_dot = punct.as_char() == '.' && !after_dot;
                if colons == 0 {
                    end(&mut path, false, found);
                }
            }
            TokenTree::Group(group) => {
                end(&mut path, group.delimiter() == Delimiter::Parenthesis, found);
                (colons, after_dot) = (0, false);
                mentions(group.stream(), found);
            }
            TokenTree::Literal(_) => {
                end(&mut path, false, found);
                (colons, after_dot) = (0, false);
            }
        }
    }
    end(&mut path, false, found);
}

fn end(path: &mut Vec<String>, called: bool, found: &mut Vec<Mention>) {
    let is_name = match path.as_slice() {
        [] => false,
        [name] => called || name.starts_with(|first: char| first.is_uppercase()),
        _ => true,
    };
    if is_name {
        found.push(Mention { path: std::mem::take(path), called });
    } else {
        path.clear();
    }
}

/// True when a `cfg` predicate can hold only where `flag` is set: it is the flag, or an `all` with
/// the flag in it.
pub(super) fn requires(predicate: TokenStream, flag: &str) -> bool {
    let tokens: Vec<TokenTree> = predicate.into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(name)] => name == flag,
        [TokenTree::Ident(name), TokenTree::Group(group)] if name == "all" => group
            .stream()
            .into_iter()
            .any(|token| matches!(token, TokenTree::Ident(name) if name == flag)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> TokenStream {
        text.parse().expect("the text has balanced brackets")
    }

    #[test]
    fn paths_types_and_calls_are_mentions_and_fields_are_not() {
        let mut found = Vec::new();
        let text = "name, x.field, x.method(1), crate::a::B { c: D::<e::F>::new() }, call(g), \
                    ::other::G, \"h\" => I, 0..crate::c::J";
        mentions(parse(text), &mut found);
        let paths: Vec<String> = found.iter().map(|mention| mention.path.join("::")).collect();
        assert_eq!(paths, ["crate::a::B", "D", "e::F", "call", "I", "crate::c::J"]);
        assert!(found[3].called && !found[4].called);
    }

    #[test]
    fn only_a_predicate_that_needs_the_flag_requires_it() {
        assert!(requires(parse("test"), "test"));
        assert!(requires(parse("all(unix, test)"), "test"));
        for free in ["any(test, feature = \"x\")", "not(test)", "unix"] {
            assert!(!requires(parse(free), "test"), "{free}");
        }
    }
}
