//! Which rows of a run: steps of segments, and one stream.

use std::str::FromStr;

use gradwatch_store::{
    AnalysisSpec, Kind, LIVE_ANALYSIS, RunId, Segment, Store, StreamKey,
    lineage::{self, SegmentRange},
};
use utoipa::IntoParams;

use super::{
    cursor::StepPosition,
    params::{FromParams, Params},
    text,
};
use crate::error::Error;

/// Which segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentChoice {
    /// The live line through all of them.
    Live,
    /// All of them whole, also what was rewound.
    All,
    /// This one whole.
    One(u32),
}

impl FromStr for SegmentChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "live" => Ok(Self::Live),
            "all" => Ok(Self::All),
            number => number.parse().map(Self::One).map_err(|_| "must be live, all, or a segment's number"),
        }
    }
}

/// Which steps.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Stretch {
    /// `live` (the line that no later attempt rewound), `all`, or a segment's number.
    #[param(value_type = Option<String>, default = "live")]
    pub(crate) segment: SegmentChoice,
    /// First step wanted.
    #[param(value_type = Option<u64>, default = 0)]
    pub(crate) from_step: u64,
    /// Last step wanted.
    #[param(value_type = Option<u64>)]
    pub(crate) to_step: u64,
}

impl FromParams for Stretch {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let segment = params.parsed("segment")?.unwrap_or(SegmentChoice::Live);
        let from_step = params.parsed("from_step")?.unwrap_or(0);
        let to_step = params.parsed("to_step")?.unwrap_or(u64::MAX);
        if to_step < from_step {
            return Err(Error::invalid("to_step", format!("{to_step} is below from_step ({from_step})")));
        }
        Ok(Self { segment, from_step, to_step })
    }
}

impl Stretch {
    /// The ranges in the order in which rows are given.
    pub(crate) fn ranges(&self, segments: &[Segment]) -> Result<Vec<SegmentRange>, Error> {
        match self.segment {
            SegmentChoice::Live => Ok(lineage::live(segments, self.from_step, self.to_step)),
            SegmentChoice::All => Ok(lineage::all(segments, self.from_step, self.to_step)),
            SegmentChoice::One(number) => {
                if segments.iter().any(|segment| segment.segment == number) {
                    Ok(vec![SegmentRange { segment: number, from_step: self.from_step, to_step: self.to_step }])
                } else {
                    Err(Error::invalid("segment", format!("the run has no segment {number}")))
                }
            }
        }
    }

    /// Whether steps and segments are left open.
    pub(crate) fn is_everything(&self) -> bool {
        self.segment == SegmentChoice::All && self.from_step == 0 && self.to_step == u64::MAX
    }
}

/// What is left of `ranges` behind a row of one of them; `None` when its segment is not among them.
pub(crate) fn rest(ranges: &[SegmentRange], position: StepPosition) -> Option<Vec<SegmentRange>> {
    let index = ranges.iter().position(|range| range.segment == position.segment)?;
    let mut rest = ranges[index..].to_vec();
    rest[0].from_step = rest[0].from_step.max(position.step.saturating_add(1));
    rest.retain(|range| range.from_step <= range.to_step);
    Some(rest)
}

/// What is left of `ranges` behind the last row of the page before.
pub(crate) fn behind(ranges: &[SegmentRange], segments: &[Segment], position: StepPosition) -> Vec<SegmentRange> {
    if let Some(rest) = rest(ranges, position) {
        return rest;
    }
    // The segment left the live line since: go on with the attempts that stand behind it.
    let order = lineage::order(segments);
    let later: Vec<u32> = order.into_iter().skip_while(|&number| number != position.segment).collect();
    ranges.iter().filter(|range| later.contains(&range.segment)).copied().collect()
}

/// Which stream.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamChoice {
    /// A group; by default the first that the newest attempt declares.
    #[param(value_type = Option<String>)]
    pub(crate) group: Option<String>,
    /// `update` or `gradient`.
    #[param(value_type = Option<String>, default = "update")]
    pub(crate) kind: Option<Kind>,
    /// A window length; by default the first that the newest attempt declares, or that the analysis has.
    #[param(value_type = Option<u64>)]
    pub(crate) window: Option<usize>,
    /// `live`, or the name of a re-analysis.
    #[param(value_type = Option<String>, default = "live")]
    pub(crate) analysis: String,
}

