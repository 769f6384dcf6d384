//! Resolves a path to the file that defines what it names, through imports and re-exports.
//!
//! Privacy plays no part, because the code compiles. Names of other crates resolve to nothing.

use std::collections::HashSet;

use super::modules::Modules;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A module, by its index.
    Module(usize),
    /// An item and the module that defines it.
    Item { module: usize, name: String },
}

impl Modules {
    /// What `path` means in the module `from`.
    pub(super) fn resolve(&self, from: usize, path: &[String]) -> Option<Target> {
        self.resolve_new(from, path, false, &mut HashSet::new())
    }

    /// True when `path` names a module, alone or together with an item of the same name.
    pub(super) fn is_module(&self, from: usize, path: &[String]) -> bool {
        let found = self.resolve_new(from, path, true, &mut HashSet::new());
        matches!(found, Some(Target::Module(_)))
    }

    /// The macro that `name!` calls in the module `from`: those of `macro_rules!` are in scope in
    /// the modules below, too.
    pub(super) fn resolve_macro(&self, from: usize, name: &str) -> Option<Target> {
        let module = self.ancestors(from).find(|module| self.0[*module].macros.contains(name))?;
        Some(Target::Item { module, name: name.to_owned() })
    }

    /// With `prefer_module`, a last name that means both a module and an item is the module. `seen`
    /// holds the names that are being looked up, so that imports that lead in a circle end.
    fn resolve_new(
        &self,
        from: usize,
        path: &[String],
        prefer_module: bool,
        seen: &mut HashSet<(usize, String, bool)>,
    ) -> Option<Target> {
        let (mut at, mut rest) = (from, path);
        while let [first, after @ ..] = rest {
            at = match first.as_str() {
                "crate" => 0,
                "self" => at,
                "super" => self.0[at].parent?,
                _ => break,
            };
            rest = after;
        }
        while let [name, after @ ..] = rest {
            match self.look_up(at, name, prefer_module || !after.is_empty(), seen)? {
                Target::Module(module) => at = module,
                item @ Target::Item { .. } => return Some(item),
            }
            rest = after;
        }
        Some(Target::Module(at))
    }

    /// A name can mean both a module and an item (`plan`, and the function in it): inside a longer
    /// path it is the module, at the end usually the item.
    fn look_up(
        &self,
        module: usize,
        name: &str,
        prefer_module: bool,
        seen: &mut HashSet<(usize, String, bool)>,
    ) -> Option<Target> {
        let here = &self.0[module];
        let child = here.children.get(name).map(|child| Target::Module(*child));
        if prefer_module && child.is_some() {
            return child;
        }
        if here.items.contains(name) {
            return Some(Target::Item { module, name: name.to_owned() });
        }
        if !seen.insert((module, name.to_owned(), prefer_module)) {
            return None;
        }
        let named = here
            .imports
            .iter()
            .filter(|import| import.name == name)
            .filter_map(|import| self.resolve_new(module, &import.path, prefer_module, seen))
            .max_by_key(|target| matches!(target, Target::Module(_)) == prefer_module);
        let found = named.or(child).or_else(|| {
            here.imports.iter().filter(|import| import.name == "*").find_map(|import| {
                match self.resolve_new(module, &import.path, true, seen)? {
                    Target::Module(other) => self.look_up(other, name, prefer_module, seen),
                    // The variants of an enum: the import itself is the mention.
                    Target::Item { .. } => None,
                }
            })
        });
        seen.remove(&(module, name.to_owned(), prefer_module));
        found
    }

    /// The module itself, its parent, and so on to the crate root.
    pub(super) fn ancestors(&self, module: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(module), |module| self.0[*module].parent)
    }
}
