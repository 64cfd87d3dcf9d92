//! Sayings for people, in Vietnamese and in English, and numbers as people read them.

use clap::ValueEnum;
use serde::Serialize;

/// A language of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    Vi,
    En,
}

impl Lang {
    /// Vietnamese for a Vietnamese system, English for any other.
    pub(crate) fn of_locale(locale: Option<&str>) -> Self {
        let language = locale.and_then(|name| name.split(['-', '_', '.']).next());
        match language {
            Some(vi) if vi.eq_ignore_ascii_case("vi") => Self::Vi,
            _ => Self::En,
        }
    }
}

/// One saying in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Text {
    pub(crate) vi: String,
    pub(crate) en: String,
}

impl Text {
    pub(crate) fn new(vi: impl Into<String>, en: impl Into<String>) -> Self {
        Self {
            vi: vi.into(),
            en: en.into(),
        }
    }

    /// The same in every language: names, numbers.
    pub(crate) fn same(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            vi: text.clone(),
            en: text,
        }
    }

    /// Goes on with another sentence.
    pub(crate) fn push(&mut self, more: &Self) {
        self.vi.push_str(&more.vi);
        self.en.push_str(&more.en);
    }

    pub(crate) fn get(&self, lang: Lang) -> &str {
        match lang {
            Lang::Vi => &self.vi,
            Lang::En => &self.en,
        }
    }
}

/// A [`Text`] of two format strings that take their values from the variables around them.
macro_rules! text {
    ($vi:literal, $en:literal) => {
        $crate::results::text::Text::new(format!($vi), format!($en))
    };
}
pub(crate) use text;

/// A name within a sentence: written from right to left, it must not turn the words and numbers around it.
pub(crate) fn isolated(name: &str) -> String {
    const FIRST_STRONG_ISOLATE: char = '\u{2068}';
    const POP_DIRECTIONAL_ISOLATE: char = '\u{2069}';
    if name.is_ascii() {
        name.to_owned()
    } else {
        format!("{FIRST_STRONG_ISOLATE}{name}{POP_DIRECTIONAL_ISOLATE}")
    }
}

/// A number with as many digits as mean something: `25 M`, `1,234`, `83.4`, `0.0312`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size >= 999_500.0 {
        return format!("{} M", number(value / 1e6));
    }
    if size >= 999.5 {
        return grouped(value);
    }
    let decimals = match size {
        size if size >= 99.95 || size == 0.0 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        size if size >= 0.0995 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    // A whole number needs no noughts behind the point.
    match text.trim_end_matches('0').strip_suffix('.') {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    if value < 0.0 {
        out.push('-');
    }
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_follows_the_locale() {
        for (locale, lang) in [
            (Some("vi-VN"), Lang::Vi),
            (Some("vi_VN.UTF-8"), Lang::Vi),
            (Some("vi"), Lang::Vi),
            (Some("en-GB"), Lang::En),
            (Some("C"), Lang::En),
            (Some("vip"), Lang::En),
            (None, Lang::En),
        ] {
            assert_eq!(Lang::of_locale(locale), lang, "{locale:?}");
        }
    }

    #[test]
    fn numbers_have_three_digits_or_a_group_more() {
        let shown = [
            0.0,
            0.03123,
            0.5,
            1.0,
            83.42,
            100.0,
            999.6,
            1234.5,
            999_600.0,
            3_738_963.0,
            25_012_345.0,
            -1234.0,
        ]
        .map(number);
        assert_eq!(
            shown,
            [
                "0", "0.0312", "0.500", "1", "83.4", "100", "1,000", "1,234", "1 M", "3.74 M",
                "25 M", "-1,234"
            ]
        );
        assert_eq!(number(f64::NAN), "–");
    }
}
