//! What is kept back for a while.

use globset::{GlobBuilder, GlobMatcher};
use gradwatch_store::Silence;
use serde::{Deserialize, Serialize};

use crate::alerts::notice::Notice;

/// The most matchers of a silence.
const MAX_MATCHERS: usize = 32;
/// The longest name or value.
const MAX_BYTES: usize = 1_024;

/// A condition on one label of an alert.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Matcher {
    /// The label: `rule`, `project`, `run` (id or name), `group`, `severity`, or one of the alert's own.
    pub name: String,
    /// A glob. A label that an alert does not have is empty.
    pub value: String,
    /// Whether it must not match.
    #[serde(default)]
    pub negate: bool,
}

/// Why matchers cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct MatcherError {
    /// Which, such as `matchers[1].value`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Refuses matchers that could not be used, or that would silence everything.
pub(crate) fn check_matchers(matchers: &[Matcher]) -> Result<(), MatcherError> {
    let wrong = |place: String, problem: &str| {
        Err(MatcherError { field: format!("matchers{place}"), problem: problem.to_owned() })
    };
    if matchers.is_empty() {
        return wrong(String::new(), "must hold at least one: none would silence everything");
    }
    if matchers.len() > MAX_MATCHERS {
        return wrong(String::new(), &format!("must hold at most {MAX_MATCHERS}"));
    }
    for (index, matcher) in matchers.iter().enumerate() {
        if matcher.name.is_empty() || matcher.name.len() > MAX_BYTES {
            return wrong(format!("[{index}].name"), &format!("must have 1 to {MAX_BYTES} bytes"));
        }
        if matcher.value.len() > MAX_BYTES {
            return wrong(format!("[{index}].value"), &format!("must have at most {MAX_BYTES} bytes"));
        }
        if let Err(error) = glob(&matcher.value) {
            return wrong(format!("[{index}].value"), &error.kind().to_string());
        }
    }
    Ok(())
}

fn glob(text: &str) -> Result<GlobMatcher, globset::Error> {
    // Labels are no paths: a star passes a slash.
    Ok(GlobBuilder::new(text).literal_separator(false).build()?.compile_matcher())
}

/// Silences at a moment.
#[derive(Debug, Default)]
pub(super) struct Silences {
    active: Vec<Active>,
    /// When the next of them begins or ends.
    pub(super) next_change_us: Option<i64>,
}

#[derive(Debug)]
struct Active {
    project: Option<String>,
    matchers: Vec<(Matcher, GlobMatcher)>,
}

impl Silences {
    /// Those of `stored` that hold at `now_us`.
    pub(super) fn at(stored: &[Silence], now_us: i64) -> Self {
        let ahead = stored.iter().flat_map(|silence| [silence.starts_at_us, silence.ends_at_us]);
        let next_change_us = ahead.filter(|at_us| *at_us > now_us).min();
        let holds = |silence: &&Silence| silence.starts_at_us <= now_us && now_us < silence.ends_at_us;
        Self { active: stored.iter().filter(holds).filter_map(Active::new).collect(), next_change_us }
    }

    /// Whether one of them keeps this back.
    pub(super) fn hold(&self, notice: &Notice) -> bool {
        self.active.iter().any(|silence| silence.holds(notice))
    }
}

impl Active {
    /// `None` for one that is none: it was checked when it was made, and one that cannot be read silences nothing.
    fn new(silence: &Silence) -> Option<Self> {
        let matchers: Vec<Matcher> = serde_json::from_value(silence.matchers.clone()).ok()?;
        let compiled: Result<Vec<_>, globset::Error> =
            matchers.into_iter().map(|matcher| glob(&matcher.value).map(|glob| (matcher, glob))).collect();
        let matchers = compiled.ok().filter(|matchers| !matchers.is_empty());
        if matchers.is_none() {
            tracing::error!(silence_id = %silence.silence_id, "a silence cannot be read; it silences nothing");
        }
        Some(Self { project: silence.project.clone(), matchers: matchers? })
    }

    fn holds(&self, notice: &Notice) -> bool {
        self.project.as_ref().is_none_or(|project| *project == notice.project)
            && self.matchers.iter().all(|(matcher, glob)| is_met(&matcher.name, glob, notice) != matcher.negate)
    }
}

