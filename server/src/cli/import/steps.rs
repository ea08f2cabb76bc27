//! Which training step a checkpoint file is of.

use std::path::{Path, PathBuf};

use super::error::ImportError;

/// Steps stay exact in a float64, which is what charts and JSON hold them in.
const MAX_STEP: u64 = (1 << 53) - 1;

/// A file, and the step whose parameters it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) step: u64,
    pub(super) path: PathBuf,
}

/// The files in the order of their steps, which are given or read off the names.
///
/// # Errors
/// [`ImportError::Usage`] names the files whose steps are missing, doubtful or the same.
pub(super) fn checkpoints(files: &[PathBuf], steps: &[u64]) -> Result<Vec<Checkpoint>, ImportError> {
    if !steps.is_empty() && steps.len() != files.len() {
        let problem = format!("--steps: {} steps for {} files", steps.len(), files.len());
        return Err(ImportError::Usage(problem));
    }
    let mut checkpoints = Vec::with_capacity(files.len());
    for (index, path) in files.iter().enumerate() {
        let step = match steps.get(index) {
            Some(&step) => step,
            None => step_of(path).map_err(|problem| {
                ImportError::Usage(format!("{}: {problem}; give the steps with --steps", path.display()))
            })?,
        };
        if step > MAX_STEP {
            return Err(ImportError::Usage(format!("{}: step {step} is not below 2^53", path.display())));
        }
        checkpoints.push(Checkpoint { step, path: path.clone() });
    }
    checkpoints.sort_by_key(|checkpoint| checkpoint.step);
    match checkpoints.windows(2).find(|pair| pair[0].step == pair[1].step) {
        Some(pair) => Err(ImportError::Usage(format!(
            "{} and {} are both of step {}; give the steps with --steps",
            pair[0].path.display(),
            pair[1].path.display(),
            pair[0].step
        ))),
        None => Ok(checkpoints),
    }
}

/// The last number of the file's name without its extension.
fn step_of(path: &Path) -> Result<u64, String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).ok_or("the name is not text")?;
    let end = stem.rfind(|c: char| c.is_ascii_digit()).ok_or("the name holds no number")? + 1;
    let start = stem[..end].trim_end_matches(|c: char| c.is_ascii_digit()).len();
    // 1.5, 1e5 and 20k would be read as 5, 5 and 20.
    let mut before = stem[..start].chars().rev();
    let is_fraction =
        matches!(before.next(), Some('.' | 'e' | 'E')) && before.next().is_some_and(|c| c.is_ascii_digit());
    let mut after = stem[end..].chars();
    let is_multiple = matches!(after.next(), Some('k' | 'K' | 'm' | 'M' | 'b' | 'B'))
        && after.next().is_none_or(|c| !c.is_ascii_alphabetic());
    if is_fraction || is_multiple {
        return Err(format!("it is not clear which step {stem:?} means"));
    }
    stem[start..end].parse().map_err(|_| format!("{:?} is too large for a step", &stem[start..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(names: &[&str]) -> Result<Vec<u64>, String> {
        let files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        let checkpoints = checkpoints(&files, &[]).map_err(|error| error.to_string())?;
        Ok(checkpoints.into_iter().map(|checkpoint| checkpoint.step).collect())
    }

    #[test]
    fn the_last_number_of_the_name_counts_and_orders() {
        let names = ["a/run7-step-100.safetensors", "a/run7-step-20.safetensors", "9/ckpt_000003.safetensors"];
        assert_eq!(steps(&names), Ok(vec![3, 20, 100]));
        assert_eq!(steps(&["5.safetensors", "schritt–12ü.safetensors", "x0final.safetensors"]), Ok(vec![0, 5, 12]));
    }

    #[test]
    fn doubtful_names_are_errors_that_name_the_files() {
        for name in
            ["last", "epoch-1.5", "step-1e5", "step-20k", "step-3M-ema", "99999999999999999999", "9007199254740992"]
        {
            let error = steps(&["step-1.safetensors", &format!("{name}.safetensors")]).unwrap_err();
            assert!(error.starts_with(&format!("{name}.safetensors: ")), "{error}");
        }
        let error = steps(&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]).unwrap_err();
        assert!(error.starts_with("model-00001-of-00002.safetensors and model-00002-of-00002.safetensors"), "{error}");
    }

    #[test]
    fn given_steps_replace_the_names() {
        let files: Vec<PathBuf> = ["b-1.safetensors", "a-1.safetensors"].map(PathBuf::from).into();
        let sorted = checkpoints(&files, &[40, 20]).unwrap();
        assert_eq!(sorted[0], Checkpoint { step: 20, path: files[1].clone() });
        assert!(checkpoints(&files, &[1]).unwrap_err().to_string().contains("1 steps for 2 files"));
        assert!(checkpoints(&files, &[7, 7]).unwrap_err().to_string().contains("both of step 7"));
    }
}