impl FromParams for StreamChoice {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        Ok(Self {
            group: params.one("group")?,
            kind: params.parsed("kind")?,
            window: params.parsed("window")?,
            analysis: params.one("analysis")?.unwrap_or_else(|| LIVE_ANALYSIS.to_owned()),
        })
    }
}

/// Claims `analysis` where there is no other than the live one.
pub(crate) fn live_analysis(params: &mut Params) -> Result<String, Error> {
    let analysis = params.one("analysis")?.unwrap_or_else(|| LIVE_ANALYSIS.to_owned());
    if analysis == LIVE_ANALYSIS {
        Ok(analysis)
    } else {
        Err(Error::invalid("analysis", format!("only {LIVE_ANALYSIS}: re-analyses record no events")))
    }
}

impl StreamChoice {
    /// The first parameter given that only streams have.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [("group", self.group.is_some()), ("kind", self.kind.is_some()), ("window", self.window.is_some())];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }

    /// The stream meant, among those that the run's attempts declare, or those that a re-analysis has.
    pub(crate) async fn resolve(
        &self,
        store: &dyn Store,
        run_id: RunId,
        segments: &[Segment],
    ) -> Result<StreamKey, Error> {
        if self.analysis == LIVE_ANALYSIS {
            return self.declared(segments, None);
        }
        let found = store.analysis(run_id, &self.analysis).await?;
        let Some(analysis) = found else {
            let analyses = store.analyses(run_id).await?;
            let names: Vec<&str> = analyses.iter().map(|analysis| analysis.name.as_str()).collect();
            let near = text::did_you_mean(&self.analysis, &names);
            let message = format!("the run has no analysis {:?}{near}", self.analysis);
            return Err(Error::invalid("analysis", message));
        };
        let spec = analysis.spec;
        if let (Some(only), Some(kind)) = (spec.kind, self.kind)
            && only != kind
        {
            return Err(Error::invalid("kind", format!("the analysis reads {}s only", only.as_str())));
        }
        let group = self.group.clone().or_else(|| spec.group.clone());
        let choice = Self { group, kind: self.kind.or(spec.kind), ..self.clone() };
        choice.declared(segments, Some(&spec))
    }

    /// As [`resolve`](Self::resolve); `of` is what the re-analysis has.
    fn declared(&self, segments: &[Segment], of: Option<&AnalysisSpec>) -> Result<StreamKey, Error> {
        let newest = newest(segments).ok_or_else(|| Error::invalid("run_id", "the run has no attempt yet"))?;
        let specs = || segments.iter().map(|segment| &segment.spec);
        let group = match &self.group {
            Some(group) => {
                let mut names: Vec<&str> =
                    specs().flat_map(|spec| &spec.groups).map(|group| group.name.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                if !names.contains(&group.as_str()) {
                    let near = text::did_you_mean(group, &names);
                    return Err(Error::invalid("group", format!("the run declares no group {group:?}{near}")));
                }
                group.clone()
            }
            None => {
                let first = newest.spec.groups.first().map(|group| group.name.clone());
                first.ok_or_else(|| Error::invalid("group", "the run declares no group"))?
            }
        };
        let kind = self.kind.unwrap_or(Kind::Update);
        if !specs().any(|spec| spec.kinds.contains(&kind)) {
            return Err(Error::invalid("kind", format!("the run does not send {}s", kind.as_str())));
        }
        if let Some(only) = of.and_then(|of| of.group.as_ref()).filter(|only| **only != group) {
            return Err(Error::invalid("group", format!("the analysis reads the group {only:?} only")));
        }
        if let Some(of) = of {
            let window = match self.window {
                Some(window) if !of.windows.contains(&window) => {
                    return Err(Error::invalid("window", format!("the analysis has no window of {window} rows")));
                }
                // It has one or more.
                window => window.or_else(|| of.windows.first().copied()).unwrap_or_default(),
            };
            return Ok(StreamKey { group, kind, window });
        }
        let window = match self.window {
            Some(window) if specs().any(|spec| spec.window_lengths.contains(&window)) => window,
            Some(window) => {
                return Err(Error::invalid("window", format!("the run declares no window of {window} rows")));
            }
            None => {
                let first = newest.spec.window_lengths.first().copied();
                first.ok_or_else(|| Error::invalid("window", "the run declares no window"))?
            }
        };
        Ok(StreamKey { group, kind, window })
    }
}

/// The attempt at the end of the line.
pub(crate) fn newest(segments: &[Segment]) -> Option<&Segment> {
    let number = lineage::order(segments).pop()?;
    segments.iter().find(|segment| segment.segment == number)
}
