//! Compares the cache with a naive model (`fuzz/src/model.rs`) under random operations and under
//! the fuzzer's corpus: every read agrees with the model, the bytes stay within their limits, and
//! every removal has a cause that the operation allows.

#[path = "../fuzz/src/model.rs"]
mod model;
#[path = "../fuzz/src/operations.rs"]
mod operations;

use std::path::Path;

use larder_engine::PolicyKind;
use proptest::prelude::*;

use self::operations::Input;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_policy_agrees_with_the_model(bytes in prop::collection::vec(any::<u8>(), 0..1_200)) {
        let input = Input::read(&bytes);
        for &policy in PolicyKind::ALL {
            model::run(&Input { policy, ..input.clone() });
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "identifies the input of a failure")]
fn every_input_of_the_fuzzers_corpus_agrees_with_the_model() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/operations");
    let files: Vec<_> = std::fs::read_dir(&corpus).expect("the corpus is committed").collect();
    assert!(files.len() >= 16, "the corpus has only {} inputs", files.len());
    for file in files {
        let path = file.expect("a readable entry").path();
        println!("{}", path.display());
        model::run(&Input::read(&std::fs::read(&path).expect("a readable file")));
    }
}
