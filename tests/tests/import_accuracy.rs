//! How near the readings of an import are to those of the full updates, on a series made for this test alone.

use std::collections::BTreeMap;

use gradwatch_spectral::edge::{EdgeParams, EdgeReading, edge_readings};
use gradwatch_tests::{MadeTensor, MadeTraining, Rest, ServerProcess, any_port, gradwatch};
use safetensors::tensor::Dtype;
use serde_json::Value;

const WINDOW: usize = 10;
const CHECKPOINTS: u64 = 36;
const SEEDS: [u64; 4] = [11, 12, 13, 14];
/// Name, pattern, and the tensors it means, by their place.
const GROUPS: [(&str, &str, &[usize]); 3] =
    [("attention", "*.wq.*,*.wk.*", &[1, 2]), ("mlp", "*.mlp.*", &[3, 4]), ("all", "*", &[0, 1, 2, 3, 4, 5])];

fn tensors() -> Vec<MadeTensor> {
    vec![
        MadeTensor::new("embed.weight", Dtype::F32, &[400, 64]),
        MadeTensor::new("blocks.0.wq.weight", Dtype::BF16, &[160, 160]),
        MadeTensor::new("blocks.0.wk.weight", Dtype::BF16, &[160, 160]),
        MadeTensor::new("blocks.0.mlp.up.weight", Dtype::F16, &[400, 160]),
        MadeTensor::new("blocks.0.mlp.down.weight", Dtype::F32, &[160, 400]),
        MadeTensor::new("head.weight", Dtype::F64, &[64, 400]),
    ]
}

/// The edge of the full updates of a group, in float64, from what the files hold.
fn exact(checkpoints: &[Vec<Vec<f64>>], members: &[usize]) -> Vec<EdgeReading> {
    let parameters = |checkpoint: &Vec<Vec<f64>>| -> Vec<f64> {
        members.iter().flat_map(|&tensor| checkpoint[tensor].iter().copied()).collect()
    };
    let theta: Vec<Vec<f64>> = checkpoints.iter().map(parameters).collect();
    let updates: Vec<Vec<f64>> = theta
        .windows(2)
        .map(|pair| pair[1].iter().zip(&pair[0]).map(|(after, before)| after - before).collect())
        .collect();
    let params = EdgeParams { window: WINDOW, parameter_count: theta[0].len() as u64, sketch_dim: None };
    edge_readings(&updates, params, &[]).expect("finite rows of one length")
}

/// The score of each position: (sigma_j / Σ sigma)·(sigma_j / sigma_{j+1}).
fn scores(sigma: &[f64]) -> Vec<f64> {
    let total: f64 = sigma.iter().sum();
    sigma.windows(2).map(|pair| pair[0] / total * pair[0] / pair[1]).collect()
}

/// By how much the best score leads.
fn lead(sigma: &[f64]) -> f64 {
    let mut scores = scores(sigma);
    scores.sort_by(f64::total_cmp);
    scores[scores.len() - 1] / scores[scores.len() - 2]
}

/// The errors of one group's readings.
#[derive(Default)]
struct Errors {
    ratio: Vec<f64>,
    gap: Vec<f64>,
    /// Where the exact edge lies, for windows whose best position leads clearly; and how often the import says otherwise.
    positions_led: BTreeMap<u32, usize>,
    positions_wrong: usize,
}

impl Errors {
    fn compare(&mut self, served: &[Value], exact: &[EdgeReading]) {
        assert_eq!(served.len(), exact.len(), "one reading for each row");
        for (served, exact) in served.iter().zip(exact) {
            let Some(sigma) = &exact.sigma else {
                assert_eq!(served["warming"], true, "{served}");
                continue;
            };
            assert_eq!(served["warming"], false, "every full window has its reading: {served}");
            let of_sketch: Vec<f64> =
                served["sigma"].as_array().expect("a spectrum").iter().filter_map(Value::as_f64).collect();
            let position = exact.position.expect("a full window has a position");
            let k = position as usize - 1;
            self.ratio.push((of_sketch[k] / of_sketch[k + 1] / (sigma[k] / sigma[k + 1]) - 1.0).abs());
            self.gap.push(((of_sketch[k] - of_sketch[k + 1]) - (sigma[k] - sigma[k + 1])).abs() / sigma[k]);
            if lead(sigma) > 1.1 {
                *self.positions_led.entry(position).or_default() += 1;
                self.positions_wrong += usize::from(served["position"] != position);
            }
        }
    }
}

/// The value below which a share of the others lies.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

#[tokio::test(flavor = "multi_thread")]
async fn sketched_checkpoints_give_the_readings_of_the_full_updates() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let server = ServerProcess::start(data_dir.path(), any_port());
    let rest = Rest::new(&server.url());
    let mut errors: Vec<Errors> = GROUPS.iter().map(|_| Errors::default()).collect();
    for seed in SEEDS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (files, checkpoints) = MadeTraining::new(seed, &tensors()).write_all(dir.path(), CHECKPOINTS, 50);
        let (url, seed) = (server.url(), seed.to_string());
        let mut arguments =
            vec!["import", "--server", &url, "--project", "p", "--name", "n", "--json", "--seed", &seed];
        arguments.extend(["--every", "50", "--window", "10", "--dim", "4096"]);
        let groups: Vec<String> = GROUPS.iter().map(|(name, pattern, _)| format!("--group={name}={pattern}")).collect();
        arguments.extend(groups.iter().map(String::as_str));
        arguments.extend(files.iter().map(|file| file.to_str().expect("text")));
        let summary = gradwatch(dir.path(), &[], &arguments).with(0).json();
        let run = summary["run_id"].as_str().expect("an id");
        for ((name, _, members), errors) in GROUPS.iter().zip(&mut errors) {
            let served = rest.all(&format!("/api/v1/runs/{run}/readings/edge?limit=1000&group={name}")).await;
            errors.compare(&served, &exact(&checkpoints, members));
        }
    }
    println!(
        "group      readings  ratio: median  95th   gap: median  95th   windows whose position leads by > 10 %: position: windows, wrong"
    );
    for ((name, ..), errors) in GROUPS.iter().zip(&errors) {
        let percent = |values: &[f64], share| 100.0 * quantile(values, share);
        println!(
            "{name:10} {:8}  {:11.2} % {:5.2} %  {:9.2} % {:5.2} %  {:?}, {}",
            errors.ratio.len(),
            percent(&errors.ratio, 0.5),
            percent(&errors.ratio, 0.95),
            percent(&errors.gap, 0.5),
            percent(&errors.gap, 0.95),
            errors.positions_led,
            errors.positions_wrong,
        );
    }
    for ((name, ..), errors) in GROUPS.iter().zip(&errors) {
        let full = CHECKPOINTS as usize - 1 - (WINDOW - 1);
        assert_eq!(errors.ratio.len(), SEEDS.len() * full, "{name}");
        for (what, values, median, rare) in [("ratio", &errors.ratio, 0.03, 0.10), ("gap", &errors.gap, 0.02, 0.05)] {
            assert!(quantile(values, 0.5) <= median, "{name}: median error of {what}");
            assert!(quantile(values, 0.95) <= rare, "{name}: 95th percentile of the error of {what}");
        }
        assert!(errors.positions_led.len() > 1, "{name}: the edge never moves");
        assert_eq!(errors.positions_wrong, 0, "{name}: positions that lead clearly");
    }
}
