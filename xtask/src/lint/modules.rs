//! The modules of one crate, as its sources declare them: what each defines, imports and mentions.
//!
//! Test code does not count: items under `#[cfg(test)]`, test functions, and files that only such
//! items declare. Macros are not expanded; the paths in their arguments count. Start at
//! [`Modules::read`].

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::TokenStream;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, ItemMod, ItemUse, Meta, Pat, UseTree, Visibility};

use super::tokens::{self, Mention};

/// A crate's modules; the first is the crate root.
#[derive(Debug, Default)]
pub(super) struct Modules(pub(super) Vec<Module>);

/// One module, which is a file or a part of one.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Where its items are written.
    pub(super) file: PathBuf,
    /// None for the crate root.
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    /// Names of the items that it defines itself.
    pub(super) items: BTreeSet<String>,
    /// Names of the `macro_rules!` among them.
    pub(super) macros: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    pub(super) mentions: Vec<Mention>,
    /// Names of macros that are called without a path.
    pub(super) macro_calls: BTreeSet<String>,
    /// Names of parameters and local variables.
    pub(super) variables: HashSet<String>,
}

/// One name that a `use` declaration brings in.
#[derive(Debug)]
pub(super) struct Import {
    /// `*` for everything in the module, `_` for a trait without a name.
    pub(super) name: String,
    pub(super) path: Vec<String>,
    /// Other modules can import the name from here.
    pub(super) reexported: bool,
}

impl Modules {
    /// Reads the crate whose root is `file`, and each file that it declares with `mod`.
    ///
    /// # Errors
    /// When a file does not exist, cannot be read, or is not Rust.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let mut modules = Self::default();
        modules.read_file(file, file.parent().unwrap_or(Path::new("")), None)?;
        Ok(modules)
    }

    /// Adds the module in `file`, whose child modules are in `folder`.
    fn read_file(&mut self, file: &Path, folder: &Path, parent: Option<usize>) -> Result<usize> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("could not read {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| {
            format!("could not parse {}: run `cargo check` for the place", file.display())
        })?;
        self.read_items(file, folder, parent, &parsed.items)
    }

    fn read_items(
        &mut self,
        file: &Path,
        folder: &Path,
        parent: Option<usize>,
        items: &[Item],
    ) -> Result<usize> {
        let module = self.0.len();
        self.0.push(Module { file: file.to_owned(), parent, ..Module::default() });
        let mut reader = Reader { module: &mut self.0[module], children: Vec::new() };
        for item in items {
            let (attributes, name) = attributes_and_name(item);
            if !is_test(attributes) {
                reader.add_definition(item, name);
                reader.visit_item(item);
            }
        }
        for child in reader.children {
            let name = child.ident.to_string();
            let inner = folder.join(&name);
            let child = match &child.content {
                Some((_, items)) => self.read_items(file, &inner, Some(module), items)?,
                None => {
                    let file = inner.with_extension("rs");
                    let file = if file.exists() { file } else { inner.join("mod.rs") };
                    self.read_file(&file, &inner, Some(module))?
                }
            };
            self.0[module].children.insert(name, child);
        }
        Ok(module)
    }
}

/// Collects what one module imports and mentions, without its child modules.
struct Reader<'a, 'ast> {
    module: &'a mut Module,
    children: Vec<&'ast ItemMod>,
}

