//! Small crates, each with one way to import.

use std::fs;

use super::*;

/// The findings for a crate of these files, with paths relative to its folder.
fn check(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }
    let modules = Modules::read(&folder.path().join("lib.rs")).expect("the files are Rust");
    findings(&modules, folder.path())
}

#[track_caller]
fn has_circle(files: &[(&str, &str)], lines: &[&str]) {
    let found = check(files);
    assert_eq!(found.len(), 1, "{found:?}");
    let edges: Vec<&str> = found[0].lines().filter(|line| line.contains(" -> ")).collect();
    let edges: Vec<&str> = edges.iter().map(|line| line.trim()).collect();
    assert_eq!(edges, lines, "{}", found[0]);
}

#[track_caller]
fn has_none(files: &[(&str, &str)]) {
    assert_eq!(check(files), Vec::<String>::new());
}

#[test]
fn two_files_that_import_each_other_are_a_circle() {
    has_circle(
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::{B, make}; pub struct A(B);"),
            ("b.rs", "pub struct B; pub fn make() -> Option<super::a::A> { None }"),
        ],
        &["a.rs -> b.rs: B, make", "b.rs -> a.rs: A"],
    );
}

#[test]
fn imports_in_one_direction_are_no_circle() {
    has_none(&[
        ("lib.rs", "mod a; mod b; mod c; pub use a::A;"),
        ("a.rs", "use crate::b::B; use crate::c::C; pub struct A(B, C);"),
        ("b.rs", "use super::c::C; pub struct B(C);"),
        ("c.rs", "use std::rc::Rc; pub struct C(Rc<C>);"),
    ]);
}

#[test]
fn a_circle_of_three_lists_each_import_and_no_file_outside() {
    has_circle(
        &[
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B; use crate::d::D; pub struct A(B, D);"),
            ("b.rs", "use crate::c::C; pub struct B(C);"),
            ("c.rs", "use crate::a::A; pub struct C(Box<A>);"),
            ("d.rs", "pub struct D;"),
        ],
        &["a.rs -> b.rs: B", "b.rs -> c.rs: C", "c.rs -> a.rs: A"],
    );
}

#[test]
fn a_re_export_leads_to_the_file_that_defines_the_name() {
    has_none(&[
        ("lib.rs", "mod cache; mod metrics;"),
        (
            "cache.rs",
            "mod answer; pub use answer::Answer; use crate::metrics::count; fn f() { count() }",
        ),
        ("cache/answer.rs", "pub struct Answer;"),
        ("metrics.rs", "use crate::cache::Answer; pub fn count() { Answer; }"),
    ]);
    has_circle(
        &[
            ("lib.rs", "mod cache; mod metrics;"),
            ("cache.rs", "mod answer; pub use answer::Answer;"),
            ("cache/answer.rs", "use crate::metrics::Count; pub struct Answer(Count);"),
            ("metrics.rs", "use crate::cache; pub struct Count(Option<Box<cache::Answer>>);"),
        ],
        &["cache/answer.rs -> metrics.rs: Count", "metrics.rs -> cache/answer.rs: Answer"],
    );
}

#[test]
fn a_parent_that_uses_a_child_that_uses_the_parent_is_a_circle() {
    has_circle(
        &[
            ("lib.rs", "mod parent;"),
            ("parent.rs", "mod child; pub struct Limit; fn run() { child::check(Limit) }"),
            ("parent/child.rs", "pub(super) fn check(_: super::Limit) {}"),
        ],
        &["parent/child.rs -> parent.rs: Limit", "parent.rs -> parent/child.rs: check"],
    );
}

#[test]
fn a_parent_may_publish_a_child_that_uses_it() {
    has_none(&[
        ("lib.rs", "mod parent;"),
        ("parent.rs", "mod child; pub(crate) use self::child::check; pub struct Limit;"),
        ("parent/child.rs", "use super::Limit; pub(crate) fn check(_: Limit) {}"),
    ]);
    // As soon as its own code calls what it publishes, it depends on the child.
    has_circle(
        &[
            ("lib.rs", "mod parent;"),
            (
                "parent.rs",
                "mod child; pub use self::child::check; pub struct Limit; fn f() { check(Limit) }",
            ),
            ("parent/child.rs", "use super::Limit; pub fn check(_: Limit) {}"),
        ],
        &["parent/child.rs -> parent.rs: Limit", "parent.rs -> parent/child.rs: check"],
    );
}

