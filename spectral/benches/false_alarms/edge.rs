//! One run of updates through window, edge and followers.

use gradwatch_spectral::detectors::{Detector, DetectorConfig, Regime};
use gradwatch_spectral::edge::EdgeStream;
use gradwatch_spectral::followers::Followers;

use crate::cases::Change;
use crate::followed::{Followed, factor};
use crate::noise::{Family, Noise};
use crate::support::{Random, add};

/// Window lengths, rows.
pub(crate) const WINDOWS: [usize; 2] = [10, 20];

/// What happens in a run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) family: Family,
    pub(crate) change: Change,
    /// Updates, and the first one that the change touches.
    pub(crate) updates: usize,
    pub(crate) planted_at: usize,
    /// Entries of a row.
    pub(crate) dim: usize,
}

/// Follows one run by every set of rules; for each of them one `Followed` a window length. The first regime out of
/// `warming`, which every run enters, is no alarm.
pub(crate) fn run(plan: Plan, rules: &[DetectorConfig], seed: u64) -> Vec<Vec<Followed>> {
    let Plan { family, change, updates, planted_at, dim } = plan;
    let mut random = Random::new(seed);
    let drift = random.direction(dim);
    let first = random.direction(dim);
    let mut second = random.direction(dim);
    let overlap = first.iter().zip(&second).map(|(a, b)| a * b).sum::<f64>();
    add(&mut second, -overlap, &first);
    let directions = [first, second];

    let mut stream = EdgeStream::new(dim, &WINDOWS, dim as u64, false).expect("a valid declaration");
    let mut followers: Vec<_> = rules.iter().map(|rules| WINDOWS.map(|window| Followers::new(window, rules))).collect();
    let mut followed = vec![WINDOWS.map(|_| Followed::default()).to_vec(); rules.len()];
    let mut noise = Noise::new(family, dim, updates, &mut random);
    let mut ratios = WINDOWS.map(|_| Vec::with_capacity(updates));
    let mut dks = ratios.clone();
    // Rows of noise have a root-mean-square norm of 1.
    let unit = (dim as f64).sqrt().recip();
    for update in 0..updates {
        let mut row = noise.next(&mut random);
        row.iter_mut().for_each(|x| *x *= unit);
        add(&mut row, family.drift, &drift);
        change.plant(update, planted_at, &mut row, &directions);
        let row: Vec<f32> = row.iter().map(|x| *x as f32).collect();
        let readings = stream.push(&row, None).expect("a finite row");
        for (i, reading) in readings.iter().enumerate() {
            ratios[i].push(reading.ratio_1);
            dks[i].push(reading.dk);
            for (followers, followed) in followers.iter_mut().zip(&mut followed) {
                let detections = followers[i].follow(update as u64, &mut reading.clone()).into_iter();
                let alarms = detections.filter(|detection| detection.from != Some(Regime::Warming));
                followed[i].alarms.extend(alarms.map(|detection| (detection.detector, update)));
                if !reading.is_warming() {
                    followed[i].readings += 1;
                    followed[i].in_regime[followers[i].regime() as usize] += 1;
                }
            }
        }
    }
    if !matches!(change, Change::Nothing) {
        for followed in &mut followed {
            for (i, (followed, window)) in followed.iter_mut().zip(WINDOWS).enumerate() {
                let (before, after) =
                    (planted_at - 4 * window..planted_at, planted_at + window..planted_at + 2 * window);
                followed.ratio_factor = factor(&ratios[i], before.clone(), after.clone());
                followed.dk_factor = factor(&dks[i], before, after);
            }
        }
    }
    followed
}

/// The detectors over updates.
pub(crate) const DETECTORS: [Detector; 6] = [
    Detector::EdgeRegime,
    Detector::GapOpening,
    Detector::GapCollapse,
    Detector::PositionChange,
    Detector::Rotation,
    Detector::UpdateSpike,
];