impl<'ast> Visit<'ast> for Reader<'_, 'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(attributes_and_name(item).0) {
            return;
        }
        match item {
            Item::Mod(child) => self.children.push(child),
            Item::Use(declaration) => self.add_imports(declaration),
            other => visit::visit_item(self, other),
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let path = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.module.mentions.push(Mention { path, called: false });
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(function) = &*call.func
            && let Some(name) = function.path.get_ident()
        {
            self.module.mentions.push(Mention { path: vec![name.to_string()], called: true });
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_pat(&mut self, pattern: &'ast Pat) {
        // `None` and `LIMIT` are patterns that name an item; a variable is in lower case.
        if let Pat::Ident(pattern) = pattern {
            let name = pattern.ident.to_string();
            if name.starts_with(|first: char| first.is_uppercase()) {
                self.module.mentions.push(Mention { path: vec![name], called: false });
            } else {
                self.module.variables.insert(name);
            }
        }
        visit::visit_pat(self, pattern);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        match call.path.get_ident() {
            Some(name) => {
                self.module.macro_calls.insert(name.to_string());
            }
            None => self.visit_path(&call.path),
        }
        self.visit_token_stream(&call.tokens);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        // The attribute's own name is no path to an item of the crate.
        match &attribute.meta {
            Meta::Path(_) => {}
            Meta::List(list) => self.visit_token_stream(&list.tokens),
            Meta::NameValue(pair) => self.visit_expr(&pair.value),
        }
    }

    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        tokens::mentions(tokens.clone(), &mut self.module.mentions);
    }
}

impl Reader<'_, '_> {
    fn add_definition(&mut self, item: &Item, name: Option<&syn::Ident>) {
        let Some(name) = name else { return };
        if matches!(item, Item::Macro(_)) {
            self.module.macros.insert(name.to_string());
        }
        self.module.items.insert(name.to_string());
    }

    fn add_imports(&mut self, declaration: &ItemUse) {
        if declaration.leading_colon.is_none() {
            let reexported = !matches!(declaration.vis, Visibility::Inherited);
            self.add_import_tree(&declaration.tree, &[], reexported);
        }
    }

    fn add_import_tree(&mut self, tree: &UseTree, prefix: &[String], reexported: bool) {
        let with = |last: String| [prefix, &[last]].concat();
        let (name, path) = match tree {
            UseTree::Path(path) => {
                let prefix = with(path.ident.to_string());
                return self.add_import_tree(&path.tree, &prefix, reexported);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_import_tree(tree, prefix, reexported);
                }
                return;
            }
            UseTree::Glob(_) => ("*".to_owned(), prefix.to_vec()),
            // `use a::b::{self}` brings in b.
            UseTree::Name(name) if name.ident == "self" => match prefix.last() {
                Some(last) => (last.clone(), prefix.to_vec()),
                None => return,
            },
            UseTree::Name(name) => (name.ident.to_string(), with(name.ident.to_string())),
            UseTree::Rename(rename) if rename.ident == "self" => {
                (rename.rename.to_string(), prefix.to_vec())
            }
            UseTree::Rename(rename) => (rename.rename.to_string(), with(rename.ident.to_string())),
        };
        self.module.imports.push(Import { name, path, reexported });
    }
}

/// True for `#[test]`, `#[tokio::test]`, `#[cfg(test)]` and `#[cfg(all(test, …))]`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            tokens::requires(list.tokens.clone(), "test")
        }
        Meta::List(list) => list.path.segments.last().is_some_and(|last| last.ident == "test"),
        Meta::NameValue(_) => false,
    })
}

/// The name is the one under which other code mentions the item.
fn attributes_and_name(item: &Item) -> (&[Attribute], Option<&syn::Ident>) {
    match item {
        Item::Const(item) => (&item.attrs, Some(&item.ident)),
        Item::Enum(item) => (&item.attrs, Some(&item.ident)),
        Item::ExternCrate(item) => (&item.attrs, None),
        Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
        Item::ForeignMod(item) => (&item.attrs, None),
        Item::Impl(item) => (&item.attrs, None),
        Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
        Item::Mod(item) => (&item.attrs, None),
        Item::Static(item) => (&item.attrs, Some(&item.ident)),
        Item::Struct(item) => (&item.attrs, Some(&item.ident)),
        Item::Trait(item) => (&item.attrs, Some(&item.ident)),
        Item::TraitAlias(item) => (&item.attrs, Some(&item.ident)),
        Item::Type(item) => (&item.attrs, Some(&item.ident)),
        Item::Union(item) => (&item.attrs, Some(&item.ident)),
        Item::Use(item) => (&item.attrs, None),
        _ => (&[], None),
    }
}
