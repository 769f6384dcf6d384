//! Runs every verb of the bench at a tiny size as a process and checks the form of its output, from
//! which the documentation's pages are generated. Does not check any speed.

use std::process::Command;

fn run(words: &[&str]) -> String {
    let (text, success, errors) = output_of(words);
    assert!(success, "{words:?}: {errors}");
    text
}

/// Standard output, success, and standard error.
fn output_of(words: &[&str]) -> (String, bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_larder-engine-bench"))
        .args(words)
        .env_remove("LARDER_TRACES")
        .output()
        .expect("the bench starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(done.stdout), done.status.success(), text(done.stderr))
}

/// The cells of the first row that starts with `name`.
fn row(text: &str, name: &str) -> Vec<String> {
    let head = format!("| {name} |");
    let line = text.lines().find_map(|line| line.strip_prefix(&head));
    let line = line.unwrap_or_else(|| panic!("no row {name} in {text}"));
    line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The first number in a cell, which may be marked.
fn first_number(cell: &str) -> f64 {
    let digits = |letter: char| letter.is_ascii_digit() || letter == '.';
    let number = cell.trim_start_matches('*').split(|letter| !digits(letter)).next();
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{cell:?}"))
}

#[test]
fn hit_ratio_prints_tables_draws_plots_and_reads_a_recorded_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    // Two alternating keys: every cache of eight slots misses each of them once.
    let keys: Vec<u8> = (0..1_000u32).flat_map(|at| (at % 2).to_be_bytes()).collect();
    std::fs::write(folder.path().join("two.trace"), keys).expect("a writable folder");
    let place = folder.path().to_str().expect("plain");
    let words = ["hit-ratio", "--sizes", "1,10", "--requests", "5000"];
    let text = run(&[&words[..], &["--traces", place, "--plots", place]].concat());
    for name in ["two", "zipf-0.7", "zipf-0.99", "zipf-1.2", "scan-mix", "loop", "shifting"] {
        assert!(text.contains(&format!("\n## {name}\n")), "{name} in {text}");
        let plot = std::fs::read_to_string(folder.path().join(format!("{name}.svg")));
        let plot = plot.expect("a plot for each stream");
        assert!(plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"));
        assert!(plot.contains("Bélády") && plot.contains("<polyline"));
    }
    for name in ["Lru", "Fifo", "quick_cache", "Bélády"] {
        assert_eq!(row(&text, name), ["99.80", "99.80"], "{name} in {text}");
    }
    assert_eq!(row(&text[text.find("## loop").expect("above")..], "Lru").len(), 4);
    let again = run(&[&words[..], &["--only", "zipf-0.99"]].concat());
    assert!(again.starts_with("No recorded streams"));
    // The streams and the engine's hashes are seeded; moka's and TinyUFO's hashes are not.
    let part = |text: &str| text[text.find("## zipf-0.99").expect("above")..].to_owned();
    for name in ["TinyLfu (default)", "Sieve", "quick_cache", "Bélády"] {
        assert_eq!(row(&part(&text), name), row(&part(&again), name), "{name}");
    }
}

#[test]
fn engine_prints_tables_and_verdicts_of_speed_and_memory() {
    let words = ["engine", "--rounds", "1", "--operations", "1000", "--budget-mib", "8"];
    let only = ["--warm-up", "2000", "--only", "larder TinyLfu,quick_cache"];
    let text = run(&[&words[..], &only].concat());
    let cells = row(&text, "larder TinyLfu");
    assert_eq!(cells.len(), 12, "{text}");
    let hits = |cell: &String| cell.split_once('(').map(|(_, hits)| first_number(hits));
    let hits: Vec<f64> = cells.iter().filter_map(hits).collect();
    assert_eq!(hits.iter().filter(|&&hits| hits == 100.0).count(), 6, "all resident: {text}");
    assert!(hits.iter().all(|&hits| hits > 1.0), "{text}");
    let costs = &text[text.find("## Memory").expect("a part")..];
    let mixed = row(costs, "larder TinyLfu");
    assert_eq!(mixed.len(), 4, "{text}");
    for bar in [
        "- Speed, hits, Zipf 0.99, 2 threads: ",
        "- Memory, bytes per entry at 64 B: ",
        "- Accounting, values of 64 B: ",
    ] {
        assert!(text.contains(bar), "{bar} in {text}");
    }
}

#[test]
fn soak_prints_samples_and_its_exit_code_follows_its_verdict() {
    let words = ["soak", "--seconds", "12", "--budget-mib", "16", "--threads", "1"];
    let (text, success, errors) = output_of(&words);
    assert!(text.contains(" s: resident ") && text.contains("band: 5 %"), "{text}{errors}");
    // On a busy machine, the memory of so small a cache may not be flat. Then the run must fail.
    assert_eq!(success, text.ends_with("flat\n"), "{text}{errors}");
}
