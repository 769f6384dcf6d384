//! Finds modules of a crate that import each other in a circle. Start at [`findings`].
//!
//! A file imports another when it names something that the other defines, in a `use` declaration or
//! anywhere in its code. A `mod` declaration and the re-export of a child's name are not imports, so
//! a parent may publish what its children define. It may not use a child that uses the parent.
//! Method calls do not count, because the type of their receiver is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::modules::{Import, Modules};
use super::names::Target;

/// From a file to each file that it imports, with the names that it takes from there.
type Imports<'a> = BTreeMap<&'a Path, BTreeMap<&'a Path, BTreeSet<String>>>;

/// One finding per circle: its files, then each import between two of them. Paths are relative to
/// `root`.
pub(super) fn findings(modules: &Modules, root: &Path) -> Vec<String> {
    let imports = imports(modules);
    let shown = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
    let describe = |files: &BTreeSet<&Path>| {
        let list: Vec<String> = files.iter().map(|file| shown(file)).collect();
        let mut text = format!(
            "circle of imports between {} files: {}\n  \
             remove one direction: move what both sides need to a file below them, or pass it in\n",
            list.len(),
            list.join(", ")
        );
        for (from, targets) in imports.iter().filter(|(from, _)| files.contains(*from)) {
            for (to, names) in targets.iter().filter(|(to, _)| files.contains(*to)) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let _ = writeln!(text, "  {} -> {}: {}", shown(from), shown(to), names.join(", "));
            }
        }
        text
    };
    circles(&imports).iter().map(describe).collect()
}

fn imports(modules: &Modules) -> Imports<'_> {
    let mut imports = Imports::new();
    let mut add = |from: usize, target: Option<Target>, reexported: bool| {
        let Some(Target::Item { module, name }) = target else { return };
        let (file, other) = (&modules.0[from].file, &modules.0[module].file);
        let publishes_child = reexported && modules.ancestors(module).any(|above| above == from);
        if file != other && !publishes_child {
            imports.entry(file).or_default().entry(other).or_default().insert(name);
        }
    };
    for (index, module) in modules.0.iter().enumerate() {
        // The import of a name that means both a module and an item shows no use of the item.
        let of_items = |import: &&Import| !modules.is_module(index, &import.path);
        for import in module.imports.iter().filter(of_items) {
            add(index, modules.resolve(index, &import.path), import.reexported);
        }
        for mention in &module.mentions {
            let may_be_variable = match mention.path.as_slice() {
                [name] => !mention.called && module.variables.contains(name),
                _ => false,
            };
            if !may_be_variable {
                add(index, modules.resolve(index, &mention.path), false);
            }
        }
        for name in &module.macro_calls {
            add(index, modules.resolve_macro(index, name), false);
        }
    }
    imports
}

/// The sets of files that reach each other.
fn circles<'a>(imports: &Imports<'a>) -> Vec<BTreeSet<&'a Path>> {
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        imports.keys().map(|file| (*file, reachable(imports, file))).collect();
    let reaches =
        |from: &Path, to: &Path| reached.get(from).is_some_and(|files| files.contains(to));
    let mut circles = BTreeSet::new();
    for file in imports.keys().filter(|file| reaches(file, file)) {
        let circle: BTreeSet<&Path> =
            reached[file].iter().copied().filter(|other| reaches(other, file)).collect();
        circles.insert(circle);
    }
    circles.into_iter().collect()
}

/// The files that can be reached from `file` over one import or more.
fn reachable<'a>(imports: &Imports<'a>, file: &Path) -> BTreeSet<&'a Path> {
    let mut found = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        for next in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(*next) {
                open.push(next);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
