//! Checks that the page of conditions and events names every reason that the operator's sources
//! hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The page.
const PAGE: &str = "docs/reference/conditions.md";
/// The sources that give reasons.
const SOURCES: [&str; 4] = [
    "operator/src/cluster.rs",
    "operator/src/cluster/status.rs",
    "operator/src/group.rs",
    "operator/src/group/status.rs",
];
/// Values of the same form that are no reasons: kinds, and a condition's status.
const OTHERS: [&str; 4] = ["CacheCluster", "CacheGroup", "True", "False"];

/// The reasons that the page lacks.
///
/// # Errors
/// When the page or a source cannot be read.
pub(super) fn missing(root: &Path) -> Result<Vec<String>> {
    let read =
        |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("read {file}"));
    let page = read(PAGE)?;
    let mut reasons = BTreeSet::new();
    for file in SOURCES {
        reasons.extend(reasons_in(&read(file)?).map(str::to_owned).collect::<Vec<_>>());
    }
    let lacks = |reason: &String| !page.contains(&format!("`{reason}`"));
    Ok(reasons.into_iter().filter(lacks).map(|reason| format!("{PAGE}: {reason}")).collect())
}

/// The string literals in CamelCase before a file's tests.
fn reasons_in(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("\n#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(|literal| {
        let camel = literal.starts_with(|c: char| c.is_ascii_uppercase())
            && literal.chars().all(|c| c.is_ascii_alphabetic());
        camel && !OTHERS.contains(literal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_the_camel_case_literals_before_the_tests() {
        let source = "// \"Comment\"\nno(\"MemberDown\", \"one down\");\nkind: \"CacheGroup\"\n\
                      #[cfg(test)]\nmod tests { \"Other\" }\n";
        assert_eq!(reasons_in(source).collect::<Vec<_>>(), ["MemberDown"]);
    }

    #[test]
    fn the_operator_has_reasons_to_document() {
        let root = crate::workspace::root();
        let of = |file: &str| fs::read_to_string(root.join(file)).expect("a source");
        assert!(reasons_in(&of(SOURCES[1])).count() > 10);
    }
}