fn is_met(name: &str, glob: &GlobMatcher, notice: &Notice) -> bool {
    match name {
        "rule" => glob.is_match(&notice.rule),
        "project" => glob.is_match(&notice.project),
        "run" => glob.is_match(notice.run_id.to_string()) || glob.is_match(&notice.run_name),
        "group" => glob.is_match(&notice.group),
        "severity" => glob.is_match(&notice.severity),
        own => glob.is_match(notice.labels.get(own).map_or("", String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use gradwatch_store::RunId;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::alerts::delivery::sample;

    fn silence(project: Option<&str>, matchers: serde_json::Value, starts_at_us: i64, ends_at_us: i64) -> Silence {
        Silence {
            silence_id: Uuid::nil(),
            project: project.map(str::to_owned),
            matchers,
            starts_at_us,
            ends_at_us,
            comment: String::new(),
            created_by: String::new(),
            created_at_us: 0,
        }
    }

    fn holds(project: Option<&str>, matchers: serde_json::Value, notice: &Notice) -> bool {
        Silences::at(&[silence(project, matchers, 0, 10)], 5).hold(notice)
    }

    #[test]
    fn all_matchers_must_match() {
        let mut notice = sample::notice("gap-collapse", 1);
        (notice.project, notice.group, notice.severity) = ("vision".into(), "blocks.3/mlp".into(), "critical".into());
        (notice.run_name, notice.run_id) = ("lr 3e-4".into(), RunId(Uuid::from_u128(7)));
        notice.labels.insert("team".into(), "red".into());
        let of = |name: &str, value: &str, negate: bool| json!({"name": name, "value": value, "negate": negate});
        for (matcher, is_held) in [
            (of("rule", "gap-collapse", false), true),
            (of("rule", "gap*", false), true),
            (of("rule", "gap", false), false),
            (of("rule", "gap*", true), false),
            (of("project", "vis?on", false), true),
            (of("run", "00000000-0000-0000-0000-000000000007", false), true),
            (of("run", "lr *", false), true),
            (of("run", "lr *", true), false),
            (of("run", "other", true), true),
            (of("group", "blocks.*", false), true),
            (of("group", "{attention,blocks.3/mlp}", false), true),
            (of("severity", "warning", true), true),
            (of("team", "red", false), true),
            (of("team", "RED", false), false),
            (of("owner", "", false), true),
            (of("owner", "?*", false), false),
            (of("owner", "?*", true), true),
        ] {
            assert_eq!(holds(None, json!([matcher]), &notice), is_held, "{matcher}");
            let both = json!([matcher, of("rule", "gap*", false)]);
            assert_eq!(holds(None, both, &notice), is_held, "{matcher} and another that holds");
            let other = json!([of("rule", "spike", false), matcher]);
            assert!(!holds(None, other, &notice), "{matcher} and another that does not hold");
        }
        let all = json!([of("rule", "*", false)]);
        assert!(holds(Some("vision"), all.clone(), &notice));
        assert!(!holds(Some("text"), all, &notice));
    }

    #[test]
    fn a_silence_holds_from_its_start_until_its_end() {
        let notice = sample::notice("r", 1);
        let stored = [silence(None, json!([{"name": "rule", "value": "*"}]), 10, 20)];
        for (now_us, is_held, next_change_us) in
            [(9, false, Some(10)), (10, true, Some(20)), (19, true, Some(20)), (20, false, None)]
        {
            let silences = Silences::at(&stored, now_us);
            assert_eq!((silences.hold(&notice), silences.next_change_us), (is_held, next_change_us), "{now_us}");
        }
    }

    #[test]
    fn what_cannot_be_read_silences_nothing() {
        let notice = sample::notice("r", 1);
        for matchers in [json!([]), json!({}), json!([{"name": "rule", "value": "["}]), json!([{"nom": "rule"}])] {
            assert!(!holds(None, matchers.clone(), &notice), "{matchers}");
        }
    }

    #[test]
    fn matchers_that_cannot_be_meant_are_refused_with_their_place() {
        let matcher = |name: &str, value: &str| Matcher { name: name.into(), value: value.into(), negate: false };
        check_matchers(&[matcher("rule", "gap*")]).unwrap();
        for (matchers, field) in [
            (Vec::new(), "matchers"),
            (vec![matcher("a", "b"); 33], "matchers"),
            (vec![matcher("", "b")], "matchers[0].name"),
            (vec![matcher("a", "b"), matcher("a", "[z")], "matchers[1].value"),
            (vec![matcher("a", &"b".repeat(2_000))], "matchers[0].value"),
        ] {
            assert_eq!(check_matchers(&matchers).unwrap_err().field, field);
        }
    }
}