#[test]
fn a_re_export_of_another_folders_name_is_an_import() {
    has_circle(
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B(crate::a::A);"),
        ],
        &["a.rs -> b.rs: B", "b.rs -> a.rs: A"],
    );
}

#[test]
fn paths_in_macros_attributes_types_and_patterns_count() {
    let uses = [
        "fn f() { format!(\"{}\", crate::b::B::new(1)); }",
        "#[derive(Debug)] struct S(#[cfg_attr(x, default(crate::b::B))] u8);",
        "fn f(x: Option<[crate::b::B; 2]>) {}",
        "fn f(x: u8) { match x { super::b::B => {} _ => {} } }",
        "fn f() { use crate::b::B; }",
        "use crate::b; impl Clone for b::B {}",
        "use crate::b::*; fn f() -> B { todo() }",
        "use crate::b as other; fn f() { other::B; }",
        "mod inner { fn f() { super::super::b::B; } }",
        "trait T: crate::b::B {}",
    ];
    for text in uses {
        has_circle(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", &format!("pub struct A; {text}")),
                ("b.rs", "pub struct B(crate::a::A);"),
            ],
            &["a.rs -> b.rs: B", "b.rs -> a.rs: A"],
        );
    }
}

#[test]
fn a_macro_of_the_parent_is_an_import() {
    has_circle(
        &[
            ("lib.rs", "mod parent;"),
            ("parent.rs", "macro_rules! wrap { () => {} } mod child; fn f() { child::g() }"),
            ("parent/child.rs", "pub fn g() { wrap!() }"),
        ],
        &["parent/child.rs -> parent.rs: wrap", "parent.rs -> parent/child.rs: g"],
    );
}

#[test]
fn tests_do_not_count() {
    has_none(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "pub struct A; #[cfg(test)] mod tests; #[cfg(test)] use crate::b::B; \
             impl A { #[cfg(test)] fn x() { crate::b::B; } } #[test] fn t() { crate::b::B; }",
        ),
        ("a/tests.rs", "use crate::b::B;"),
        ("b.rs", "pub struct B(crate::a::A);"),
    ]);
}

#[test]
fn variables_and_names_of_other_crates_are_no_imports() {
    has_none(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "mod plan; pub use plan::plan; use b::B; pub struct A; \
             fn f(plan: u8, s: S) { let x = plan + 1; s.plan(); vec![plan, s.plan]; ::b::B; }",
        ),
        ("a/plan.rs", "use super::A; pub fn plan(_: A) {}"),
        ("b.rs", "pub struct B(crate::a::A);"),
    ]);
}

#[test]
fn a_module_and_a_function_of_one_name_are_different_imports() {
    let files = |child: &'static str| {
        [
            ("lib.rs", "mod parent;"),
            (
                "parent.rs",
                "mod child; mod load; pub fn load() {} fn f() { child::g(); load::into() }",
            ),
            ("parent/load.rs", "pub fn into() {}"),
            ("parent/child.rs", child),
        ]
    };
    has_none(&files("use super::load; pub fn g() { load::into() }"));
    has_circle(
        &files("use super::load; pub fn g() { load() }"),
        &["parent/child.rs -> parent.rs: load", "parent.rs -> parent/child.rs: g"],
    );
}

#[test]
fn imports_that_lead_to_themselves_end() {
    has_none(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use rand; use tokio::*; pub use crate::b::*; fn f() { rand::x(); y(); }"),
        ("b.rs", "pub use crate::a::*; use anyhow::*; fn g() { z(); }"),
    ]);
}

#[test]
fn a_file_that_does_not_exist_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let root = folder.path().join("lib.rs");
    fs::write(&root, "mod missing;").expect("it can be written");
    let error = Modules::read(&root).expect_err("there is no such file").to_string();
    assert!(error.contains("missing"), "{error}");
}
