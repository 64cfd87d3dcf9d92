//! The two formats that Prometheus reads, checked line by line: what their specifications forbid fails.

use std::collections::BTreeSet;

/// A family of samples, while its lines are read.
#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    samples: usize,
    /// The last bucket's bound and count.
    bucket: Option<(f64, f64)>,
}

/// Checks Prometheus' text format 0.0.4; tells how many samples there are.
pub(crate) fn text(exposition: &str) -> usize {
    check(exposition, |family, name| match family.kind {
        "counter" | "gauge" => name == family.name,
        "histogram" => is_of_histogram(family.name, name),
        other => panic!("a type of {other:?}"),
    })
}

/// Checks `OpenMetrics` 1.0.0; tells how many samples there are.
pub(crate) fn openmetrics(exposition: &str) -> usize {
    let body = exposition.strip_suffix("# EOF\n");
    let body = body.unwrap_or_else(|| panic!("no end: {exposition}"));
    check(body, |family, name| match family.kind {
        "counter" => name.strip_suffix("_total") == Some(family.name),
        "gauge" => name == family.name,
        "histogram" => is_of_histogram(family.name, name),
        other => panic!("a type of {other:?}"),
    })
}

fn is_of_histogram(family: &str, name: &str) -> bool {
    ["_bucket", "_sum", "_count"]
        .iter()
        .any(|suffix| name.strip_suffix(suffix) == Some(family))
}

fn check(exposition: &str, belongs: impl Fn(&Family, &str) -> bool) -> usize {
    assert!(exposition.ends_with('\n') && !exposition.contains('\r'));
    let mut family = Family::default();
    let mut seen = BTreeSet::new();
    let mut series = BTreeSet::new();
    for line in exposition.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_else(|| panic!("{line:?}"));
            let (keyword, name, rest) = (word(), word(), word());
            match keyword {
                "HELP" => {
                    assert!(is_name(name) && !rest.is_empty(), "{line:?}");
                    assert!(seen.insert(name), "{name} comes twice, or in two parts");
                    family = Family {
                        name,
                        ..Family::default()
                    };
                }
                "TYPE" => {
                    assert_eq!((family.name, family.kind, family.samples), (name, "", 0));
                    family.kind = rest;
                }
                "UNIT" => assert!(name == family.name && name.ends_with(&format!("_{rest}"))),
                other => panic!("{other} in {line:?}"),
            }
        } else {
            let (name, sample) = line
                .split_once(['{', ' '])
                .unwrap_or_else(|| panic!("{line:?}"));
            assert!(
                belongs(&family, name),
                "{name} is not of {} ({})",
                family.name,
                family.kind
            );
            family.samples += 1;
            check_sample(&mut family, line, name, sample);
            let (unique, _) = line.rsplit_once(' ').expect("a figure");
            assert!(series.insert(unique), "{unique} comes twice");
        }
    }
    series.len()
}

/// Figures are numbers; the buckets of a histogram rise, and the last holds all.
fn check_sample(family: &mut Family, line: &str, name: &str, sample: &str) {
    let figure: f64 = line
        .rsplit_once(' ')
        .and_then(|(_, figure)| figure.parse().ok())
        .unwrap_or_else(|| panic!("no figure in {line:?}"));
    if name.ends_with("_bucket") && family.kind == "histogram" {
        let bound = sample
            .strip_prefix("le=\"")
            .and_then(|label| label.split_once('"'))
            .unwrap_or_else(|| panic!("no bound in {line:?}"))
            .0;
        let bound = bound.replace("+Inf", "inf").parse().expect("a bound");
        if let Some((lower, fewer)) = family.bucket {
            assert!(lower < bound && fewer <= figure, "{line:?} does not rise");
        }
        family.bucket = Some((bound, figure));
    } else if name.ends_with("_count") && family.kind == "histogram" {
        if let Some((bound, all)) = family.bucket {
            assert!(
                bound.is_infinite() && (all - figure).abs() < 0.5,
                "{line:?}"
            );
        }
    } else {
        assert!(family.kind != "counter" || figure >= 0.0, "{line:?}");
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}
