//! The format of `/metrics` that its reader prefers, by the `Accept` header (RFC 9110 §12.5.1).

/// The two formats that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Prometheus' text format 0.0.4, which every scraper knows.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl MetricsFormat {
    /// The `Content-Type` that says so.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format with the higher quality, text where both have the same; `None` where both are refused (`q=0`).
    pub(super) fn preferred(accept: Option<&str>) -> Option<Self> {
        let accept = accept.unwrap_or_default();
        let text = preference(accept, ["text", "plain", "0.0.4"]);
        let openmetrics = preference(accept, ["application", "openmetrics-text", "1.0.0"]);
        if text.max(openmetrics) == Preference::Refused {
            None
        } else if openmetrics > text {
            Some(Self::OpenMetrics)
        } else {
            Some(Self::Text)
        }
    }
}

/// What an `Accept` header says of a format. The order is that of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Preference {
    Refused,
    /// A header that names neither format does not matter: the reader asked for the figures.
    NotNamed,
    /// With this quality, in thousandths.
    Wanted(u16),
}

/// What the most specific range that covers the format says of it.
fn preference(accept: &str, format: [&str; 3]) -> Preference {
    let ranges = accept
        .split(',')
        .filter_map(|range| covering(range, format));
    match ranges.max_by_key(|(specific, _)| *specific) {
        None => Preference::NotNamed,
        Some((_, 0)) => Preference::Refused,
        Some((_, quality)) => Preference::Wanted(quality),
    }
}

/// How specific the range is and its quality, if it covers the format of this type, subtype and version.
fn covering(range: &str, [kind, subtype, version]: [&str; 3]) -> Option<(u8, u16)> {
    let mut parts = range.split(';').map(str::trim);
    let (range_kind, range_subtype) = parts.next()?.split_once('/')?;
    let mut specific = match (range_kind.trim(), range_subtype.trim()) {
        ("*", "*") => 0,
        (range_kind, "*") if range_kind.eq_ignore_ascii_case(kind) => 1,
        (range_kind, range_subtype)
            if range_kind.eq_ignore_ascii_case(kind)
                && range_subtype.eq_ignore_ascii_case(subtype) =>
        {
            2
        }
        _ => return None,
    };
    let mut quality = 1000;
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("q") {
            quality = thousandths(value)?;
        } else if name.trim().eq_ignore_ascii_case("version") {
            if value != version {
                return None;
            }
            specific += 1;
        }
    }
    Some((specific, quality))
}

/// RFC 9110 §12.4.2: from 0 to 1 with at most three decimals; anything else is no quality, and its range is passed over.
fn thousandths(quality: &str) -> Option<u16> {
    let (whole, decimals) = quality.split_once('.').unwrap_or((quality, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{decimals:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_with_the_higher_quality_is_sent() {
        let (text, openmetrics) = (Some(MetricsFormat::Text), Some(MetricsFormat::OpenMetrics));
        for (accept, expected) in [
            ("", text),
            ("*/*", text),
            ("text/plain", text),
            ("text/*", text),
            ("text/plain;version=0.0.4", text),
            (
                "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8",
                text,
            ),
            ("application/json", text),
            ("nonsense", text),
            ("application/openmetrics-text", openmetrics),
            (
                "APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.001",
                openmetrics,
            ),
            ("application/*", openmetrics),
            ("application/openmetrics-text, text/plain", text),
            (
                "application/openmetrics-text;q=0.5, text/plain;q=0.501",
                text,
            ),
            (
                "text/plain;q=0.5, application/openmetrics-text;q=0.501",
                openmetrics,
            ),
            ("application/openmetrics-text;q=0, text/plain", text),
            ("application/openmetrics-text;q=0.000", text),
            (
                "application/openmetrics-text;version=1.0.0;q=0, application/openmetrics-text",
                text,
            ),
            ("text/plain;q=0", openmetrics),
            ("text/plain;q=0, */*", openmetrics),
            ("*/*;q=0, text/plain;q=0.1", text),
            ("*/*;q=0", None),
            ("text/plain;q=0, application/openmetrics-text;q=0.0", None),
            (
                "application/openmetrics-text;version=2.0.0, text/plain;q=0.1",
                text,
            ),
            ("application/openmetrics-text;q=2, text/plain;q=0.1", text),
            // What Prometheus 2 and 3 send.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                openmetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                openmetrics,
            ),
        ] {
            assert_eq!(MetricsFormat::preferred(Some(accept)), expected, "{accept}");
        }
        assert_eq!(MetricsFormat::preferred(None), text);
    }

    #[test]
    fn a_quality_is_from_0_to_1_with_three_decimals() {
        for (quality, expected) in [
            ("0", Some(0)),
            ("0.", Some(0)),
            ("0.5", Some(500)),
            ("0.05", Some(50)),
            ("0.999", Some(999)),
            ("1", Some(1000)),
            ("1.000", Some(1000)),
        ] {
            assert_eq!(thousandths(quality), expected, "{quality}");
        }
        for quality in ["", "1.001", "2", "-0", "0.0001", ".5", "0,5", "one", "+1"] {
            assert_eq!(thousandths(quality), None, "{quality}");
        }
    }
}
