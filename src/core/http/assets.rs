//! The files of `client/`, built into the binary.
//!
//! A request's path is only ever compared with the paths of the table below, never joined to a directory's:
//! there is no way out of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use super::answer::Answer;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The paths a file is found under, its type, its name in `client/`.
macro_rules! table {
    ($($paths:expr, $content_type:expr, $file:literal;)*) => {
        vec![$(Asset::new(&$paths, $content_type, include_bytes!(concat!("../../../client/", $file)))),*]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    table! {
        ["/", "/index.html"], HTML, "index.html";
        ["/chat", "/chat.html"], HTML, "chat.html";
        ["/dashboard", "/dashboard.html"], HTML, "dashboard.html";
        ["/inside", "/inside.html"], HTML, "inside.html";
        ["/styles.css"], CSS, "styles.css";
        ["/icon.svg"], SVG, "icon.svg";
        ["/i18n.js"], JAVASCRIPT, "i18n.js";
        ["/page.js"], JAVASCRIPT, "page.js";
        ["/connection.js"], JAVASCRIPT, "connection.js";
        ["/index.js"], JAVASCRIPT, "index.js";
        ["/wire.js"], JAVASCRIPT, "wire.js";
        ["/theory.js"], JAVASCRIPT, "theory.js";
        ["/chat-log.js"], JAVASCRIPT, "chat-log.js";
        ["/chat-view.js"], JAVASCRIPT, "chat-view.js";
        ["/chat.js"], JAVASCRIPT, "chat.js";
        ["/chart.js"], JAVASCRIPT, "chart.js";
        ["/dashboard.js"], JAVASCRIPT, "dashboard.js";
        ["/inside-texts.js"], JAVASCRIPT, "inside-texts.js";
        ["/inside-charts.js"], JAVASCRIPT, "inside-charts.js";
        ["/inside.js"], JAVASCRIPT, "inside.js";
    }
});

/// A file to be served.
pub(super) struct Asset {
    paths: &'static [&'static str],
    content_type: &'static str,
    content: &'static [u8],
    /// Made of the content, so a new binary with the same file keeps the peers' copies good.
    etag: String,
}

/// The file under this path.
pub(super) fn at(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.paths.contains(&path))
}

impl Asset {
    fn new(
        paths: &'static [&'static str],
        content_type: &'static str,
        content: &'static [u8],
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self {
            paths,
            content_type,
            content,
            etag: format!("\"{:016x}\"", hasher.finish()),
        }
    }

    /// The file, or word that the copy named by `If-None-Match` is still good.
    pub(super) fn answer(&self, if_none_match: Option<&str>) -> Answer<'_> {
        if if_none_match.is_some_and(|list| names(list, &self.etag)) {
            Answer::not_modified(&self.etag)
        } else {
            Answer::file(self.content_type, &self.etag, self.content)
        }
    }
}

/// RFC 9110 §13.1.2: the comparison is weak. Our tags hold no comma, so a foreign one that does cannot match by parts.
fn names(list: &str, etag: &str) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_stands_for_two_files_and_each_starts_at_the_root() {
        let paths: Vec<&str> = ASSETS
            .iter()
            .flat_map(|asset| asset.paths)
            .copied()
            .collect();
        for (nth, path) in paths.iter().enumerate() {
            assert!(path.starts_with('/'), "{path}");
            assert!(!paths[..nth].contains(path), "{path} is there twice");
        }
    }

    #[test]
    fn paths_are_exact() {
        for path in [
            "",
            "//",
            "/index",
            "/Chat.html",
            "/chat/",
            "/../Cargo.toml",
            "/client/chat.html",
            "/chat%2ehtml",
        ] {
            assert!(at(path).is_none(), "{path}");
        }
    }

    #[test]
    fn if_none_match_is_a_list_compared_weakly() {
        for list in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "\"b\",W/\"a\" ", "*"] {
            assert!(names(list, "\"a\""), "{list}");
        }
        for list in ["", "a", "\"b\"", "W/\"b\"", "\"A\"", "w/\"a\""] {
            assert!(!names(list, "\"a\""), "{list}");
        }
    }
}
