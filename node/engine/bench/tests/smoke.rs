//! Every verb of the bench at a tiny size, as a process: what it prints has the form that the
//! documentation's pages are made of. No figure of speed is judged here.

use std::process::Command;

fn run(words: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_larder-engine-bench"))
        .args(words)
        .env_remove("LARDER_TRACES")
        .output()
        .expect("the bench starts");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

/// The cells of the row that begins with `name`, in the first table that has it.
fn row(text: &str, name: &str) -> Vec<String> {
    let head = format!("| {name} |");
    let line = text.lines().find_map(|line| line.strip_prefix(&head));
    let line = line.unwrap_or_else(|| panic!("no row {name} in {text}"));
    line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

fn first_number(cell: &str) -> f64 {
    let digits = |letter: char| letter.is_ascii_digit() || letter == '.';
    let number = cell.trim_start_matches('*').split(|letter| !digits(letter)).next();
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{cell:?}"))
}

#[test]
fn hit_ratios_come_as_tables_and_plots_and_a_recorded_stream_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    // Two keys by turns: every cache of eight misses each of them once.
    let keys: Vec<u8> = (0..1_000u32).flat_map(|at| (at % 2).to_be_bytes()).collect();
    std::fs::write(folder.path().join("two.trace"), keys).expect("it is ours");
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
    let same = run(&[&words[..], &["--only", "zipf-0.99"]].concat());
    assert!(same.starts_with("No recorded streams were given"));
    assert_eq!(same, run(&[&words[..], &["--only", "zipf-0.99"]].concat()), "it is seeded");
}

#[test]
fn speed_and_memory_come_as_tables_and_verdicts() {
    let words = ["engine", "--rounds", "1", "--operations", "1000", "--budget-mib", "8"];
    let only = ["--warm-up", "2000", "--only", "larder TinyLfu,quick_cache"];
    let text = run(&[&words[..], &only].concat());
    let cells = row(&text, "larder TinyLfu");
    assert_eq!(cells.len(), 12, "{text}");
    assert!(cells.iter().all(|cell| first_number(cell) > 0.0), "{text}");
    let costs = &text[text.find("## Memory").expect("a part")..];
    let mixed = row(costs, "larder TinyLfu");
    assert_eq!(mixed.len(), 4, "{text}");
    for bar in ["- P5, hits, Zipf 0.99, 2 threads: ", "- P5, bytes an entry at 64 B: ", "- C14, "] {
        assert!(text.contains(bar), "{bar} in {text}");
    }
}

#[test]
fn a_soak_prints_what_it_sees_and_ends_by_its_verdict() {
    let text = run(&["soak", "--seconds", "12", "--budget-mib", "16", "--threads", "1"]);
    assert!(text.contains("   10 s: resident ") && text.ends_with("flat\n"), "{text}");
}
