//! Every verb of the bench at a tiny size, as a process: what it prints has the form that the
//! documentation's pages are made of. No figure of speed is judged here.

use std::process::Command;

fn run(words: &[&str]) -> String {
    let (text, success, complaint) = end_of(words);
    assert!(success, "{words:?}: {complaint}");
    text
}

/// What it prints, whether it succeeds, and what it complains of.
fn end_of(words: &[&str]) -> (String, bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_larder-engine-bench"))
        .args(words)
        .env_remove("LARDER_TRACES")
        .output()
        .expect("the bench starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(done.stdout), done.status.success(), text(done.stderr))
}

/// The cells of the row that begins with `name`, in the first table that has it.
fn row(text: &str, name: &str) -> Vec<String> {
    let head = format!("| {name} |");
    let line = text.lines().find_map(|line| line.strip_prefix(&head));
    let line = line.unwrap_or_else(|| panic!("no row {name} in {text}"));
    line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// Of a cell that may be marked.
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
    let again = run(&[&words[..], &["--only", "zipf-0.99"]].concat());
    assert!(again.starts_with("No recorded streams were given"));
    // The streams and our hashes are seeded; moka's and TinyUFO's hashes are not.
    let part = |text: &str| text[text.find("## zipf-0.99").expect("above")..].to_owned();
    for name in ["TinyLfu (default)", "Sieve", "quick_cache", "Bélády"] {
        assert_eq!(row(&part(&text), name), row(&part(&again), name), "{name}");
    }
}

#[test]
fn speed_and_memory_come_as_tables_and_verdicts() {
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
    for bar in ["- hits, Zipf 0.99, 2 threads: ", "- bytes per entry at 64 B: ", "- values of "] {
        assert!(text.contains(bar), "{bar} in {text}");
    }
}

#[test]
fn a_soak_prints_what_it_sees_and_ends_by_its_verdict() {
    let words = ["soak", "--seconds", "12", "--budget-mib", "16", "--threads", "1"];
    let (text, success, complaint) = end_of(&words);
    assert!(text.contains(" s: resident ") && text.contains("band: 5 %"), "{text}{complaint}");
    // On a busy machine a cache this small may look anything but flat: then it must say so.
    assert_eq!(success, text.ends_with("flat\n"), "{text}{complaint}");
}
