//! Checks that every relative link of the documentation leads to a file, and to a heading where it
//! names one. Never asks the network.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};

/// Where documentation is, besides the pages at the root.
const FOLDERS: [&str; 2] = ["docs", "tools"];

/// The broken links below `root`, one line each.
///
/// # Errors
/// When a page cannot be read.
pub(super) fn broken(root: &Path) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    read(root, Path::new(""), false, &mut pages)?;
    for folder in FOLDERS {
        read(root, Path::new(folder), true, &mut pages)?;
    }
    let mut broken = Vec::new();
    for (page, text) in &pages {
        for target in targets(text) {
            if let Err(why) = follow(root, page, target, &pages) {
                broken.push(format!("{}: {target}: {why}", page.display()));
            }
        }
    }
    Ok(broken)
}

fn read(
    root: &Path,
    folder: &Path,
    deep: bool,
    pages: &mut BTreeMap<PathBuf, String>,
) -> Result<()> {
    let entries = fs::read_dir(root.join(folder));
    for entry in entries.with_context(|| format!("read the folder {}", folder.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if deep {
                read(root, &path, deep, pages)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(entry.path());
            pages.insert(path.clone(), text.with_context(|| format!("read {}", path.display()))?);
        }
    }
    Ok(())
}

fn follow(
    root: &Path,
    page: &Path,
    target: &str,
    pages: &BTreeMap<PathBuf, String>,
) -> Result<(), &'static str> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(p, a)| (p, Some(a)));
    let file = if path.is_empty() {
        page.to_path_buf()
    } else {
        normal(&page.parent().unwrap_or(Path::new("")).join(path))
    };
    if !root.join(&file).exists() {
        return Err("there is no such file");
    }
    match (anchor, pages.get(&file)) {
        (None, _) => Ok(()),
        (Some(_), None) => Err("only pages have headings to link to"),
        (Some(anchor), Some(text)) if anchors(text).iter().any(|known| known == anchor) => Ok(()),
        (Some(_), Some(_)) => Err("there is no such heading"),
    }
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// The lines that are no code block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The targets of all links that stay in the project.
fn targets(text: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    for line in prose(text) {
        // Every second part is between backticks, so it is code. A link whose text is code
        // survives: its `](` begins the part behind the code.
        for part in line.split('`').step_by(2) {
            let links = part.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            targets.extend(links);
        }
    }
    targets.retain(|target| !target.contains("://") && !target.starts_with("mailto:"));
    targets
}

/// The anchors of a page's headings, as GitHub and GitLab make them.
fn anchors(text: &str) -> Vec<String> {
    let (mut anchors, mut seen) = (Vec::new(), BTreeMap::<String, usize>::new());
    for line in prose(text).filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let slug = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let count = seen.entry(slug.clone()).or_default();
        anchors.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_and_headings_are_found_and_nothing_else() {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["docs/how-to", "tools"] {
            fs::create_dir_all(root.path().join(folder)).expect("made");
        }
        let write = |path: &str, text: &str| fs::write(root.path().join(path), text).expect("ok");
        write("LICENSE", "");
        write(
            "README.md",
            "[a](docs/a.md) [b](docs/a.md#two-words-x) ![c](LICENSE) [d](https://e.org/f)\n\
             `[no](link.md)` [`code`](docs/a.md#one)\n```\n[no](link.md)\n```\n[e](gone.md)\n",
        );
        write("docs/a.md", "# One\n## Two words: `x`\n[up](../README.md) [g](#gone) [h](#one)\n");
        write("docs/how-to/b.md", "[a](../a.md) [b](../../LICENSE) [c](../../LICENSE#x)\n");
        assert_eq!(
            broken(root.path()).expect("readable"),
            [
                "README.md: gone.md: there is no such file",
                "docs/a.md: #gone: there is no such heading",
                "docs/how-to/b.md: ../../LICENSE#x: only pages have headings to link to",
            ]
        );
    }

    #[test]
    fn repeated_headings_are_numbered() {
        assert_eq!(anchors("# A b\n## A b\n## A b\n"), ["a-b", "a-b-1", "a-b-2"]);
    }
}
