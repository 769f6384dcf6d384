//! The cache beside a naive model (`fuzz/src/model.rs`), under random operations and under those
//! that the fuzzer found worth keeping: each answer is what the model holds, what is held fits,
//! and nothing leaves but by a cause that the operation allows.

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
    fn every_policy_answers_like_the_model(bytes in prop::collection::vec(any::<u8>(), 0..1_200)) {
        let input = Input::read(&bytes);
        for &policy in PolicyKind::ALL {
            model::run(&Input { policy, ..input.clone() });
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "shown with a failure, to tell which input it was")]
fn what_the_fuzzer_found_worth_keeping_still_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/operations");
    let files: Vec<_> = std::fs::read_dir(&corpus).expect("the corpus is committed").collect();
    assert!(files.len() >= 16, "{} inputs are no corpus", files.len());
    for file in files {
        let path = file.expect("a readable entry").path();
        println!("{}", path.display());
        model::run(&Input::read(&std::fs::read(&path).expect("a readable file")));
    }
}
