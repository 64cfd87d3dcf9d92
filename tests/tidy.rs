//! The rules of the house that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

/// The Rust files under a folder, with their texts.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources under {folder}");
    found
}

/// The rooms of this crate that a text names: `config` in `crate::config::Config`.
fn rooms_named(text: &str) -> Vec<&str> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|path| {
            path.split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
        })
        .map(Option::unwrap_or_default)
        .collect()
}

/// What stands before the tests of a file.
fn without_tests(text: &str) -> &str {
    let tests = text.find("#[cfg(test)]").into_iter();
    let cut = tests.chain(text.find("#[cfg(all(test")).min();
    &text[..cut.unwrap_or(text.len())]
}

#[test]
fn rooms_import_only_what_lies_below_them() {
    for (room, may_import) in [
        ("src/core", &["core"][..]),
        ("src/net", &["core", "net"]),
        ("src/host", &["core", "net", "host", "config"]),
        ("src/evloop", &["core", "net", "host", "config", "evloop"]),
        ("src/threads", &["core", "net", "host", "config", "threads"]),
    ] {
        for (path, text) in sources(room) {
            if path.ends_with("tests.rs") {
                continue;
            }
            for named in rooms_named(without_tests(&text)) {
                assert!(
                    may_import.contains(&named),
                    "{} names {named}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for folder in ["src", "compare/src", "tests"] {
        for (path, text) in sources(folder) {
            if !path
                .components()
                .any(|part| part.as_os_str() == "node_modules")
            {
                assert!(text.starts_with("//!"), "{} has no header", path.display());
            }
        }
    }
}

#[test]
fn no_file_holds_more_than_one_idea() {
    /// Lines of a file, its tests not counted.
    const LINES_MAX: usize = 600;
    for (path, text) in sources("src") {
        let lines = without_tests(&text).lines().count();
        let is_test = path.ends_with("tests.rs");
        assert!(
            is_test || lines <= LINES_MAX,
            "{}: {lines} lines",
            path.display()
        );
    }
}
